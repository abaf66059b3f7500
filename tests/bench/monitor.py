"""What a monitor tells of a world whose truth is known, with kills and a receiver that fails; of real dates; and what a second run costs.

    python tests/bench/monitor.py simulation --work /tmp/simulation --store postgis --json
    python tests/bench/monitor.py calm --seed 1 --work /tmp/calm
    python tests/bench/monitor.py naip --data ../shared/data --work /tmp/naip
    python tests/bench/monitor.py idle --work /tmp/idle

In the simulation a monitor learns a place from three years of scenes, and then lives through 90 days disturbed: a pass a day, a third of
them killed, a receiver that fails one time in three, scenes that come late, twice, reprocessed, faulty and corrupt. It must end like one
that is given the same scenes in one pass, which alone is the trial ``calm``.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import random
import shutil
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from shapely.geometry import shape

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from happenings import BEGIN
from naip import alerts_of, dates_of
from postgres import postgres_server
from receivers import receiver
from season import make_series, moment_of
from station import Station

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from happenings import Event
    from receivers import Receiver
    from season import Series
    from station import Heard

KILLED = 1 / 3
FAILING = 1 / 3
AFTER_DAYS = 20
"""After the last day passes go on until all is delivered, but no longer."""


def main() -> None:
    """Run a trial."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("trial", choices=sorted(TRIALS))
    parser.add_argument("--work", type=Path, required=True, help="a folder for everything; what is in it is removed")
    parser.add_argument("--data", type=Path, help="folder of the NAIP dates, or above it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--side", type=int, default=320, help="of a scene, in pixels of 10 m")
    parser.add_argument("--history-every", type=int, default=15, help="days between the dates of the years before")
    parser.add_argument("--fdr", type=float, default=0.3, help="of the NAIP dates")
    parser.add_argument("--store", choices=["sqlite", "postgis"], default="sqlite", help="postgis: both, one after the other")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    shutil.rmtree(given.work, ignore_errors=True)
    given.work.mkdir(parents=True)
    figures = TRIALS[given.trial](given)
    print(json.dumps(figures, indent=1) if given.json else "\n".join(f"| {name} | {value} |" for name, value in figures.items()))


def simulation(given: argparse.Namespace) -> dict[str, Any]:
    """Ninety days and all that happens in them."""
    series = make_series(given.work / "series", given.seed, given.days, side=given.side, every=given.history_every)
    figures: dict[str, Any] = {"scenes of the years before": len(series.history)}
    states = {}
    with ExitStack() as stack:
        told = stack.enter_context(receiver())
        learned = at(given.work / "learned", told)
        learn(learned, series)
        stations = {"sqlite": at(shutil.copytree(learned.folder, given.work / "sqlite"), told)}
        if given.store == "postgis":
            stations["postgis"] = at(given.work / "postgis", told, without_password(stack.enter_context(postgres_server()).new_url()))
            learn(stations["postgis"], series)
        for name, station in stations.items():
            live(station, series, random.Random(given.seed), given.days)
            states[name], figures[name] = station.state(), figures_of(station, series, given.days)
        quiet = at(shutil.copytree(learned.folder, given.work / "undisturbed"), told)
        states["undisturbed"] = undisturbed(quiet, series, given.days)
    for name, state in states.items():
        (given.work / f"{name}.json").write_text(json.dumps(state, indent=1))
    return {**figures, "ends like the undisturbed one": {name: states[name] == states["undisturbed"] for name in stations}}


def without_password(url: str) -> str:
    """A store's URL as settings may hold it; the password goes to the environment, where the command looks for it."""
    parts = urlsplit(url)
    os.environ["PGPASSWORD"] = unquote(parts.password or "")
    return urlunsplit(parts._replace(netloc=f"{parts.username}@{parts.hostname}:{parts.port}"))


def at(folder: Path, told: Receiver, store: str | None = None) -> Station:
    """A monitor in a folder, with an SQLite file there if no store is named."""
    return Station(folder=folder, store=store or str(folder / "state.sqlite"), told=told)


def learn(station: Station, series: Series) -> None:
    """The years before, in one pass."""
    station.set_up(**settings(series))
    series.deliver(series.history, station.inbox)
    _day(station, -1, is_new=True)


def settings(series: Series) -> dict[str, Any]:
    """Of a monitor of the series: its model is fitted on the years before, which are memory and never news."""
    return {"fit_on_first": len(series.history), "quality": {"suffix": "_qa.tif", "reject": [1]}, "rules": {"cell_px": 8}}


def live(station: Station, series: Series, chance: random.Random, days: int) -> None:
    """A pass a day, a third of them killed, and passes until all is delivered."""
    station.fails(FAILING, chance)
    station.set_up(**settings(series))
    is_new = False
    for day in range(days):
        names = series.arrivals.get(day, [])
        series.deliver(names, station.inbox)
        is_new = is_new or bool(names)
        killed = chance.uniform(0.05, 1.0) if chance.random() < KILLED else None
        is_new = _day(station, day, is_new=is_new, kill_after=killed) is None and is_new
    for day in range(days, days + AFTER_DAYS):
        if day == days or station.waiting():
            _day(station, day, is_new=is_new)


def undisturbed(station: Station, series: Series, days: int) -> dict[str, Any]:
    """How it ends if all that ever arrives is there at once."""
    station.set_up(**settings(series))
    for names in series.arrivals.values():
        series.deliver(names, station.inbox)
    _day(station, days, is_new=True)
    return station.state()


def _day(station: Station, day: int, *, is_new: bool, kill_after: float | None = None) -> str | None:
    said = station.run(moment_of(day) + dt.timedelta(hours=4), is_new=is_new, kill_after=kill_after)
    station.requests[day] = len(station.told.posted)
    print(f"day {day}: {'killed' if said is None else ' | '.join(said.splitlines()[-4:])}", file=sys.stderr, flush=True)
    return said


def calm(given: argparse.Namespace) -> dict[str, Any]:
    """What is told of the same world if all arrives at once and nothing fails: the judgement alone, in minutes."""
    series = make_series(given.work / "series", given.seed, given.days, side=given.side, every=given.history_every)
    with receiver() as told:
        station = at(given.work / "monitor", told)
        learn(station, series)
        undisturbed(station, series, given.days)
        return figures_of(station, series, given.days)


def naip(given: argparse.Namespace) -> dict[str, Any]:
    """The six dates one by one; pictures of what is alerted are in the work folder."""
    scenes = dates_of(given.data)
    with receiver() as told:
        station = at(given.work / "monitor", told)
        rules = {"cell_px": 8, "min_history": 2, "fdr": given.fdr}
        station.set_up(fit_on_first=2, rules=rules, retention={"looks_days": None}, page="page.html")
        for scene in scenes:
            shutil.copyfile(scene, station.inbox / scene.name)
            taken = dt.datetime.strptime(scene.stem[-8:], "%Y%m%d").replace(tzinfo=dt.UTC)
            print(scene.name, station.run(taken + dt.timedelta(days=30)), file=sys.stderr, flush=True)
        return {"dates": len(scenes), "fdr": given.fdr, "alerts": alerts_of(station, scenes, given.work / "pictures")}


def idle(given: argparse.Namespace) -> dict[str, Any]:
    """What a pass costs in which nothing is new."""
    series = make_series(given.work / "series", given.seed, days=5, side=192, every=60)
    with receiver() as told:
        station = at(given.work / "monitor", told)
        learn(station, series)
        before, requests = station.state(), len(told.posted)
        said = [_day(station, day, is_new=False) for day in range(3)]
        return {
            "said": said[-1],
            "seconds": [round(seconds, 2) for seconds in station.took[False][-3:]],
            "messages": len(told.posted) - requests,
            "state is the same": station.state() == before,
        }


def figures_of(station: Station, series: Series, days: int) -> dict[str, Any]:
    """What was told, beside what is true."""
    heard = station.heard()
    once = list({message.event_id: message for message in reversed(heard)}.values())[::-1]
    news = of_type(once, "alert.new")
    hits = {event.plan.name: [message for message in news if tells_of(message, event)] for event in series.events if event.views}
    true = {message.event_id for found in hits.values() for message in found}
    false = [message for message in news if message.event_id not in true]
    return {
        **_of_events(series, hits, of_type(once, "alert.resolved")),
        "precision": _share(len(true), len(news)),
        "false alerts": [_line(message) for message in false],
        "false alerts per 1000 km2 and year": round(len(false) / (series.km2 / 1000 * days / 365.25)),
        **_of_scenes(series, {Path(message.body["data"]["scene"]).stem for message in of_type(once, "scene.suspect")}),
        "messages": dict(Counter(message.body["type"] for message in once)),
        "requests": len(station.told.posted),
        "copies by id": len(heard) - len(once),
        "all signed": all(message.is_signed for message in heard),
        "undelivered": station.waiting(),
        "exit codes": dict(station.codes),
        "kills": station.kills,
        "seconds of a pass": {"new scene": _middle(station.took[True]), "nothing new": _middle(station.took[False])},
    }


def of_type(messages: Sequence[Heard], kind: str) -> list[Heard]:
    """Messages of one type."""
    return [message for message in messages if message.body["type"] == kind]


def _of_events(series: Series, hits: Mapping[str, Sequence[Heard]], ends: Sequence[Heard]) -> dict[str, Any]:
    """What became of the events that were ever in clear view."""
    withdrawn = {alert_of(message) for message in ends if message.body["data"]["reason"].startswith("withdrawn")}
    over = {alert_of(message) for message in ends} - withdrawn
    seen = {name: found for name, found in hits.items() if found}
    back = [name for name, found in seen.items() if {alert_of(message) for message in found} <= withdrawn]
    ended = [name for name, found in seen.items() if {alert_of(message) for message in found} & over]
    passing = {event.plan.name for event in series.events if event.plan.ends is not None}
    delays = {event.plan.name: _delay(event, seen[event.plan.name]) for event in series.events if event.plan.name in seen}
    return {
        "events": len(hits),
        "told as new": len(seen),
        "told as new exactly once": sum(len(found) == 1 for found in seen.values()),
        "missed": [name for name in hits if name not in seen],
        "told and taken back": back,
        "recall": _share(len(seen), len(hits)),
        "recall of what stands": _share(len(seen) - len(back), len(hits)),
        "delay in days after the first clear view": delays,
        "mean delay": round(mean(delays.values()), 2) if delays else None,
        "passing events told as resolved": f"{len(passing & set(ended))} of {len(passing & set(seen))}",
        "lasting events told as resolved": sorted(set(ended) - passing),
    }


def _of_scenes(series: Series, suspects: set[str]) -> dict[str, Any]:
    faults, hazy = ({Path(name).stem: name for name in names} for names in (series.faults, series.hazy))
    return {
        "suspect scenes told": {name: series.faults[faults[name]] for name in sorted(suspects & set(faults))},
        "suspect scenes missed": {name: series.faults[faults[name]] for name in sorted(set(faults) - suspects)},
        "hazy scenes told as suspect": sorted(suspects & set(hazy) - set(faults)),
        "good scenes told as suspect": sorted(suspects - set(faults) - set(hazy)),
    }


def alert_of(message: Heard) -> str:
    """The alert that a message is about."""
    return str(message.body["data"]["alert_id"])


def tells_of(message: Heard, event: Event) -> bool:
    """Do they meet in place, and had the event begun and not ended when it was first detected?"""
    data = message.body["data"]
    day = (dt.date.fromisoformat(data["first_detected"][:10]) - BEGIN).days
    return event.is_there(day) and bool(shape(data["geometry"]).intersects(event.shape))


def _delay(event: Event, found: Sequence[Heard]) -> int:
    first = min(message.body["data"]["first_detected"] for message in found)
    return (dt.datetime.fromisoformat(first) - dt.datetime.fromisoformat(event.views[0])).days


def _line(message: Heard) -> str:
    data = message.body["data"]
    return f"{data['first_detected'][:10]} at {data['lon']:.5f} {data['lat']:.5f}, told on day {message.day}: {data['reason']}"


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 3) if whole else None


def _middle(values: Sequence[float]) -> float:
    return round(sorted(values)[len(values) // 2], 1)


TRIALS: Mapping[str, Callable[[argparse.Namespace], dict[str, Any]]] = {"simulation": simulation, "calm": calm, "naip": naip, "idle": idle}

if __name__ == "__main__":
    main()

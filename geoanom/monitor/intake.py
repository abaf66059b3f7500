"""Which scenes of a monitor's sources are new, told without opening one."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from geoanom.archive.identity import stamp_of
from geoanom.errors import InputError
from geoanom.sources.catalog import find_scenes, is_pattern
from geoanom.sources.dates import acquisition_datetime

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from geoanom.config import Config
    from geoanom.monitor.settings import Monitor
    from geoanom.monitor.store.passes import Seen
    from geoanom.sources.catalog import Entry

REFUSED = "refused"
"""Stamp of a scene that is not opened, whatever it holds."""
MOST_TRIES = 5
"""A scene on another machine may fail for reasons that pass: it is tried in so many passes, although it looks the same."""
MOST_LOCAL_TRIES = 3
"""So may one on this machine: its disk, its memory, its rights."""
AHEAD_DAYS = 2
"""A scene may be so far ahead of this machine's clock."""
NOT_BEFORE, MADE_BY = " not before ", " by geoanom "
"""Conditions in the stamp of a refused scene: it is tried again from some moment on, or by another version."""
EMPTY = ("holds no scene", "holds no item that is asked for")
"""What is wrong with a source in which nothing has arrived yet."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A scene that is new, or was replaced, or deserves another try."""

    entry: Entry
    stamp: str
    attempts: int
    """This one included."""


@dataclass(frozen=True, kw_only=True)
class Intake:
    """What the sources hold."""

    fresh: tuple[Candidate, ...]
    """In the order of the dates in their names, as far as there are any."""
    places: Mapping[str, str]
    """Name of each scene to what opens it."""
    n_older: int = 0
    """Left aside because their names tell a date before the one that was asked for."""


class AheadError(InputError):
    """A scene of a time that has not come."""

    moment = ""
    """Of its acquisition."""


def refuse_ahead(uri: str, moment: str, now: float) -> None:
    """Refuse a scene whose date, or this machine's clock, must be wrong: the memory is as long as the newest look says.

    Args:
        uri: of the scene.
        moment: of its acquisition.
        now: seconds since 1970.

    Raises:
        AheadError: it was taken in the future.
    """
    if moment > _latest(now):
        error = AheadError(uri, f"says it was taken on {moment}, which is in the future", "correct its date or this machine's clock")
        error.moment = moment
        raise error


def stamp_after(stamp: str, error: InputError | None) -> str:
    """What to keep as the stamp of a scene, so that the right pass tries it again."""
    if isinstance(error, AheadError):
        return f"{stamp}{NOT_BEFORE}{error.moment}"
    return f"{stamp}{MADE_BY}{version('geoanom')}" if error is not None and error.wrong.startswith("bug:") else stamp


def _latest(now: float) -> str:
    """Moment of the last scene that is believed."""
    return (dt.datetime.fromtimestamp(now, dt.UTC) + dt.timedelta(days=AHEAD_DAYS)).replace(tzinfo=None, microsecond=0).isoformat() + "Z"


def take_in(monitor: Monitor, config: Config, seen: Mapping[str, Seen], since: str | None, now: float) -> Intake:
    """Look for scenes.

    Args:
        monitor: its settings.
        config: how scenes are read.
        seen: what became of each scene before, by name.
        since: moment before which scenes are left aside.
        now: seconds since 1970.

    Raises:
        InputError: a source cannot be reached.
    """
    entries = _entries(monitor, _searching(config, since))
    wanted = [entry for entry in entries if since is None or not _is_older(entry, since)]
    fresh = [candidate for entry in wanted if (candidate := _candidate(entry, config, seen.get(entry.name), now)) is not None]
    ordered = sorted(fresh, key=lambda candidate: (_date(candidate.entry) or "9999", candidate.entry.name))
    return Intake(
        fresh=tuple(ordered),
        places={entry.name: entry.uri for entry in entries},
        n_older=len(entries) - len(wanted),
    )


def _entries(monitor: Monitor, config: Config) -> tuple[Entry, ...]:
    uri = monitor.scenes.uri
    if "://" not in uri and not is_pattern(uri) and not Path(uri).exists():
        raise InputError(uri, "does not exist, or is not mounted", "make the folder, or correct monitor.scenes")
    try:
        return find_scenes(uri, config).entries
    except InputError as error:
        if error.wrong in EMPTY:
            return ()
        raise


def _searching(config: Config, since: str | None) -> Config:
    """A catalog is asked for no more than is wanted, unless its own filter says when."""
    stac = config.sources.stac
    if since is None or stac.datetime is not None:
        return config
    sources = config.sources.model_copy(update={"stac": stac.model_copy(update={"datetime": f"{since}/.."})})
    return config.model_copy(update={"sources": sources})


def _date(entry: Entry) -> str | None:
    return acquisition_datetime({}, entry.name)


def _is_older(entry: Entry, since: str) -> bool:
    date = _date(entry)
    return date is not None and date[:10] < since[:10]


def _candidate(entry: Entry, config: Config, before: Seen | None, now: float) -> Candidate | None:
    stamp = stamp_of(entry.uri, config) if entry.refusal is None else REFUSED
    if before is None or not stamp or _is_other(before.stamp, stamp, now):
        return Candidate(entry=entry, stamp=stamp, attempts=1)
    if before.outcome == "refused" and before.attempts < _most_tries(before, entry):
        return Candidate(entry=entry, stamp=stamp, attempts=before.attempts + 1)
    return None


def _is_other(kept: str, stamp: str, now: float) -> bool:
    """Has the scene changed, or what made it be refused?"""
    rest, _, maker = kept.partition(MADE_BY)
    known, _, moment = rest.partition(NOT_BEFORE)
    return known != stamp or maker not in ("", version("geoanom")) or (moment != "" and moment <= _latest(now))


def _most_tries(before: Seen, entry: Entry) -> int:
    """A scene whose time has not come waits for that, and a name on this machine stays what it is."""
    if NOT_BEFORE in before.stamp:
        return 0
    if "://" in entry.uri:
        return MOST_TRIES
    return MOST_LOCAL_TRIES if entry.refusal is None else 0


def names_of(candidates: tuple[Candidate, ...], most: int = 3) -> Iterator[str]:
    """The first names, for people."""
    yield from (candidate.entry.name for candidate in candidates[:most])
    if len(candidates) > most:
        yield f"and {len(candidates) - most} more"

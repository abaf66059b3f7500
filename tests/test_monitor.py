"""A monitor tells each thing once, whatever comes late, twice, broken or in between, and is silent otherwise."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from postgres import Postgres, postgres_server
from receivers import receiver
from series import BEGUN, NOW, Thing, begun, command, day_of, end_state, run_pass, store_of, write_config, write_look
from standardwebhooks import Webhook

from geoanom.errors import ConfigError, ExitCode, InputError, LockedError
from geoanom.monitor.digest import digest_of
from geoanom.monitor.drift import distances
from geoanom.monitor.events import tell
from geoanom.monitor.intake import MOST_LOCAL_TRIES, stamp_after, take_in
from geoanom.monitor.seeing import reading_config
from geoanom.monitor.settings import load_monitor
from geoanom.monitor.status import LISTED, figures_of, status_of
from geoanom.monitor.store import open_store
from geoanom.monitor.store.passes import Seen
from geoanom.monitor.tidying import remember_less
from geoanom.monitor.values import Event

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

THING = Thing(row=40, col=24, begin=6, end=9)
LAST = 12
"""Looks in a whole series: a thing comes, stays for three and is gone for three."""
SECRET = "whsec_c2VjcmV0IG9mIGEgdGVzdCwgbG9uZyBlbm91Z2g="  # noqa: S105 - of a receiver that lives as long as a test
STORY = ["alert.new", "alert.persistent", "alert.resolved"]


def webhook(url: str) -> dict[str, Any]:
    return {"type": "webhook", "url": url, "secret_env": "GEOANOM_TEST_SECRET", "allow_private": True, "timeout_s": 5}


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEOANOM_TEST_SECRET", SECRET)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A monitor that saw the whole series in order, in one pass."""
    config = begun(tmp_path_factory.mktemp("undisturbed") / "m")
    write_looks(config, range(BEGUN, LAST))
    assert run_pass(config).exit_code == ExitCode.DONE
    return config


def write_looks(config: Path, numbers: Sequence[int], **kind: Any) -> None:
    for number in numbers:
        write_look(config.parent / "inbox", number, [THING], **kind)


def events_of(config: Path) -> list[Event]:
    with store_of(config) as store:
        return store.events()


def told(config: Path) -> list[str]:
    return [event.type for event in events_of(config)]


def test_a_thing_is_told_once_as_new_once_as_persistent_and_once_as_resolved(undisturbed: Path, tmp_path: Path) -> None:
    config = begun(tmp_path / "m")
    seen: list[str] = []
    for number in range(BEGUN, LAST):
        write_looks(config, [number])
        report = run_pass(config)
        assert report.looked == 1
        assert report.exit_code == ExitCode.DONE
        seen += report.told
    assert seen == STORY
    assert told(config) == told(undisturbed) == STORY
    assert end_state(config) == end_state(undisturbed)
    [alert] = end_state(config)["alerts"].values()
    assert alert.first_detected[:10] == str(day_of(THING.begin))
    assert alert.last_detected[:10] >= str(day_of(THING.end - 1))
    assert alert.status == "resolved"
    assert alert.n_detections >= THING.end - THING.begin
    assert 9 <= len(alert.cells) <= 25


def test_a_second_pass_does_no_work_and_sends_nothing(undisturbed: Path, tmp_path: Path) -> None:
    with receiver() as hook:
        config = begun(tmp_path / "m", alerts=[webhook(hook.url), {"type": "file", "path": "alerts.geojson"}])
        write_looks(config, range(BEGUN, LAST))
        run_pass(config, now=time.time)  # an independent judge of signatures asks for a fresh one
        posted, feed = list(hook.ids), (tmp_path / "m" / "alerts.geojson").stat()
        report = run_pass(config)
        assert report.looked == report.duplicates == report.judged == sum(report.told.values()) == 0
        assert hook.ids == posted
        assert len(posted) == len(set(posted)) == len(STORY)
        assert (tmp_path / "m" / "alerts.geojson").stat().st_mtime_ns == feed.st_mtime_ns
        for request in hook.posted:
            Webhook(SECRET).verify(request.body, dict(request.headers))
    assert end_state(config) == end_state(undisturbed)


@settings(max_examples=2, phases=(Phase.generate,))
@given(st.permutations(range(BEGUN, LAST)), st.permutations(range(BEGUN, LAST)), st.integers(1, 3))
def test_late_duplicate_and_reprocessed_scenes_end_in_the_same_state(
    undisturbed: Path, tmp_path_factory: pytest.TempPathFactory, order: list[int], special: list[int], n_passes: int
) -> None:
    twice, again = special[:2]
    config = begun(tmp_path_factory.mktemp("shuffled") / "m")
    inbox = config.parent / "inbox"
    write_look(inbox, again, [THING], version=1)  # is replaced by the right one, under its own name
    run_pass(config)
    for part in np.array_split(order, n_passes):
        write_looks(config, part.tolist())
        if twice in part:
            shutil.copy(inbox / f"look_{day_of(twice):%Y%m%d}.tif", inbox / f"more_{day_of(twice):%Y%m%d}.tif")
        assert not run_pass(config).problems
    assert end_state(config) == end_state(undisturbed)
    ids = [event.event_id for event in events_of(config)]
    assert len(ids) == len(set(ids))


def test_a_pass_that_is_killed_is_made_up_for(undisturbed: Path, tmp_path: Path) -> None:
    with receiver() as hook:
        config = begun(tmp_path / "m", alerts=[webhook(hook.url)])
        write_looks(config, range(BEGUN, LAST))
        kill_when(config, lambda: n_looks(config) >= BEGUN + 2)
        assert BEGUN + 2 <= n_looks(config) < LAST
        kill_when(config, lambda: bool(hook.posted))
        report = run_pass(config)
        assert report.looked + report.duplicates == 0
        assert list(Counter(hook.ids)) == [event.event_id for event in events_of(config)]
    assert end_state(config) == end_state(undisturbed)


def n_looks(config: Path) -> int:
    with store_of(config) as store:
        return sum(store.standing().looks.values())


def kill_when(config: Path, is_time: Any) -> None:
    process = command("run", config)
    try:
        while not is_time() and process.poll() is None:
            time.sleep(0.01)
    finally:
        process.kill()
        process.communicate()


def test_clouds_neither_confirm_nor_resolve(tmp_path: Path) -> None:
    config = begun(tmp_path / "m")
    over = slice(THING.row - 8, THING.row + 24), slice(THING.col - 8, THING.col + 24)
    write_looks(config, [6])
    write_looks(config, [7, 8], cloud=over)
    run_pass(config)
    write_looks(config, [9, 10, 11], cloud=over)  # the thing is gone, and nobody can see that
    run_pass(config)
    [alert] = end_state(config)["alerts"].values()
    assert (alert.status, alert.n_detections, alert.n_valid_observations) == ("new", 1, 1)
    assert told(config) == ["alert.new"]


def test_a_hazy_scene_is_told_once_and_starts_nothing(tmp_path: Path) -> None:
    config = begun(tmp_path / "m")
    write_look(config.parent / "inbox", 6, haze=0.8)
    report = run_pass(config)
    assert [scene for scene, _ in report.suspects] == [f"look_{day_of(6):%Y%m%d}.tif"]
    write_looks(config, [7, 8])
    run_pass(config)
    assert told(config) == ["scene.suspect", "alert.new", "alert.persistent"]


def test_bad_scenes_are_named_and_tried_again_when_they_change(tmp_path: Path) -> None:
    config = begun(tmp_path / "m")
    inbox, said = config.parent / "inbox", list[str]()
    good = write_look(inbox, 6)
    broken = inbox / f"look_{day_of(7):%Y%m%d}.tif"
    broken.write_bytes(good.read_bytes()[:900])
    write_look(inbox, 8, name="undated.tif")
    report = run_pass(config, say=said.append)
    assert report.exit_code == ExitCode.PARTIAL
    assert report.looked == 1
    assert any(str(broken) in line for line in said)
    assert any("undated.tif: tells no acquisition time" in line for line in said)
    for _ in range(MOST_LOCAL_TRIES - 1):
        assert len(run_pass(config).refused) == 2, "a disk may fail once"
    assert run_pass(config).refused == []
    write_look(inbox, 7)
    report = run_pass(config)
    assert (report.looked, report.exit_code) == (1, ExitCode.DONE)
    with store_of(config) as store:
        assert store.standing().refused == 1


def test_a_scene_of_the_future_is_refused_until_then_and_nothing_is_forgotten(tmp_path: Path) -> None:
    config = begun(tmp_path / "m")
    write_look(config.parent / "inbox", 6, name="look_20990101.tif")
    report = run_pass(config)
    assert [problem.message.partition(": ")[2][:41] for problem in report.refused] == ["says it was taken on 2099-01-01T00:00:00Z"]
    assert run_pass(config).refused == []
    with store_of(config) as store:
        assert store.horizon < "2024"
        store.add_look(replace(next(store.looks()), digest="0", moment="2099-01-01T00:00:00Z", path="2099.tif"))
        remember_less(store, load_monitor(config).monitor.retention, NOW)
        assert store.horizon < "2024"
    report = run_pass(config, now=lambda: 4_070_908_800.0)
    assert (report.looked, report.refused) == (1, []), "a clock that was behind loses nothing"


def test_a_bug_of_another_version_is_no_reason_to_leave_a_scene_aside(tmp_path: Path) -> None:
    config = write_config(tmp_path / "m")
    write_look(config.parent / "inbox", 6)
    monitor = load_monitor(config).monitor

    def fresh(kept: str, attempts: int) -> int:
        before = Seen(path=name, stamp=kept, outcome="refused", attempts=attempts)
        return len(take_in(monitor, reading_config(monitor), {name: before}, None, NOW).fresh)

    [candidate] = take_in(monitor, reading_config(monitor), {}, None, NOW).fresh
    name, kept = candidate.entry.name, stamp_after(candidate.stamp, InputError("a", "bug: KeyError: b"))
    assert kept != candidate.stamp
    assert [fresh(kept, n) for n in (1, MOST_LOCAL_TRIES)] == [1, 0]
    assert fresh(kept + "1", MOST_LOCAL_TRIES) == 1


def test_two_passes_at_once_do_not_meet(tmp_path: Path) -> None:
    config = begun(tmp_path / "m")
    with store_of(config) as store, store.exclusive("test"), pytest.raises(LockedError, match="another run"):
        run_pass(config)


def test_a_source_that_cannot_be_reached_keeps_nothing_from_being_told(tmp_path: Path) -> None:
    with receiver() as hook:
        config = begun(tmp_path / "m", alerts=[webhook(hook.url)])
        write_looks(config, [6])
        hook.answers = [503]
        assert run_pass(config).exit_code == ExitCode.UNWRITTEN
        (tmp_path / "m" / "inbox").rename(tmp_path / "m" / "away")
        report = run_pass(config, now=lambda: NOW + 3600)
        assert report.exit_code == ExitCode.REFUSED
        assert "inbox" in report.problems[0].message
        assert len(hook.posted) == 2
        (tmp_path / "m" / "away").rename(tmp_path / "m" / "inbox")
        assert run_pass(config).exit_code == ExitCode.DONE


def test_a_webhook_that_is_down_for_a_day_gets_everything_in_order(tmp_path: Path) -> None:
    with receiver() as hook:
        config = begun(tmp_path / "m", alerts=[webhook(hook.url)])
        hook.answers = [503] * 5
        for i, number in enumerate(range(BEGUN, LAST)):
            write_looks(config, [number])
            report = run_pass(config, now=lambda i=i: NOW + 6 * 3600 * i)
            assert report.exit_code == (ExitCode.UNWRITTEN if report.sinks["webhook"].error else ExitCode.DONE)
        run_pass(config, now=lambda: NOW + 48 * 3600)
        run_pass(config, now=lambda: NOW - 48 * 3600)  # a clock that is put back repeats nothing
        accepted = hook.ids[5:]
        assert accepted == [event.event_id for event in events_of(config)]
        assert len(accepted) == len(STORY)


def test_a_variable_that_is_not_set_stops_everything_before_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GEOANOM_TEST_SECRET")
    config = write_config(tmp_path / "m", alerts=[webhook("https://example.org/")])
    with pytest.raises(ConfigError, match="GEOANOM_TEST_SECRET"):
        run_pass(config)
    assert not (tmp_path / "m" / "state.sqlite").exists()


def test_a_rehearsal_changes_nothing(tmp_path: Path) -> None:
    config, said = begun(tmp_path / "m"), list[str]()
    write_looks(config, [6])
    run_pass(config)
    write_looks(config, [7])
    before = {path: path.read_bytes() for path in (tmp_path / "m").rglob("*") if path.is_file() and path.suffix in (".sqlite", ".geojson")}
    report = run_pass(config, dry=True, say=said.append)
    assert report.looked == 1
    assert said == [f"new: look_{day_of(7):%Y%m%d}.tif"]
    assert {path: path.read_bytes() for path in before} == before
    fresh = write_config(tmp_path / "fresh")
    assert run_pass(fresh, dry=True).looked == 0
    assert not (tmp_path / "fresh" / "state.sqlite").exists()


def test_older_scenes_are_left_aside_and_wait_for_a_pass_that_wants_them(tmp_path: Path) -> None:
    config = begun(tmp_path / "m")
    write_looks(config, [6, 7])
    report = run_pass(config, since=f"{day_of(7)}T00:00:00Z")
    assert report.looked == 1
    assert report.older == BEGUN + 1
    assert run_pass(config).looked == 1


def test_a_fit_waits_for_its_scenes_and_they_are_never_news(tmp_path: Path) -> None:
    config = write_config(tmp_path / "m", rules={"cell_px": 4, "min_history": 2})
    write_looks(config, [5])
    assert run_pass(config).waiting == (1, 5)
    assert run_pass(config).waiting == (1, 5)
    write_looks(config, [4, 6, 7, 8])
    report = run_pass(config)
    assert (report.fitted, report.looked, told(config)) == (True, 5, [])


def test_an_empty_source_is_no_error(tmp_path: Path) -> None:
    assert run_pass(write_config(tmp_path / "m")).exit_code == ExitCode.DONE


def test_all_of_a_pass_comes_in_one_digest(tmp_path: Path) -> None:
    config = begun(tmp_path / "m", digest=True, alerts=[{"type": "file", "path": "alerts.geojson"}])
    write_looks(config, [6, 7])
    run_pass(config)
    run_pass(config)
    [event] = events_of(config)
    assert event.type == "digest"
    assert [alert["status"] for alert in event.body["data"]["alerts"]] == ["persistent"]


def test_a_digest_of_a_period_waits_for_its_end_and_forgets_nothing(tmp_path: Path) -> None:
    config = begun(tmp_path / "m", digest={"every": "1d"}, alerts=[{"type": "file", "path": "alerts.geojson"}])
    types = []
    for hours, numbers in ((0, [6]), (6, [7]), (12, [9, 10, 11]), (25, []), (26, [])):
        write_looks(config, numbers)
        run_pass(config, now=lambda hours=hours: NOW + 3600 * hours)
        types.append(told(config))
    assert [len(each) for each in types] == [1, 1, 1, 2, 2]
    first, second = events_of(config)
    assert [alert["status"] for alert in first.body["data"]["alerts"]] == ["new"]
    assert [alert["status"] for alert in second.body["data"]["alerts"]] == ["resolved"]


def test_what_waits_for_a_digest_that_is_not_asked_for_any_more_is_told(tmp_path: Path) -> None:
    config = begun(tmp_path / "m", digest={"every": "1d"})
    write_looks(config, [6])
    run_pass(config)
    write_looks(config, [7])
    run_pass(config, now=lambda: NOW + 3600)
    assert told(config) == ["digest"]
    write_config(tmp_path / "m")
    for _ in range(2):
        run_pass(config, now=lambda: NOW + 7200)
        assert told(config) == ["digest", "digest"]
    assert [alert["status"] for alert in events_of(config)[1].body["data"]["alerts"]] == ["persistent"]


def test_all_that_was_given_up_is_counted(tmp_path: Path) -> None:
    config = write_config(tmp_path / "m")
    monitor = load_monitor(config).monitor
    with open_store(monitor.store) as store:
        events = tuple(Event(event_id=f"{n}", type="alert.new", moment="2024-05-01T00:00:00Z", body={}) for n in range(LISTED + 5))
        telling = tell(store.history("test"), [], store.said())
        store.commit_state(("9", ""), [], replace(telling, events=events))
        for event in events:
            store.given_up(event.event_id, "file", "is gone")
        assert figures_of(status_of(store, monitor, NOW), NOW).given_up == {"file": LISTED + 5}


def test_a_digest_names_suspect_scenes_and_its_id_is_that_of_its_events(undisturbed: Path) -> None:
    events = events_of(undisturbed)
    assert digest_of(events, "test").event_id == digest_of(events[::-1], "test").event_id != digest_of(events[:2], "test").event_id


def test_other_rules_judge_all_looks_again_and_tell_nothing_twice(tmp_path: Path) -> None:
    config, said = begun(tmp_path / "m"), list[str]()
    write_looks(config, [6, 7])
    run_pass(config)
    ids = [event.event_id for event in events_of(config)]
    write_config(tmp_path / "m", rules={"cell_px": 4, "min_history": 4, "confirm_after": 3})
    report = run_pass(config, say=said.append)
    assert report.judged == BEGUN + 2
    assert any("rules" in line for line in said)
    assert [event.event_id for event in events_of(config)] == ids
    [alert] = end_state(config)["alerts"].values()
    assert alert.status == "new"


def test_another_model_is_refused(tmp_path: Path) -> None:
    config = begun(tmp_path / "m")
    model = config.parent / "test.model" / "model.json"
    tree = json.loads(model.read_text())
    model.write_text(json.dumps({**tree, "versions": {**tree["versions"], "python": "0"}}))
    write_looks(config, [6])
    with pytest.raises(ConfigError, match="by "):
        run_pass(config)


def test_an_area_is_watched_and_one_beyond_all_scenes_is_named(tmp_path: Path) -> None:
    config, said = begun(tmp_path / "m"), list[str]()
    for name, west in (("here", 14.9), ("elsewhere", 40.0)):
        ring = [[west, 45.0], [west + 0.2, 45.0], [west + 0.2, 45.3], [west, 45.3], [west, 45.0]]
        feature = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
        (config.parent / f"{name}.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    write_config(tmp_path / "m", areas=[{"path": "here.geojson"}, {"path": "elsewhere.geojson"}])
    write_looks(config, [6])
    run_pass(config, say=said.append)
    [alert] = end_state(config)["alerts"].values()
    assert alert.area == "here"
    assert any("elsewhere" in line and "outside every scene" in line for line in said)
    (config.parent / "here.geojson").unlink()
    with pytest.raises(InputError, match=r"here\.geojson"):
        run_pass(config)


def test_looks_are_forgotten_by_acquisition_and_alerts_are_not(undisturbed: Path, tmp_path: Path) -> None:
    shutil.copytree(undisturbed.parent, tmp_path / "m")
    config = write_config(tmp_path / "m", retention={"looks_days": 366, "events_days": 7})
    write_look(config.parent / "inbox", 12 + 80)
    run_pass(config)
    with store_of(config) as store:
        assert store.horizon[:4] == "2024"
        assert [event.body for event in store.events()] == [{}] * len(STORY)
    assert len(end_state(config)["alerts"]) == 1


def test_pictures_show_the_thing_after_and_not_before(tmp_path: Path) -> None:
    import base64
    import io

    from PIL import Image

    config = begun(tmp_path / "m", thumbnails=True, report_url="https://example.org/page.html")
    write_looks(config, [6])
    run_pass(config)
    [event] = events_of(config)
    data = event.body["data"]
    before, after = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(data[f"thumbnail_{which}"]))), float)[..., 0] for which in ("before", "after")
    )
    assert before.shape == after.shape == (128, 128)
    moved = np.abs(after - before)
    assert moved[50:78, 50:78].mean() > 5 * moved[:20].mean()
    assert data["report"] == f"https://example.org/page.html#{data['alert_id']}"


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres_server() as running:
        yield running


def test_postgis_ends_in_the_same_state_as_sqlite(
    undisturbed: Path, server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.new_url()
    user, _, rest = url.partition("://")[2].partition("@")
    monkeypatch.setenv("PGPASSWORD", password_of(user))
    config = begun(tmp_path / "m", store=f"postgresql://{user.partition(':')[0]}@{rest}")
    write_looks(config, [number for number in range(BEGUN, LAST) if number != 7])
    run_pass(config)
    write_looks(config, [7])
    assert run_pass(config).exit_code == ExitCode.DONE
    assert end_state(config) == end_state(undisturbed)


def password_of(user: str) -> str:
    from urllib.parse import unquote

    return unquote(user.partition(":")[2])


@given(st.floats(-5, 5), st.integers(0, 5))
def test_a_shift_by_some_spreads_is_a_distance_of_as_many(shift: float, seed: int) -> None:
    then = np.random.default_rng(seed).normal(0, 3, (2000, 4))
    spread = 1.4826 * np.median(np.abs(then - np.median(then, axis=0)), axis=0)
    assert distances(then, then + shift * spread) == pytest.approx([abs(shift)] * 4, abs=1e-9)


def test_settings_of_the_fit_are_checked_before_anything_is_done(tmp_path: Path) -> None:
    config = write_config(tmp_path / "m")
    (tmp_path / "m" / "quick.yaml").write_text(yaml.safe_dump({"tiles": {"sice": 32}}))
    with pytest.raises(ConfigError, match="sice"):
        run_pass(config)
    assert not (tmp_path / "m" / "state.sqlite").exists()

"""A store keeps what it is given, on both databases alike, and says in one line when it cannot."""

from __future__ import annotations

import itertools
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from postgres import PASSWORD, Postgres, postgres_server
from shapely import Polygon, box, from_wkt
from small_world import FOOTPRINT, NAME, RULES, block, history_of, judged, look_of, moment, one_pass, series

from geoanom.errors import ConfigError, InputError, LockedError, OutputError, SceneError
from geoanom.monitor.events import tell
from geoanom.monitor.lifecycle import Verdict
from geoanom.monitor.store import Store, open_store
from geoanom.monitor.store.cells import STRIPE
from geoanom.monitor.store.database import connect, plain_errors
from geoanom.monitor.store.outbox import LONGEST_WAIT_S
from geoanom.monitor.store.passes import Seen
from geoanom.monitor.store.schema import HEAD, MIGRATIONS
from geoanom.monitor.store.tables import METADATA, look_cells
from geoanom.monitor.values import Cells, Event, Look

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

    from geoanom.monitor.values import Outbox

KINDS = ["sqlite", "postgresql"]
SHIP = block(0, 5)
LOOKS = [look_of(0), look_of(1, SHIP), look_of(2, SHIP), look_of(3), look_of(4), look_of(5, SHIP)]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with postgres_server() as server:
        yield server


@pytest.fixture(params=KINDS)
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """A URL of a store that is not there yet, at each call."""
    if request.param == "sqlite":
        numbers = itertools.count()
        return lambda: str(tmp_path / f"state {next(numbers)}.sqlite")
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_url


@pytest.fixture
def url(new_url: Callable[[], str]) -> str:
    return new_url()


@pytest.fixture
def schema(url: str) -> str | None:
    """Where the tables of the store are, in PostgreSQL."""
    return str(sa.make_url(url).query["schema"]) if "://" in url else None


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with open_store(url, patience_s=0.2) as opened:
        yield opened


@contextmanager
def held(url: str) -> Iterator[None]:
    """A second program at the same database locks all writers out."""
    database = connect(url)
    with database.writing() as connection:
        if database.is_postgresql:
            connection.execute(sa.text("LOCK TABLE looks IN EXCLUSIVE MODE"))
        yield
    database.engine.dispose()


def same_cells(one: Cells, other: Cells) -> bool:
    arrays = [(getattr(one, kind), getattr(other, kind)) for kind in ("valid", "score", "descriptor")]
    return (one.row, one.col) == (other.row, other.col) and all(
        a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True) for a, b in arrays
    )


def same_look(one: Look, other: Look) -> bool:
    plain = [f.name for f in fields(Look) if f.name not in ("cells", "footprint")]
    return (
        all(getattr(one, name) == getattr(other, name) for name in plain)
        and one.footprint.equals_exact(other.footprint, 0)
        and same_cells(one.cells, other.cells)
    )


def event(number: int, *, day: int = 0) -> Event:
    body = {"type": "alert.new", "id": f"id-{number}", "timestamp": moment(day), "data": {"alert_id": f"{number}", "text": "\ud800 \0 ø"}}
    return Event(event_id=f"id-{number}", type="alert.new", moment=moment(day), body=body)


def put_events(store: Store, *events: Event) -> None:
    """As a pass does that has no looks."""
    telling = tell(store.history(NAME), [], store.said())
    store.commit_state(("9", ""), [], replace(telling, events=events))


# ---- looks ----


def test_looks_come_back_as_they_were_in_their_order(store: Store) -> None:
    odd = replace(
        look_of(7, SHIP), path="/in\udcffbox/a b.tif", warnings=("hazy", "ø"), footprint=Polygon([(1, 2), (3, 2), (3, 4), (1, 2)])
    )
    for look in [odd, *LOOKS[::-1]]:
        assert store.add_look(look) == "used"
    found = list(store.looks())
    assert all(map(same_look, found, [*LOOKS, odd]))
    assert len(found) == 7
    assert [look.scene for look in store.looks(since=LOOKS[2].order, before=LOOKS[4].order)] == [LOOKS[2].scene, LOOKS[3].scene]


def test_looks_are_ordered_by_bytes_whatever_the_language_of_the_database(store: Store) -> None:
    digests = ["a", "B", "A", "b", "ä"]
    for number, digest in enumerate(digests):
        store.add_look(replace(LOOKS[0], digest=digest, path=digest, footprint=box(number, 0, number + 1, 1)))
    assert [look.digest for look in store.looks()] == sorted(digests)
    assert [look.digest for look in store.looks(since=(LOOKS[0].moment, "a"))] == ["a", "b", "ä"]


def test_text_that_no_database_holds_is_escaped(store: Store) -> None:
    store.add_look(replace(LOOKS[0], scene="a\udcffb\0c"))
    assert [entry.scene for entry in store.entries()] == ["a\\udcffb\\x00c"]


@given(
    row=st.integers(-3 * STRIPE, 3 * STRIPE),
    n_rows=st.integers(0, 3 * STRIPE),
    rows=st.none() | st.tuples(st.integers(-4 * STRIPE, 4 * STRIPE), st.integers(0, 4 * STRIPE)),
)
@settings(max_examples=15)
def test_a_band_of_rows_is_what_slicing_gives(store: Store, row: int, n_rows: int, rows: tuple[int, int] | None) -> None:
    rng = np.random.default_rng(n_rows)
    valid, descriptor = rng.random((n_rows, 3), np.float32), rng.random((n_rows, 3, 5), np.float32)
    whole = Cells(row=row, col=-7, valid=valid, score=valid * 9, descriptor=descriptor)
    look = replace(look_of(0), digest=f"{row} {n_rows} {rows}", path=f"{row} {n_rows} {rows}", moment=f"{row} {n_rows} {rows}", cells=whole)
    store.add_look(look)
    band = None if rows is None else range(rows[0], rows[0] + rows[1])
    at = np.arange(row, row + n_rows)
    wanted = np.ones(n_rows, bool) if band is None else (at >= band.start) & (at < band.stop)
    found = store.read_cells(look.digest, band)
    for kind in ("valid", "score"):
        assert np.array_equal(getattr(found, kind), getattr(whole, kind)[wanted])
    assert found.descriptor.shape[:2] == (wanted.sum(), 3)
    if wanted.any():
        assert np.array_equal(found.descriptor, descriptor[wanted])
        assert found.row == at[wanted][0]


def test_a_band_is_read_without_the_rest(store: Store) -> None:
    tall = np.zeros((4 * STRIPE, 2), np.float32)
    store.add_look(replace(LOOKS[0], cells=Cells(row=0, col=0, valid=tall, score=tall, descriptor=tall[..., None])))
    with store._db.writing() as connection:
        connection.execute(look_cells.update().where(look_cells.c.stripe != 1).values(data=b"damaged"))
    assert len(store.read_cells(LOOKS[0].digest, range(STRIPE, 2 * STRIPE)).valid) == STRIPE


def test_a_duplicate_is_ignored_wherever_it_lies(store: Store) -> None:
    one_pass(store, LOOKS)
    assert store.add_look(replace(LOOKS[1], path="copy.tif", scene="another name")) == "used"
    assert store.stale_since() is None
    assert len(store.entries()) == len(LOOKS)
    assert store.knows(LOOKS[1].digest, "copy.tif")


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_of_one_moment_and_footprint_the_greatest_name_stands_in_any_order(order: tuple[int, ...], store: Store) -> None:
    shifted = replace(look_of(1, SHIP, salt="-v3"), footprint=box(4.1, 52.0, 4.22, 52.12))
    versions = [look_of(1, SHIP, salt="-v1"), replace(look_of(1, salt="-v2"), footprint=box(4.0, 52.0, 4.12, 52.121)), shifted]
    for number in order:
        store.add_look(versions[number])
    states = {entry.scene[-2:]: (entry.state, entry.reason) for entry in store.entries()}
    assert states == {"v1": ("superseded", f"replaced by {versions[1].scene}"), "v2": ("used", None), "v3": ("used", None)}
    assert [look.scene for look in store.looks()] == [look.scene for look in sorted(versions[1:], key=lambda look: look.order)]


def test_other_content_at_a_path_replaces_what_was_there_and_what_comes_back_stands_again(store: Store) -> None:
    old, new = replace(LOOKS[1], path="x.tif"), replace(look_of(2, salt="-new"), path="x.tif")
    one_pass(store, [LOOKS[0], old])
    assert len(store.alerts()) == 1
    assert not store.knows(new.digest, "x.tif")
    one_pass(store, [new])
    assert {entry.digest: entry.state for entry in store.entries()} == {
        LOOKS[0].digest: "used",
        old.digest: "superseded",
        new.digest: "used",
    }
    assert store.alerts() == {}
    assert not store.knows(old.digest, "x.tif")
    one_pass(store, [old])
    assert [look.digest for look in store.looks()] == [LOOKS[0].digest, old.digest]
    assert len(store.alerts()) == 1


@pytest.mark.parametrize("lag", [0, 1])
def test_a_file_that_is_overwritten_every_day_and_copied_before_loses_no_look(store: Store, lag: int) -> None:
    def found(look: Look, path: str) -> None:
        outcome: Any = "duplicate" if store.knows(look.digest, path) else "look"
        if outcome == "look":
            store.add_look(replace(look, path=path))
        store.put_seen(Seen(path=path, stamp=look.digest, outcome=outcome, digest=look.digest))

    for day, look in enumerate(LOOKS):
        found(look, "latest.tif")
        if day:
            found(LOOKS[day - lag], f"day-{day - lag}.tif")
    kept = [look.digest for look in store.looks()]
    assert kept == [look.digest for look in LOOKS[1 - lag :]]
    assert all(store.knows(look.digest, f"day-{day}.tif") for day, look in enumerate(LOOKS[:-1]) if look.digest in kept)
    found(look_of(9), "day-2.tif")
    assert [entry.state for entry in store.entries() if entry.digest == LOOKS[2].digest] == ["superseded"], "no path holds it any more"


def test_what_hides_behind_a_better_look_stands_again_when_that_goes(store: Store) -> None:
    worse, better = look_of(1, SHIP, salt="-1", path="a"), look_of(1, salt="-2", path="b")
    one_pass(store, [LOOKS[0], better, worse])
    assert store.alerts() == {}
    one_pass(store, [look_of(2, salt="-3", path="b")])
    assert [look.digest for look in store.looks()][1] == worse.digest
    assert len(store.alerts()) == 1


def test_cells_can_be_given_up_and_their_alerts_stay(store: Store) -> None:
    one_pass(store, LOOKS)
    alerts = store.alerts()
    assert store.forget_cells(LOOKS[3].moment) == 3
    assert [look.digest for look in store.looks()] == [look.digest for look in LOOKS[3:]]
    assert (store.alerts(), store.horizon) == (alerts, LOOKS[3].moment)
    store.judge_again()
    assert one_pass(store, []) is not None
    assert store.alerts() == alerts
    with pytest.raises(SceneError, match=r"no longer kept; keep looks longer"):
        store.add_look(look_of(1, hour=15))
    assert store.add_look(look_of(6)) == "used"
    assert store.forget_cells(moment(9)) == 3, "not the one that no pass has judged"


# ---- what is derived ----


@pytest.mark.parametrize("kind", KINDS)
def test_any_order_of_arrival_any_runs_and_duplicates_give_the_same_alerts(
    kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    @settings(max_examples=12 if kind == "sqlite" else 5)
    @given(series(6), st.randoms(use_true_random=False), st.integers(1, 6))
    def law(looks: list[Look], random: Random, batch: int) -> None:
        server: Postgres | None = request.getfixturevalue("postgres") if kind == "postgresql" else None
        url = server.new_url() if server else str(tmp_path_factory.mktemp("law") / "state.sqlite")
        arriving = random.sample(looks, len(looks)) + looks[:2]
        for first in range(0, len(arriving), batch):
            with open_store(url) as store:
                one_pass(store, arriving[first : first + batch])
        whole = history_of(looks)
        with open_store(url) as store:
            assert {alert.alert_id: alert for alert in store.alerts().values()} == {alert.alert_id: alert for alert in whole.alerts}
            assert store.transitions() == whole.transitions
            assert dict(store.history(NAME).places) == dict(whole.places)
            begun = [event.body["data"]["alert_id"] for event in store.events() if event.type == "alert.new"]
            assert len(set(begun)) == len(begun)
            assert one_pass(store, arriving) is None, "a second pass has nothing to do"
            for judgement in judged(looks):
                assert [found.cells for found in store.detections(judgement.look.digest)] == [found.cells for found in judgement.detections]

    law()


def test_detections_and_states_of_places_come_back_as_they_were(store: Store) -> None:
    one_pass(store, LOOKS)
    (expected,) = judged(LOOKS)[1].detections
    assert store.detections(LOOKS[1].digest) == (expected,)
    whole = history_of(LOOKS)
    for name in whole.places:
        assert store.observations(name) == [place for place in whole.log if place.alert.alert_id == name]


def test_a_suspect_look_says_why(store: Store) -> None:
    haze = look_of(1, block(-5, 3, 12))
    one_pass(store, [look_of(0), haze])
    assert [(entry.state, entry.reason) for entry in store.entries()][1] == ("suspect", "most of it departs from all that was seen before")
    assert [e.type for e in store.events()] == ["scene.suspect"]


def test_a_pass_that_leaves_looks_out_is_refused(store: Store) -> None:
    for look in LOOKS:
        store.add_look(look)
    with pytest.raises(ValueError, match="not those"):
        store.commit_state(None, judged(LOOKS)[:3], tell(history_of(LOOKS[:3]), judged(LOOKS)[:3], store.said()))
    assert store.stale_since() == LOOKS[0].order


def test_new_rules_judge_again_and_tell_nothing_twice(store: Store) -> None:
    one_pass(store, LOOKS)
    told = store.events()
    first, second = store.alerts()
    store.judge_again()
    assert store.stale_since() == LOOKS[0].order
    telling = one_pass(store, [], replace(RULES, confirm_after=3, resolve_after=4))
    assert telling is not None
    assert {name: alert.status for name, alert in store.alerts().items()} == {first: "persistent"}
    assert [(e.type, e.body["data"]["alert_id"]) for e in telling.events] == [("alert.resolved", second)], "it is part of the first now"
    assert [e for e in store.events() if e not in telling.events] == told


def test_what_people_say_is_kept_and_counts_in_later_passes(store: Store) -> None:
    one_pass(store, LOOKS[:2])
    (name,) = store.alerts()
    assert not store.put_verdict(Verdict(alert_id="nothing", verdict="dismissed", moment=moment(1)))
    assert store.put_verdict(Verdict(alert_id=name, verdict="dismissed", moment=moment(1, 23), author="me", note="a buoy"))
    assert store.alerts()[name].status == "dismissed"
    one_pass(store, LOOKS[2:5])
    assert store.alerts()[name].status == "dismissed"
    assert [move.after for move in store.transitions()] == ["new", "dismissed"]
    assert [event.type for event in store.events()] == ["alert.new"]
    assert store.standing().alerts == {"dismissed": 1}
    assert store.put_verdict(Verdict(alert_id=name, verdict="confirmed", moment=moment(5)))
    assert store.alerts()[name].status == "resolved"
    assert store.verdicts()[name].moment == moment(5)


def test_names_that_were_told_stay_in_the_store(store: Store) -> None:
    one_pass(store, [LOOKS[0], look_of(3, block(0, 9))])
    (name,) = store.alerts()
    one_pass(store, [look_of(2, {(0, col) for col in range(3, 10)})])
    ((kept, alert),) = store.alerts().items()
    assert kept == name != alert.alert_id
    store.put_verdict(Verdict(alert_id=name, verdict="dismissed", moment=moment(3, 23)))
    assert [move.after for move in store.transitions()] == ["new", "persistent", "dismissed"]


def test_what_was_withdrawn_and_comes_back_is_told_anew_each_time(store: Store) -> None:
    seen, gone = replace(LOOKS[1], path="x.tif"), replace(look_of(1, salt="-empty"), path="x.tif")
    one_pass(store, [LOOKS[0]])
    for look in (seen, gone, seen, gone, seen, gone):
        one_pass(store, [look])
    told = store.events()
    assert Counter(event.type for event in told) == {"alert.new": 3, "alert.resolved": 3}
    assert len({event.body["data"]["alert_id"] for event in told}) == 3


def test_a_dismissal_that_is_given_while_a_pass_is_at_work_counts(store: Store) -> None:
    one_pass(store, LOOKS[:2])
    (name,) = store.alerts()
    for verdict, status in (("dismissed", "dismissed"), ("confirmed", "new")):
        telling = tell(store.history(NAME), [], store.said())
        said: Any = verdict
        store.put_verdict(Verdict(alert_id=name, verdict=said, moment=moment(1, 23)))
        store.commit_state(("9", ""), [], telling)
        assert store.alerts()[name].status == status


# ---- the outbox ----


def test_an_event_waits_for_each_sink_until_that_has_taken_it(store: Store) -> None:
    outbox: Outbox = store
    store.enrol("hook", "mail")
    put_events(store, event(2, day=2), event(1, day=1), event(3, day=3))
    put_events(store, event(1, day=1))
    assert [delivery.event for delivery in outbox.due("hook", 0.0, 9)] == [event(1, day=1), event(2, day=2), event(3, day=3)]
    assert len(outbox.due("hook", 0.0, 2)) == 2
    outbox.delivered("id-1", "hook")
    outbox.failed("id-2", "hook", "no answer", 100.0)
    outbox.failed("id-2", "hook", "no answer", 200.0)
    outbox.given_up("id-3", "hook", "refused")
    assert outbox.due("hook", 199.0, 9) == []
    assert [(delivery.event.event_id, delivery.attempts) for delivery in outbox.due("hook", 200.0, 9)] == [("id-2", 2)]
    assert (store.undelivered(), store.abandoned()) == ({"hook": 1, "mail": 3}, [("id-3", "hook", "refused")])
    outbox.delivered("id-2", "hook")
    outbox.failed("id-2", "hook", "an echo", 0.0)
    outbox.delivered("id-3", "hook")
    assert outbox.due("hook", 1e12, 9) == []
    assert [delivery.event.event_id for delivery in outbox.due("mail", 0.0, 9)] == ["id-1", "id-2", "id-3"]
    assert (store.standing().given_up, store.undelivered(["hook"])) == (1, {"hook": 0})


def test_a_new_sink_gets_what_is_told_from_then_on(store: Store) -> None:
    store.enrol("old")
    put_events(store, event(1))
    store.enrol("old", "new")
    put_events(store, event(2))
    assert [len(store.due(sink, 0.0, 9)) for sink in ("old", "new", "never enrolled")] == [2, 1, 2]


def test_a_clock_that_was_put_back_delays_no_delivery_for_long(store: Store) -> None:
    put_events(store, event(1))
    ahead = 1e9
    store.failed("id-1", "hook", "no answer", ahead + 30)
    assert store.due("hook", ahead, 9) == []
    assert len(store.due("hook", ahead - LONGEST_WAIT_S, 9)) == 1


def test_what_a_digest_stands_for_is_never_handed_out_and_never_told_again(store: Store) -> None:
    store.enrol("hook")
    for look in LOOKS:
        store.add_look(look)
    one_pass(store, [], max_alerts=1)
    assert [delivery.event.type for delivery in store.due("hook", 0.0, 9)] == ["digest"]
    store.judge_again()
    one_pass(store, [], max_alerts=1)
    assert [event.type for event in store.events()] == ["digest"]


def test_old_events_are_emptied_once_all_have_them_and_their_ids_stay(store: Store) -> None:
    store.enrol("hook", "mail")
    put_events(store, event(1, day=1), event(2, day=2), event(3, day=8))
    for sink, number in (("hook", 1), ("mail", 1), ("hook", 2)):
        store.delivered(f"id-{number}", sink)
    assert store.forget_events(moment(5)) == 1
    put_events(store, event(1, day=1))
    assert [e.body == {} for e in store.events()] == [True, False, False]


# ---- runs and figures ----


def test_how_it_stands(store: Store) -> None:
    store.put_facts(name=NAME, model_id="abc")
    first = store.begin_run(10.0)
    one_pass(store, LOOKS[:3])
    store.end_run(first, 20.0, "done", {"looks": 3})
    second = store.begin_run(30.0)
    store.end_run(second, 40.0, "failed", message="no network")
    third = store.begin_run(50.0)
    standing = store.standing()
    assert (standing.last_success, standing.newest, standing.facts["model_id"]) == (20.0, LOOKS[2].moment, "abc")
    assert (standing.looks, standing.alerts, standing.events) == ({"used": 3}, {"persistent": 1}, 2)
    assert [(run.run_id, run.ended, run.outcome, dict(run.counts), run.message) for run in store.runs()] == [
        (third, None, None, {}, None),
        (second, 40.0, "failed", {}, "no network"),
        (first, 20.0, "done", {"looks": 3}, None),
    ]
    assert standing.last_run == store.runs()[0]


def test_a_store_belongs_to_one_monitor(store: Store) -> None:
    store.put_facts(name=NAME)
    with pytest.raises(ConfigError, match="is that of monitor 'north-sea'; name another store"):
        store.put_facts(name="south-sea")
    store.put_facts(name=NAME, lattice="{}")
    assert store.facts() == {"name": NAME, "lattice": "{}"}


def test_paths_that_were_looked_at_are_remembered_whatever_their_bytes(store: Store) -> None:
    seen = Seen(path="/in\udcffbox/x.tif", stamp="1 2 3", outcome="refused", code="SceneError", message="is no raster \udcff", attempts=1)
    store.put_seen(seen)
    store.put_seen(replace(seen, attempts=2))
    assert store.seen() == {seen.path: replace(seen, attempts=2, message="is no raster \\udcff")}
    assert store.standing().refused == 1


# ---- schema ----


def test_the_tables_are_those_of_the_migrations(store: Store, schema: str | None) -> None:
    inspector = sa.inspect(store._db.engine)
    assert set(inspector.get_table_names(schema)) == {*METADATA.tables, "alembic_version"}
    for name, table in METADATA.tables.items():
        found = {column["name"]: column["nullable"] for column in inspector.get_columns(name, schema)}
        assert found == {column.name: bool(column.nullable) for column in table.columns}, name
        assert inspector.get_pk_constraint(name, schema)["constrained_columns"] == [column.name for column in table.primary_key]
    with store._db.reading() as connection:
        assert connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar() == HEAD
    assert max(path.name for path in (MIGRATIONS / "versions").glob("v*.py")).startswith(f"v{HEAD}")


def test_a_store_of_a_newer_schema_is_refused_and_left_as_it_is(url: str) -> None:
    with open_store(url) as store, store._db.writing() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(InputError, match=r"has schema 9999, this geoanom reads \d+; use the geoanom that made it"):
        open_store(url)


def test_an_upgrade_that_breaks_off_leaves_nothing(url: str, schema: str | None) -> None:
    database = connect(url)
    with database.writing() as connection:
        for statement in [*([f"CREATE SCHEMA {schema}"] if schema else []), "CREATE VIEW runs AS SELECT 1"]:
            connection.execute(sa.text(statement))
    with pytest.raises(OutputError, match=r"runs.* already exists"):
        open_store(url)
    assert sa.inspect(database.engine).get_table_names(schema) == []
    database.engine.dispose()


def test_geometries_are_postgis_geometries_with_an_index(postgres: Postgres) -> None:
    with open_store(postgres.url("with_postgis")) as store:
        one_pass(store, LOOKS)
    inside = "SELECT count(*) FROM geoanom.alerts WHERE geometry && ST_MakeEnvelope(4.0, 52.0, 4.2, 52.2, 4326)"
    assert postgres.sql(inside, "with_postgis") == "2"
    found = postgres.sql("SELECT DISTINCT ST_SRID(footprint), ST_AsText(footprint) FROM geoanom.looks", "with_postgis")
    assert found.startswith("4326|")
    assert from_wkt(found.partition("|")[2]) == FOOTPRINT
    indexes = postgres.sql("SELECT indexdef FROM pg_indexes WHERE schemaname = 'geoanom' AND indexdef LIKE '%gist%'", "with_postgis")
    assert all(f"geoanom.{table} USING gist" in indexes for table in ("looks", "detections", "alerts"))


def test_two_monitors_share_a_database_in_schemas_of_their_own(postgres: Postgres) -> None:
    with open_store(postgres.new_url()) as one, open_store(postgres.new_url()) as other:
        one_pass(one, LOOKS)
        assert (len(one.alerts()), len(other.alerts())) == (2, 0)
        with one.exclusive(NAME), other.exclusive(NAME):
            pass


def test_both_databases_end_in_the_same_state(postgres: Postgres, tmp_path: Path) -> None:
    with open_store(postgres.new_url()) as one, open_store(str(tmp_path / "s.sqlite")) as other:
        for batch in (LOOKS[3:], LOOKS[:3], LOOKS):
            one_pass(one, batch)
            one_pass(other, batch)
        assert one.alerts() == other.alerts()
        assert one.transitions() == other.transitions()
        assert one.events() == other.events()


# ---- what goes wrong ----


def test_two_runs_at_once_are_kept_apart(url: str) -> None:
    with open_store(url) as one, open_store(url) as other:
        with one.exclusive(NAME):
            with pytest.raises(LockedError, match="another run of monitor 'north-sea' works on it"), other.exclusive(NAME):
                pass
            one_pass(one, LOOKS)
            assert len(other.alerts()) == 2, "who only looks is not kept out"
        with other.exclusive(NAME):
            pass


def test_a_run_that_was_killed_leaves_no_lock(url: str) -> None:
    code = f"""
import os, signal
from geoanom.monitor.store import open_store
with open_store({url!r}) as store, store.exclusive({NAME!r}):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    with open_store(url) as store, store.exclusive(NAME):
        pass


def test_a_run_that_was_killed_while_it_wrote_leaves_what_was_there_before(url: str) -> None:
    with open_store(url) as store:
        one_pass(store, LOOKS[:2])
        alerts = store.alerts()
    code = f"""
import os, signal
from geoanom.monitor.store import open_store
from geoanom.monitor.store.tables import alerts, look_cells, looks
with open_store({url!r}) as store, store._db.writing() as connection:
    for table in (look_cells, looks, alerts):
        connection.execute(table.delete())
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    with open_store(url) as store:
        assert all(map(same_look, store.looks(), LOOKS[:2]))
        assert (len(store.entries()), store.alerts()) == (2, alerts)
        one_pass(store, LOOKS)
        assert len(store.alerts()) == 2


def test_a_database_that_another_program_holds_is_one_line_and_nothing_half_written(url: str) -> None:
    with open_store(url, patience_s=0.1) as store:
        one_pass(store, LOOKS[:2])
        alerts = store.alerts()
        with held(url), pytest.raises(LockedError, match="another program holds the store") as caught:
            store.add_look(LOOKS[2])
        assert "\n" not in str(caught.value)
        assert PASSWORD not in str(caught.value)
        assert (len(store.entries()), store.alerts()) == (2, alerts)
        one_pass(store, LOOKS[2:])
        assert len(store.alerts()) == 2


def stop_while_writing(store: Store, server: Postgres) -> None:
    with store._db.writing() as connection:
        connection.execute(look_cells.delete())
        server.stop()
        connection.execute(look_cells.delete())


def test_a_server_that_stops_in_mid_run_is_one_line_and_nothing_is_half_written(postgres: Postgres) -> None:
    with open_store(postgres.new_url()) as store:
        one_pass(store, LOOKS[:2])
        with pytest.raises(OutputError, match="cannot be used") as caught:
            stop_while_writing(store, postgres)
        assert "\n" not in str(caught.value)
        assert PASSWORD not in str(caught.value)
        with pytest.raises(OutputError, match="refused"):
            store.add_look(LOOKS[2])
        postgres.start()
        assert [len(look.cells.valid) for look in store.looks()] == [12, 12]
        one_pass(store, LOOKS)
        assert len(store.alerts()) == 2


def test_a_run_whose_lock_went_with_its_connection_writes_no_more(postgres: Postgres) -> None:
    with open_store(postgres.new_url()) as store, store.exclusive(NAME):
        store.add_look(LOOKS[0])
        postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        with pytest.raises(OutputError, match="cannot be used"):
            store.add_look(LOOKS[1])
        assert len(store.entries()) == 1


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_what_is_no_store_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.sqlite"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is damaged, or not a store"):
        open_store(str(path))
    assert path.read_bytes() == content


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    with pytest.raises(InputError, match="holds tables of another program"):
        open_store(f"sqlite:///{path}")


def test_a_store_that_must_exist_is_not_made(url: str, tmp_path: Path, schema: str | None) -> None:
    with pytest.raises(InputError, match="there is no such store; run geoanom monitor run first"):
        open_store(url, must_exist=True)
    assert list(tmp_path.iterdir()) == []
    if schema is not None:
        database = connect(url)
        with database.reading() as connection:
            assert schema not in sa.inspect(connection).get_schema_names()
        database.engine.dispose()


def test_urls_that_cannot_be_used_say_so_without_their_passwords(tmp_path: Path, postgres: Postgres) -> None:
    wrong = {
        f"mysql://me:{PASSWORD}@host/db": ConfigError,
        f"nonsense://{PASSWORD}": ConfigError,
        f"postgresql://me:{PASSWORD}@127.0.0.1:notaport/db": ConfigError,
        f"postgresql://me:s3cret-wrong@127.0.0.1:{postgres.port}/db": OutputError,
        f"{postgres.url('nowhere')}?password={PASSWORD[:6]}": OutputError,
        f"{postgres.url()}?schema=no-name": ConfigError,
        str(tmp_path / "no" / "such" / "folder.sqlite"): OutputError,
    }
    for url, kind in wrong.items():
        with pytest.raises(kind) as caught:
            open_store(url)
        assert "s3cret" not in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no such store"):
        open_store(str(tmp_path / "none.sqlite"), must_exist=True)
    assert list(tmp_path.iterdir()) == []


def test_a_database_without_postgis_says_what_to_do(postgres: Postgres) -> None:
    database = "without_postgis"
    postgres.sql(f"CREATE ROLE plain LOGIN PASSWORD 'x'; GRANT CREATE ON DATABASE {database} TO plain")
    url = f"postgresql://plain:x@127.0.0.1:{postgres.port}/{database}"
    with pytest.raises(ConfigError, match="has no PostGIS; let its administrator"):
        open_store(url)
    postgres.sql("CREATE EXTENSION postgis", database)
    open_store(url).close()


def test_a_disk_without_space_is_an_error_of_the_output(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "state.sqlite")) as store:
        one_pass(store, LOOKS[:2])
        with store._db.engine.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        rng = np.random.default_rng(0)
        cells = replace(LOOKS[2].cells, descriptor=rng.random((12, 12, 200), np.float32))
        with pytest.raises(OutputError, match="full"):
            store.add_look(replace(LOOKS[2], cells=cells))
        assert len(store.entries()) == 2


@contextmanager
def without_rights() -> Iterator[None]:
    """As a user who may not write everywhere, if root runs the tests."""
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(mine)


def test_a_file_that_may_not_be_written_is_an_error_of_the_output() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.sqlite"
        open_store(str(path)).close()
        path.chmod(0o444)
        Path(folder).chmod(0o555)
        with without_rights(), pytest.raises(OutputError, match="readonly"), open_store(str(path)) as store:
            store.add_look(LOOKS[0])


def test_our_own_errors_pass_as_they_are() -> None:
    with pytest.raises(SceneError, match=r"^x: y$"), plain_errors("store"):
        raise SceneError("x", "y")

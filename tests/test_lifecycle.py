"""What becomes of places depends on what was seen and when, and on nothing else; and each step is told once."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from small_world import ALL, NAME, RULES, Memory, block, history_of, judge, judged, look_of, moment, series, taken_up

from geoanom.monitor.events import names_of
from geoanom.monitor.folding import fold
from geoanom.monitor.history import shown_transitions
from geoanom.monitor.lifecycle import BLOCK, History, LifecycleRules, Transition, Verdict, advance, alert_id_of, anchor_of, replay
from geoanom.monitor.store import open_store
from geoanom.monitor.values import Alert, Cell, Judgement, Look

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

NOTHING = look_of(0)
"""The first look: nothing stands there yet."""
SHIP = block(0, 5)


def only(history: History) -> Alert:
    (alert,) = history.alerts
    return alert


def steps(history: History) -> list[tuple[str | None, str, str]]:
    return [(move.before, move.after, move.moment[:10]) for move in history.transitions]


# ---- the course of one alert ----


def test_a_thing_that_comes_stays_and_goes_is_new_persistent_and_resolved() -> None:
    looks = [NOTHING, look_of(1, SHIP), look_of(2, SHIP), look_of(3), look_of(4)]
    history = history_of(looks)
    assert steps(history) == [(None, "new", "2024-05-02"), ("new", "persistent", "2024-05-03"), ("persistent", "resolved", "2024-05-05")]
    alert = only(history)
    assert (alert.status, alert.confidence, alert.families) == ("resolved", "high", ("change",))
    assert (alert.first_detected, alert.last_detected, alert.last_observed) == (moment(1), moment(2), moment(4))
    assert (alert.n_detections, alert.n_valid_observations, alert.n_clear) == (2, 4, 2)
    assert alert.alert_id == alert_id_of(NAME, anchor_of(frozenset(SHIP)), 1)


def test_two_looks_on_one_day_are_not_two_independent_dates() -> None:
    alert = only(history_of([NOTHING, look_of(1, SHIP, hour=1), look_of(1, SHIP, hour=20)]))
    assert (alert.status, alert.confidence, alert.n_detections) == ("new", "nominal", 2)
    alert = only(history_of([NOTHING, look_of(1, SHIP), look_of(2, hour=1), look_of(2, hour=20)]))
    assert (alert.status, alert.n_clear) == ("new", 2)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_rules_say_how_many_days_it_takes(n: int) -> None:
    rules = LifecycleRules(confirm_after=n, resolve_after=n)
    for days in range(1, 5):
        seen = [NOTHING, *(look_of(day, SHIP) for day in range(1, days + 1))]
        alert = only(history_of(seen, rules=rules))
        assert alert.status == ("persistent" if days >= n else "new")
        assert (alert.confidence == "nominal") == (days < max(2, n)), "one day is never two independent ones"
        for clear in range(1, 5):
            gone = [*seen, *(look_of(day) for day in range(days + 1, days + 1 + clear))]
            assert (only(history_of(gone, rules=rules)).status == "resolved") == (clear >= n)


def test_an_alert_that_is_persistent_at_once_is_one_step() -> None:
    history = history_of([NOTHING, look_of(1, SHIP)], rules=LifecycleRules(confirm_after=1))
    assert steps(history) == [(None, "persistent", "2024-05-02")]


def test_two_families_of_detectors_make_the_confidence_highest() -> None:
    strong = {(row, col) for row, col in block(1, 5) if row % 3 == 2}
    assert only(history_of([NOTHING, look_of(1, strong)])).confidence == "nominal"
    assert only(history_of([NOTHING, look_of(1, strong), look_of(2, strong)])).confidence == "highest"


@given(series(), st.integers(0, 12), st.integers(4, 23))
def test_a_look_through_clouds_neither_confirms_nor_resolves(looks: list[Look], day: int, hour: int) -> None:
    cloudy = look_of(day, hour=hour, clouds=ALL)
    with_cloud = [*judged(looks), Judgement(look=cloudy, detections=())]
    ordered = sorted(with_cloud, key=lambda judgement: judgement.look.order)
    assert replay(ordered, RULES, monitor=NAME).alerts == history_of(looks).alerts


@given(series(), st.integers(0, 12), st.integers(4, 23))
def test_a_suspect_look_changes_nothing(looks: list[Look], day: int, hour: int) -> None:
    suspect = Judgement(look=look_of(day, hour=hour), detections=(), suspect="haze")
    ordered = sorted([*judged(looks), suspect], key=lambda judgement: judgement.look.order)
    told = replay(ordered, RULES, monitor=NAME)
    assert (told.alerts, told.transitions) == (history_of(looks).alerts, history_of(looks).transitions)


@pytest.mark.parametrize(("hidden", "observed"), [(0, True), (1, True), (2, True), (3, False), (4, False)])
def test_half_of_the_place_must_be_seen(hidden: int, *, observed: bool) -> None:
    later = look_of(2, clouds=sorted(SHIP)[:hidden])
    assert (only(history_of([NOTHING, look_of(1, SHIP), later])).n_clear == 1) is observed


def test_a_place_that_is_not_seen_at_all_is_not_clear_whatever_the_rules_ask_for() -> None:
    rules = LifecycleRules(min_valid_fraction=0)
    looks = [NOTHING, look_of(1, SHIP), look_of(2, clouds=SHIP), look_of(3, clouds=SHIP)]
    assert (only(history_of(looks, rules=rules)).status, only(history_of(looks, rules=rules)).n_clear) == ("new", 0)
    assert only(history_of([*looks, look_of(4, clouds=sorted(SHIP)[1:])], rules=rules)).n_clear == 1


def test_a_look_that_the_model_was_fitted_on_ends_nothing(tmp_path: Path) -> None:
    looks = [NOTHING, look_of(1, SHIP), look_of(2), look_of(3)]
    with open_store(str(tmp_path / "state.sqlite")) as store:
        for look in looks:
            store.add_look(look)
        for fitted, status in (((), "resolved"), ({looks[2].digest, looks[3].digest}, "new")):
            told = fold(store, ("", ""), NAME, RULES, judge=lambda look, *_: judge(looks[:1], look), fitted=fitted, stop=lambda: False)
            assert told is not None
            assert only(told.history).status == status


def test_a_look_elsewhere_has_not_seen_the_place() -> None:
    elsewhere = look_of(2)
    elsewhere = replace(elsewhere, cells=replace(elsewhere.cells, row=1000))
    shifted = replace(look_of(3), cells=replace(look_of(3).cells, row=1))  # its first row is the second of the ship's
    judgements = [*judged([NOTHING, look_of(1, SHIP)]), Judgement(look=elsewhere, detections=()), Judgement(look=shifted, detections=())]
    assert only(replay(judgements[:3], RULES)).n_valid_observations == 1
    assert only(replay(judgements, RULES)).n_valid_observations == 2


def test_what_comes_back_is_a_new_event_with_a_new_id() -> None:
    looks = [NOTHING, look_of(1, SHIP), look_of(2), look_of(3), look_of(4, SHIP)]
    first, second = history_of(looks).alerts
    assert (first.status, second.status) == ("resolved", "new")
    assert second.alert_id == alert_id_of(NAME, anchor_of(frozenset(SHIP)), 2) != first.alert_id


def test_a_detection_begins_the_count_of_clear_looks_anew() -> None:
    alert = only(history_of([NOTHING, look_of(1, SHIP), look_of(2), look_of(3, SHIP), look_of(4)]))
    assert (alert.status, alert.n_clear, alert.n_valid_observations) == ("persistent", 1, 4)


# ---- whose detection it is ----


@given(st.tuples(st.integers(-5, 4), st.integers(3, 12)), st.tuples(st.integers(-5, 4), st.integers(3, 12)))
def test_a_detection_belongs_to_an_alert_that_it_touches_in_eight_directions(one: Cell, other: Cell) -> None:
    history = history_of([NOTHING, look_of(1, {one}), look_of(2, {other})])
    touches = max(abs(one[0] - other[0]), abs(one[1] - other[1])) <= 1
    assert len(history.alerts) == (1 if touches else 2)
    if touches:
        assert only(history).cells == {one, other}
        assert only(history).n_detections == 2


def test_a_detection_over_several_alerts_goes_to_the_largest_overlap_and_is_seen_at_the_others_it_covers() -> None:
    small, large, beside = {(0, 3)}, block(0, 5, 3), {(4, 6)}
    bridge = {(0, col) for col in range(3, 8)} | {(1, 6), (2, 6)}
    looks = [NOTHING, look_of(1, small | large | beside), look_of(2, bridge)]
    by_cells = {alert.cells: alert for alert in history_of(looks).alerts}
    assert set(by_cells) == {frozenset(small), frozenset(large | bridge), frozenset(beside)}
    assert by_cells[frozenset(small)].status == by_cells[frozenset(large | bridge)].status == "persistent"
    assert by_cells[frozenset(beside)].n_clear == 1, "touched, but not covered"


def test_several_detections_on_one_alert_are_one_detection() -> None:
    bar = {(0, col) for col in range(3, 10)}
    ends = {(0, 3), (0, 9)}
    alert = only(history_of([NOTHING, look_of(1, bar), look_of(2, ends)]))
    assert (alert.n_detections, set(alert.cells)) == (2, bar)


def test_of_equal_overlaps_the_alert_that_began_first_takes_it() -> None:
    left, right = {(0, 4)}, {(0, 6)}
    looks = [NOTHING, look_of(1, right), look_of(2, right | left), look_of(3, {(0, 5)})]
    cells = {alert.cells for alert in history_of(looks).alerts}
    assert cells == {frozenset({(0, 4)}), frozenset({(0, 5), (0, 6)})}


def test_the_strongest_detection_gives_the_outline() -> None:
    weak, strong = {(0, 5)}, {(1, 5), (1, 6)}
    looks = [NOTHING, look_of(1, weak), look_of(2, strong), look_of(3, weak)]
    alert = only(history_of(looks))
    outline = judge([NOTHING], looks[2]).detections[0].geometry
    assert alert.geometry == outline
    assert (alert.score, alert.max_score) == (0.4, 0.5)


# ---- the fold ----


@given(series(), st.sets(st.integers(0, 8)))
def test_a_history_that_was_left_and_taken_up_goes_on_as_if_it_had_not_been(looks: list[Look], breaks: set[int]) -> None:
    whole = history_of(looks)
    history, moves = History(monitor=NAME), list[Transition]()
    for number, judgement in enumerate(judged(looks)):
        history = advance(history, judgement, RULES)
        if number in breaks:
            moves += history.moves
            history = taken_up(history)
    assert (history.alerts, (*moves, *history.moves)) == (whole.alerts, whole.moves)


@given(series())
def test_the_log_tells_every_state_that_led_to_the_last(looks: list[Look]) -> None:
    history = history_of(looks)
    assert {place.alert.alert_id: place for place in history.log} == dict(history.places)
    for name, place in history.places.items():
        course = [move for move in history.moves if move.alert_id == name]
        assert [move.before for move in course] == [None, *(move.after for move in course[:-1])]
        assert course[-1].after == place.alert.status


@given(series())
def test_counts_agree_with_each_other(looks: list[Look]) -> None:
    for alert in history_of(looks).alerts:
        assert 1 <= alert.n_detections <= alert.n_valid_observations <= len(looks)
        assert alert.n_clear <= alert.n_valid_observations - alert.n_detections
        assert alert.first_detected <= alert.last_detected <= alert.last_observed
        assert alert.score <= alert.max_score
        assert (alert.status == "resolved") <= (alert.n_clear >= RULES.resolve_after)


def test_looks_are_taken_in_order() -> None:
    later, earlier = judged([NOTHING, look_of(2, SHIP)])[1], judged([NOTHING])[0]
    with pytest.raises(ValueError, match="in order"):
        replay([later, earlier], RULES)


@given(st.sets(st.tuples(st.integers(-20, 20), st.integers(-20, 20)), min_size=1), st.integers(-3, 3), st.integers(-3, 3))
def test_anchors_move_with_the_lattice_of_blocks(cells: set[Cell], down: int, right: int) -> None:
    row, col = anchor_of(frozenset(cells))
    moved = frozenset((r + BLOCK * down, c + BLOCK * right) for r, c in cells)
    assert anchor_of(moved) == (row + down, col + right)
    assert row * BLOCK <= sorted(r for r, _ in cells)[len(cells) // 2] < (row + 1) * BLOCK


# ---- what people say ----


def test_what_is_dismissed_stays_dismissed_and_silent_while_it_is_there_and_is_news_when_it_comes_back() -> None:
    memory = Memory()
    (event,) = memory.see(NOTHING, look_of(1, SHIP)).events
    name = str(event.body["data"]["alert_id"])
    memory.verdicts[name] = Verdict(alert_id=name, verdict="dismissed", moment=moment(1, 23))
    for day in (2, 3):
        telling = memory.see(look_of(day, SHIP))
        assert (only(telling.history).status, telling.events) == ("dismissed", ())
    assert [move.after for move in telling.history.transitions] == ["new", "dismissed"]
    assert memory.see(look_of(4), look_of(5)).events == ()
    (event,) = memory.see(look_of(6, SHIP)).events
    assert (event.type, event.body["data"]["status"]) == ("alert.new", "new")
    assert event.body["data"]["alert_id"] != name


@given(series(), st.integers(0, 12))
def test_a_dismissal_is_the_last_step_of_its_alert_and_moves_no_other(looks: list[Look], day: int) -> None:
    plain = history_of(looks)
    for alert in plain.alerts[:1]:
        verdict = Verdict(alert_id=alert.alert_id, verdict="dismissed", moment=moment(day, 23))
        told = history_of(looks, {alert.alert_id: verdict})
        assert {a.alert_id: a.status for a in told.alerts} == {a.alert_id: "dismissed" if a == alert else a.status for a in plain.alerts}
        assert [move for move in told.transitions if move.alert_id == alert.alert_id][-1].after in {"dismissed", "new"}
        assert [move for move in told.transitions if move.alert_id != alert.alert_id] == [
            move for move in plain.transitions if move.alert_id != alert.alert_id
        ]


def test_a_confirmation_changes_no_status() -> None:
    looks = [NOTHING, look_of(1, SHIP)]
    alert = only(history_of(looks))
    verdict = Verdict(alert_id=alert.alert_id, verdict="confirmed", moment=moment(2))
    assert history_of(looks, {alert.alert_id: verdict}).alerts == (alert,)
    assert shown_transitions(history_of(looks).moves, {alert.alert_id: verdict}) == history_of(looks).moves


# ---- what is told ----


@given(series(), st.randoms(use_true_random=False), st.integers(1, 8))
def test_each_step_is_told_once_however_looks_arrive(looks: list[Look], random: Random, batch: int) -> None:
    memory, arriving = Memory(), random.sample(looks, len(looks)) + looks[:2]
    for first in range(0, len(arriving), batch):
        telling = memory.see(*arriving[first : first + batch])
    ids = [event.event_id for event in memory.events]
    assert len(set(ids)) == len(ids)
    begun = [event.body["data"]["alert_id"] for event in memory.events if event.type == "alert.new"]
    assert len(set(begun)) == len(begun)
    assert set(begun) >= set(telling.names.values()), "nobody speaks of an alert that was not told as new"
    assert len(set(telling.names.values())) == len(telling.names)
    assert telling.history.alerts == history_of(looks).alerts


@given(series())
def test_the_same_pass_tells_the_same(looks: list[Look]) -> None:
    assert Memory().see(*looks) == Memory().see(*looks[::-1])


def test_a_message_says_where_and_what() -> None:
    event = Memory().see(NOTHING, look_of(1, SHIP)).events[0]
    assert dict(event.body) | {"data": None} == {"type": "alert.new", "id": event.event_id, "timestamp": moment(1), "data": None}
    data = event.body["data"]
    assert json.loads(json.dumps(data)) == data
    wanted = "alert_id status confidence lon lat geometry score first_detected last_detected n_detections scene area monitor"
    assert set(wanted.split()) <= set(data)
    outline = shapely.from_geojson(json.dumps(data["geometry"]))
    assert outline.contains(shapely.Point(data["lon"], data["lat"]))
    coordinates = shapely.get_coordinates(outline)
    assert np.array_equal(coordinates, coordinates.round(7))
    assert outline.equals_exact(judge([NOTHING], look_of(1, SHIP)).detections[0].geometry, 1e-7, normalize=True)


def test_a_suspect_scene_is_one_event() -> None:
    memory = Memory()
    assert [event.type for event in memory.see(NOTHING, look_of(1, ALL)).events] == ["scene.suspect"]
    (event,) = memory.events
    assert event.body["data"]["reason"].startswith("most of it")
    assert memory.see(look_of(2)).events == ()


def test_a_late_scene_that_renames_an_alert_sends_no_second_message_and_the_name_stays() -> None:
    """The bar was first seen at its right end; a late scene shows that it had begun at the left."""
    memory = Memory()
    first = memory.see(NOTHING, look_of(3, block(0, 9)))
    (told,) = first.names.values()
    late = memory.see(look_of(2, {(0, col) for col in range(3, 10)}))
    assert only(late.history).alert_id != only(first.history).alert_id
    assert late.names == {only(late.history).alert_id: told}
    assert [event.type for event in late.events] == ["alert.persistent"]
    assert late.events[0].body["data"]["alert_id"] == told
    gone = memory.see(look_of(4), look_of(5))
    assert [(event.type, event.body["data"]["alert_id"]) for event in gone.events] == [("alert.resolved", told)]


def test_a_late_scene_with_an_event_before_one_that_was_told_does_not_take_its_name() -> None:
    """Both are of one place: what was the first event there becomes the second, and the late one gets a name of its own."""
    memory = Memory()
    memory.see(NOTHING, look_of(8, SHIP))
    (told,) = memory.named
    telling = memory.see(look_of(1, SHIP), look_of(2), look_of(3))
    early, late = telling.history.alerts
    assert (early.alert_id, telling.names[late.alert_id]) == (told, told)
    assert telling.names[early.alert_id] not in {early.alert_id, late.alert_id}
    assert [event.body["data"]["alert_id"] for event in memory.events if event.type == "alert.new"] == [told, telling.names[early.alert_id]]


def test_people_hear_that_nothing_is_left_of_an_alert() -> None:
    memory = Memory()
    ship = look_of(1, SHIP)
    memory.see(NOTHING, ship)
    (event,) = memory.lose(ship).events
    assert (event.type, event.body["data"]["status"]) == ("alert.resolved", "resolved")
    assert event.body["data"]["reason"].startswith("withdrawn")
    assert memory.see().events == ()


def test_who_keeps_an_id_keeps_its_name_though_another_shares_more_cells() -> None:
    bearer = only(history_of([NOTHING, look_of(1, SHIP)]))
    kept = replace(bearer, cells=frozenset(sorted(SHIP)[:1]))
    other = replace(bearer, alert_id="other")
    assert names_of({"told": bearer}, [other, kept]) == {kept.alert_id: "told", "other": "other"}
    assert names_of({"told": bearer}, [other, replace(kept, alert_id="third")]) == {"other": "told", "third": "third"}


@given(series(), series())
def test_names_are_one_to_one_and_stay(before: list[Look], after: list[Look]) -> None:
    old = history_of(before).alerts
    names = names_of({f"name of {alert.alert_id}": alert for alert in old}, history_of(after).alerts)
    assert set(names) == {alert.alert_id for alert in history_of(after).alerts}
    assert len(set(names.values())) == len(names)
    assert names_of({f"name of {alert.alert_id}": alert for alert in old}, old) == {
        alert.alert_id: f"name of {alert.alert_id}" for alert in old
    }


def test_too_many_new_alerts_are_told_in_one_digest() -> None:
    things = {(row, col) for row in range(-5, 7, 3) for col in range(3, 15, 3)}
    memory = Memory(max_alerts=15)
    telling = memory.see(NOTHING, look_of(1, things), look_of(2, things))
    (event,) = telling.events
    assert event.type == "digest"
    assert (event.body["data"]["count"], len(telling.folded)) == (16, 32)
    listed = event.body["data"]["alerts"]
    assert {entry["alert_id"] for entry in listed} == set(telling.names.values())
    assert {entry["status"] for entry in listed} == {"persistent"}
    assert {"lon", "lat", "score"} <= set(listed[0])
    assert memory.see(look_of(3, things)).events == ()
    assert {event.type for event in memory.see(look_of(4), look_of(5)).events} == {"alert.resolved"}
    assert Memory(max_alerts=16).see(NOTHING, look_of(1, things)).folded == ()

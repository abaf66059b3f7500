"""How a monitor tells news from seasons, light, clouds and noise."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seasons import CORNER, LATTICE, N_BANDS, Shelf, World, block, found_in, look_of
from shapely import box

from geoanom.monitor import past
from geoanom.monitor.areas import Areas, WatchedArea
from geoanom.monitor.judging import judge
from geoanom.monitor.rulebook import rules_digest
from geoanom.monitor.settings import Monitor, Rules, Scenes
from geoanom.monitor.store import open_store

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from geoanom.monitor.values import Cell, Cells, Judgement, Look

RULES = Rules()
THING = block(12, 8)
"""In a calm place."""
EVERY = 12
"""Days between looks."""


@cache
def world(seed: int = 0) -> World:
    return World(seed=seed, side=24)


@cache
def years_ago(n: int = 10) -> tuple[Look, ...]:
    return tuple(world().look(day * EVERY, seasons=False) for day in range(n))


def follow(looks: Iterable[Look], *, freeze: bool = True) -> list[Judgement]:
    """Judge looks one after the other; alerts stay open until two looks in a row have found nothing of them."""
    shelf, frozen, clear, found = Shelf(), dict[tuple[int, int], str](), dict[tuple[int, int], int](), []
    for look in looks:
        judgement = judge(look, shelf, RULES, LATTICE, frozen=frozen if freeze else {})
        shelf.add(look, "suspect" if judgement.suspect else "used")
        now = {cell for detection in judgement.detections for cell in detection.cells}
        clear = {cell: 0 if cell in now else clear.get(cell, 0) + 1 for cell in {*frozen, *now}}
        frozen = {cell: frozen.get(cell, look.moment) for cell in clear if clear[cell] < 2}
        found.append(judgement)
    return found


def told(judgement: Judgement) -> object:
    return [(d.cells, d.p_value, d.score, d.families, d.reason, d.area, d.geometry.wkt) for d in judgement.detections], judgement.suspect


def test_where_nothing_happens_there_is_hardly_ever_news() -> None:
    alarmed = looks = 0
    for seed in (0, 1):
        found = follow((World(seed=seed, side=20).look(day * EVERY, seasons=False) for day in range(4, 19)), freeze=False)
        alarmed, looks = alarmed + sum(bool(j.detections or j.suspect) for j in found), looks + len(found)
    print(f"{alarmed} of {looks} looks with news where nothing happens")
    assert alarmed <= 0.04 * looks


def test_a_thing_is_news_on_its_date_is_found_while_it_stays_and_not_once_it_has_gone() -> None:
    days = [day * EVERY for day in range(26)]
    there = range(12, 20)
    found = follow(world().look(day, things=THING if i in there else (), seasons=False) for i, day in enumerate(days))
    for i, judgement in enumerate(found):
        assert (found_in(judgement) & THING == THING) == (i in there), i
        assert not found_in(judgement) - THING
        assert judgement.suspect is None


def test_without_the_memory_from_before_the_alert_what_stays_would_become_normal() -> None:
    found = follow((world().look(day * EVERY, things=THING if day >= 8 else (), seasons=False) for day in range(20)), freeze=False)
    assert found_in(found[8]) >= THING
    assert not found_in(found[-1])


def test_a_field_that_is_harvested_each_august_is_no_news_in_its_third_august() -> None:
    field = block(12, 8, 4, 4)
    looks = {day: world().look(day, things=field if 213 <= day % 365 <= 260 else ()) for day in range(0, 3 * 365, 20)}
    shelf = Shelf(looks.values())
    augusts = [[day for day in looks if day // 365 == year and 213 <= day % 365 <= 260] for year in range(3)]
    found = [[found_in(judge(looks[day], shelf, RULES, LATTICE)) & field for day in days] for days in augusts]
    assert any(found[0])
    assert not any(found[2])
    bare = world().look(augusts[2][0] - 60, things=field)
    assert found_in(judge(bare, shelf, RULES, LATTICE)) & field, "a harvest in June is news"


def test_what_was_never_there_in_summer_is_news_in_summer_though_winters_know_it() -> None:
    snow = THING
    days = [*range(0, 3 * 365, 30)]
    shelf = Shelf(world().look(day, things=snow if day % 365 < 60 or day % 365 > 320 else (), seasons=False) for day in days)
    rules = RULES.model_copy(update={"season": 60})
    summer = judge(world().look(3 * 365 + 195, things=snow, seasons=False), shelf, rules, LATTICE)
    winter = judge(world().look(3 * 365 + 10, things=snow, seasons=False), shelf, rules, LATTICE)
    assert found_in(summer) >= snow
    assert "this season" in summer.detections[0].reason
    assert not found_in(winter)


def test_a_covered_cell_is_neither_news_nor_memory() -> None:
    shelf = Shelf(years_ago())
    clouded = judge(world().look(200, things=THING, clouds=THING, seasons=False), shelf, RULES, LATTICE)
    assert not clouded.detections
    assert clouded.suspect is None
    below = Shelf(world().look(day * EVERY, clouds=THING, seasons=False) for day in range(10))
    assert not judge(world().look(200, things=THING, seasons=False), below, RULES, LATTICE).detections


@pytest.mark.parametrize("half", [block(0, 0, 24, 12), block(12, 0, 12, 24)])
def test_clouds_over_half_of_the_scene_call_nothing_and_hide_nothing_beside_them(half: set[Cell]) -> None:
    thing = block(4, 18)
    shelf = Shelf(years_ago())
    quiet = judge(world().look(203, clouds=half, seasons=False), shelf, RULES, LATTICE)
    loud = judge(world().look(203, clouds=half - thing, things=thing - half, size=12, seasons=False), shelf, RULES, LATTICE)
    assert not quiet.detections
    assert quiet.suspect is None
    assert found_in(loud) >= thing - half


def test_what_no_scene_shows_hides_nothing_but_a_cloud_does() -> None:
    """Scenes that are clipped to a corridor, a fifth of them within it."""
    corridor = block(0, 8, 24, 5)
    outside = block(0, 0, 24, 24) - corridor
    shelf = Shelf(world().look(day * EVERY, clouds=outside, seasons=False) for day in range(10))
    thing = THING - outside
    assert found_in(judge(world().look(200, things=thing, size=20, clouds=outside, seasons=False), shelf, RULES, LATTICE)) & thing
    beside = outside | block(12, 10, 2, 2)
    assert not found_in(judge(world().look(200, things=thing, size=20, clouds=beside, seasons=False), shelf, RULES, LATTICE)) & thing


def test_only_what_was_compared_with_a_memory_counts_as_seen() -> None:
    look, shelf = world().look(200, clouds=block(0, 0), seasons=False), Shelf(years_ago())
    row, col = min(THING)
    frozen = {(row + CORNER[0], col + CORNER[1]): years_ago()[RULES.min_history - 1].moment}
    known = judge(look, shelf, RULES, LATTICE, frozen=frozen).look.cells.valid > 0
    assert {*zip(*np.nonzero(~known), strict=True)} == {(row, col), *block(0, 0)}, "too few looks before the alert"
    scrap = world().look(200, clouds=block(0, 0, 24, 24) - block(12, 8, 4, 4), seasons=False)
    assert not judge(scrap, shelf, RULES, LATTICE).look.cells.valid.any()
    assert scrap.cells.valid.any(), "the look itself is as it was"


def test_what_no_judgement_depends_on_does_not_judge_again() -> None:
    monitor = Monitor(name="north-sea", scenes=Scenes(path="inbox"), fit_on_first=1)
    kept = {name: monitor.model_copy(update={"rules": RULES.model_copy(update={name: 7})}) for name in Rules.model_fields}
    told_apart = {name for name, changed in kept.items() if rules_digest(changed) != rules_digest(monitor)}
    assert told_apart == {*Rules.model_fields} - {"max_alerts_per_run", "cell_px"}


def test_haze_makes_a_look_suspect_and_leaves_the_memory_as_it_was() -> None:
    def haze(values: NDArray[np.float64]) -> NDArray[np.float64]:
        veil = values.copy()
        veil[..., :N_BANDS] = 0.5 * values[..., :N_BANDS] + 80
        veil[..., N_BANDS:] *= 0.6
        return veil

    shelf, unhazed = Shelf(years_ago()), Shelf(years_ago())
    hazy = judge(world().look(200, things=THING, change=haze, seasons=False), shelf, RULES, LATTICE)
    assert hazy.suspect is not None
    assert "haze" in hazy.suspect
    assert not hazy.detections
    shelf.judged(hazy)
    later = world().look(212, things=THING, seasons=False)
    assert told(judge(later, shelf, RULES, LATTICE)) == told(judge(later, unhazed, RULES, LATTICE))
    assert found_in(judge(later, shelf, RULES, LATTICE)) >= THING


def veiled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Half of the contrast, brighter, and with less structure."""
    changed = values * 0.6
    changed[..., :N_BANDS] = 0.5 * values[..., :N_BANDS] + 80
    return changed


def test_what_is_suspect_long_enough_is_how_the_place_looks_from_then_on() -> None:
    there = range(12 + past.LASTING, 15 + past.LASTING)
    days = range(16 + past.LASTING)
    looks = [
        world().look(i * 3, change=veiled if i >= 10 else None, things=THING if i in there else (), size=12, seasons=False) for i in days
    ]
    found = follow(looks)
    assert [judgement.suspect is not None for judgement in found] == [10 <= i < 10 + past.LASTING for i in days]
    assert [found_in(judgement) >= THING for judgement in found] == [i in there for i in days]
    assert all(found_in(judgement) <= (block(11, 7, 4, 4) if i in there else set()) for i, judgement in enumerate(found))


def test_a_new_normal_is_guarded_and_forgets_nothing_of_the_old_one() -> None:
    def shifted(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.roll(veiled(values), (9, 7), (0, 1))

    shelf = Shelf(years_ago())
    for i in range(past.LASTING):
        shelf.add(world().look((10 + i) * EVERY, change=veiled, seasons=False), "suspect")
    assert judge(world().look(300, change=shifted, seasons=False), shelf, RULES, LATTICE).suspect is not None
    assert judge(world().look(300, change=veiled, seasons=False), shelf, RULES, LATTICE).suspect is None
    assert told(judge(world().look(300, seasons=False), shelf, RULES, LATTICE)) == ([], None)


@pytest.mark.parametrize("broken", [False, True])
def test_suspect_looks_last_only_if_no_other_comes_between(*, broken: bool) -> None:
    shelf = Shelf(years_ago())
    for i in range(past.LASTING):
        shelf.add(world().look((10 + i) * EVERY, change=veiled, seasons=False), "suspect")
    if broken:
        shelf.add(world().look(11 * EVERY + 1, seasons=False))
    judgement = judge(world().look(300, change=veiled, seasons=False), shelf, RULES, LATTICE)
    assert (judgement.suspect is not None) is broken


@pytest.mark.parametrize(("what", "word"), [("place", "resembles"), ("level", "brighter"), ("stripes", "depart")])
def test_a_wrong_place_another_calibration_and_a_bad_sensor_are_told_in_words(what: str, word: str) -> None:
    def spoilt(values: NDArray[np.float64]) -> NDArray[np.float64]:
        changed = values.copy()
        if what == "place":
            changed = np.roll(values, (9, 7), (0, 1))
        elif what == "level":
            changed[..., 1] += 50
        else:
            changed[::2, :, :N_BANDS] += 15
        return changed

    judgement = judge(world().look(200, change=spoilt, seasons=False), Shelf(years_ago()), RULES, LATTICE)
    assert judgement.suspect is not None
    assert word in judgement.suspect
    assert "\n" not in judgement.suspect


@given(order=st.permutations(range(10)), late=st.integers(0, 9))
@settings(max_examples=5)
def test_the_order_of_arrival_and_what_came_later_do_not_matter(order: list[int], late: int) -> None:
    look = world().look(130, things=THING, seasons=False)
    inorder = Shelf(years_ago())
    shuffled = Shelf([years_ago()[i] for i in order])
    shuffled.add(world().look(400 + late, things=block(0, 0, 20, 20), seasons=False))
    assert told(judge(look, shuffled, RULES, LATTICE)) == told(judge(look, inorder, RULES, LATTICE))


@given(gain=st.sampled_from([0.65, 1.0, 1.5]), offset=st.floats(-8, 8))
@settings(max_examples=5)
def test_the_light_of_a_scene_calls_nothing_and_hides_nothing(gain: float, offset: float) -> None:
    shelf = Shelf(years_ago())
    quiet = judge(world().look(131, gain=gain, offset=offset - 100 * (gain - 1), seasons=False), shelf, RULES, LATTICE)
    loud = judge(
        world().look(131, gain=gain, offset=offset - 100 * (gain - 1), things=THING, size=4.5, seasons=False), shelf, RULES, LATTICE
    )
    assert not quiet.detections
    assert found_in(loud) == THING


def test_a_place_is_learned_before_anything_is_news() -> None:
    look = world().look(200, things=THING, seasons=False)
    assert not judge(look, Shelf(years_ago()[: RULES.min_history - 1]), RULES, LATTICE).detections
    assert judge(look, Shelf(years_ago()[: RULES.min_history]), RULES, LATTICE).detections


def test_reading_by_bands_of_rows_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    look, shelf = world().look(200, things=THING, seasons=False), Shelf(years_ago())
    moment = years_ago()[6].moment
    frozen = {(row + CORNER[0], col + CORNER[1]): moment for row, col in block(12, 8, 1, 2)}
    whole = told(judge(look, shelf, RULES, LATTICE, frozen=frozen))
    read: list[int] = []
    plain = Shelf.read_cells

    def noted(self: Shelf, digest: str, rows: range | None = None) -> Cells:
        read.append(len(rows or ()))
        return plain(self, digest, rows)

    monkeypatch.setattr(Shelf, "read_cells", noted)
    monkeypatch.setattr(past, "HELD_VALUES", 40_000)
    assert told(judge(look, shelf, RULES, LATTICE, frozen=frozen)) == whole
    assert 0 < max(read) < 8


def test_a_store_on_disk_is_a_past(tmp_path: Path) -> None:
    look = world().look(200, things=THING, seasons=False)
    with open_store(str(tmp_path / "state.sqlite")) as store:
        for known in reversed(years_ago()):
            store.add_look(known)
        store.add_look(world().look(150, things=THING, seasons=False))
        in_memory = Shelf([*years_ago(), world().look(150, things=THING, seasons=False)])
        assert told(judge(look, store, RULES, LATTICE)) == told(judge(look, in_memory, RULES, LATTICE))
        assert found_in(judge(look, store, RULES, LATTICE)) == THING


def test_looks_of_other_extents_and_places_are_laid_where_they_belong() -> None:
    def cut(look: Look, rows: slice, cols: slice) -> Look:
        cells, part = look.cells, (rows, cols)
        moved = replace(
            cells,
            row=cells.row + rows.start,
            col=cells.col + cols.start,
            valid=cells.valid[part],
            score=cells.score[part],
            descriptor=cells.descriptor[part],
        )
        return replace(look, cells=moved)

    pieces = [(slice(0, 24), slice(0, 24)), (slice(2, 20), slice(1, 24)), (slice(0, 22), slice(3, 19))]
    shelf = Shelf(cut(look, *pieces[i % 3]) for i, look in enumerate(years_ago()))
    judgement = judge(cut(world().look(200, things=THING, seasons=False), slice(1, 24), slice(0, 23)), shelf, RULES, LATTICE)
    assert found_in(judgement) == THING


def test_detections_lie_where_their_cells_do_and_say_what_happened() -> None:
    judgement = judge(world().look(200, things=THING, seasons=False), Shelf(years_ago()), RULES, LATTICE, bands=("B02", "B03", "B04"))
    (detection,) = judgement.detections
    assert detection.geometry.is_valid
    west, south, _, _ = detection.geometry.bounds
    assert 14.9 < west < 15.2
    assert 45.0 < south < 45.2
    assert "B02 rose by" in detection.reason
    assert "10 looks since 2020" in detection.reason
    assert detection.families == ("change",)
    assert 0 < detection.p_value < 1e-3
    assert 0.3 < detection.score <= 1


def test_the_models_score_is_a_second_witness() -> None:
    rng = np.random.default_rng(3)

    def scored(look: Look, extra: float = 0.0) -> Look:
        score = rng.exponential(0.4, look.cells.valid.shape).astype(np.float32)
        for row, col in THING:
            score[row, col] += extra
        return replace(look, cells=replace(look.cells, score=score))

    shelf = Shelf(scored(look) for look in years_ago())
    look = world().look(200, things=THING, seasons=False)
    assert judge(scored(look, 6.0), shelf, RULES, LATTICE).detections[0].families == ("change", "embedding")
    assert judge(scored(look), shelf, RULES, LATTICE).detections[0].families == ("change",)


def test_areas_have_rules_of_their_own_and_what_lies_outside_is_nobodys_news() -> None:
    def area(name: str, cells: tuple[int, int, int, int], **own: float) -> WatchedArea:
        top, left, bottom, right = cells
        shape = box(CORNER[1] + left, CORNER[0] + top, CORNER[1] + right, CORNER[0] + bottom)
        return WatchedArea(name=name, rules=RULES.model_copy(update=own), shape=shape, lonlat=box(15, 45, 15.1, 45.1))

    here, there = area("here", (12, 0, 24, 12)), area("there", (0, 0, 12, 24))
    look, shelf = world().look(200, things=THING, seasons=False), Shelf(years_ago())
    assert [d.area for d in judge(look, shelf, RULES, LATTICE, areas=Areas(rules=RULES, watched=(here, there))).detections] == ["here"]
    assert not judge(look, shelf, RULES, LATTICE, areas=Areas(rules=RULES, watched=(there,))).detections
    strict = area("strict", (12, 0, 24, 12), fdr=1e-12)
    assert not judge(look, shelf, RULES, LATTICE, areas=Areas(rules=RULES, watched=(strict,))).detections


def test_few_cells_are_judged_by_theory_and_none_by_chance() -> None:
    def few(look: Look) -> Look:
        part = slice(8, 18), slice(4, 14)
        cells = replace(look.cells, valid=look.cells.valid[part], score=look.cells.score[part], descriptor=look.cells.descriptor[part])
        return replace(look, cells=replace(cells, row=cells.row + 8, col=cells.col + 4))

    shelf = Shelf(few(look) for look in years_ago())
    assert found_in(judge(few(world().look(200, things=THING, size=20, seasons=False)), shelf, RULES, LATTICE)) & THING
    assert not judge(few(world().look(200, seasons=False)), shelf, RULES, LATTICE).detections


def test_an_empty_look_and_one_without_a_past_find_nothing() -> None:
    covered = world().look(200, clouds=block(0, 0, 24, 24), seasons=False)
    assert told(judge(covered, Shelf(years_ago()), RULES, LATTICE)) == ([], None)
    assert told(judge(world().look(200), Shelf(), RULES, LATTICE)) == ([], None)


@pytest.mark.parametrize("seed", range(3))
def test_equal_looks_are_no_news(seed: int) -> None:
    """Features without any spread must not make rounding a departure."""
    rng = np.random.default_rng(seed)
    values = world().usual.astype(np.float32)
    values[..., 4] = 7.0
    looks = [look_of(day, np.ones((24, 24), np.float32), values) for day in random.Random(seed).sample(range(300), 8)]
    assert told(judge(looks[-1], Shelf(looks[:-1]), RULES, LATTICE)) == ([], None)
    nudged = (values * (1 + 1e-7 * rng.normal(size=values.shape))).astype(np.float32)
    assert told(judge(look_of(400, np.ones((24, 24), np.float32), nudged), Shelf(looks), RULES, LATTICE)) == ([], None)

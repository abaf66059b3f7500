"""Laws of a run, whatever the workers do: every scene ends in one state, none is scored twice, and a second run finds nothing to do."""

from __future__ import annotations

from collections import Counter, deque
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoanom.archive.ledger import SETTLED, open_ledger, read_ledger
from geoanom.archive.outputs import layer_names
from geoanom.archive.progress import Several
from geoanom.archive.runner import Plan, Run
from geoanom.archive.work import Event, Finished, Lost, Result, Started, Task
from geoanom.config import load_config
from geoanom.errors import GeoanomError, InputError, OutputError, PartialError, SceneError
from geoanom.sources.catalog import Catalog, Entry, find_scenes
from geoanom.sources.checks import sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from geoanom.archive.ledger import Row
    from geoanom.config import Config

MAX_ATTEMPTS = 3
OUTCOMES = ("done", "refused", "bug", "crash", "memory", "timeout", "start", "late start", "unseen restart")
PLAIN = load_config(environ={})
fates = st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=5)


@dataclass
class Fate:
    """An executor whose workers do what is written, and then do their work; it writes real files."""

    folder: Path
    fates: dict[str, list[str]]
    capacity: int = 2
    submitted: list[str] = field(default_factory=list)
    _waiting: deque[Task] = field(default_factory=deque)

    def submit(self, task: Task) -> None:
        assert len(self._waiting) < self.capacity
        assert task.name not in [other.name for other in self._waiting]
        self.submitted.append(task.name)
        self._waiting.append(task)

    def wait(self, timeout_s: float) -> Sequence[Event]:
        assert timeout_s > 0
        task = self._waiting.popleft()
        script = self.fates.get(task.name, [])
        what = script.pop(0) if script else "done"
        start = Started(name=task.name, worker="1")
        if what == "start":
            return [Lost(name=task.name, worker="1", code=what, message="went down before it began")]
        if what in ("crash", "memory", "timeout"):
            return [start, Lost(name=task.name, worker="1", code=what, message="went down")]
        if what == "refused":
            return [start, Finished(name=task.name, worker="1", result=Result.of(SceneError(task.uri, "is bad")))]
        if what == "bug":
            return [start, Finished(name=task.name, worker="1", result=Result.of(GeoanomError(task.uri, "bug")))]
        end = Finished(name=task.name, worker="1", result=self._work(task))
        return {"late start": [end, start], "unseen restart": [start, start, end]}.get(what, [start, end])

    def close(self) -> None:
        """Nothing to close."""

    def _work(self, task: Task) -> Result:
        path = self.folder / task.layer
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(task.name)
        return Result(state="done", outputs={task.layer: sha256_of(path)})


def run_once(
    catalog: Catalog, folder: Path, executor: Fate, recipe: str = "r", stopped: Callable[[], bool] = lambda: False, config: Config = PLAIN
) -> dict[str, Row]:
    plan = Plan(catalog=catalog, config=config, folder=folder, recipe=recipe, max_attempts=MAX_ATTEMPTS)
    with closing(open_ledger(folder)) as ledger:
        run = Run(plan=plan, ledger=ledger, executor=executor, watcher=Several([]), stopped=stopped)
        run.work()
        return ledger.rows()


def run_to_its_end(catalog: Catalog, folder: Path, executor: Fate) -> dict[str, Row]:
    """Run, and go on where workers could not begin three times in a row."""
    while True:
        with suppress(PartialError):
            return run_once(catalog, folder, executor)


@given(contents=st.lists(st.sampled_from("abcdef"), min_size=1, max_size=6), script=st.lists(fates, min_size=6, max_size=6))
def test_every_scene_ends_in_one_state_and_a_second_run_tries_only_what_failed(
    contents: list[str], script: list[list[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    archive, out = tmp_path_factory.mktemp("archive"), tmp_path_factory.mktemp("out")
    for n, content in enumerate(contents):
        (archive / f"{n}.tif").write_text(content)
    catalog = find_scenes(str(archive), load_config(environ={}))
    executor = Fate(out, {f"{n}.tif": list(fate) for n, fate in enumerate(script)})
    rows = run_to_its_end(catalog, out, executor)
    assert set(rows) == {entry.name for entry in catalog.entries}
    assert {row.state for row in rows.values()} <= SETTLED | {"failed"}
    failed_starts = sum(fate.count("start") for fate in script)
    assert max(Counter(executor.submitted).values(), default=0) <= MAX_ATTEMPTS + failed_starts
    assert len(set(executor.submitted)) == len(set(contents))
    assert sum(row.state == "duplicate" for row in rows.values()) == len(contents) - len(set(contents))
    assert all(row.error_message for row in rows.values() if row.state in ("failed", "refused", "quarantined"))
    assert {name for row in rows.values() for name in row.outputs} == {str(p.relative_to(out)) for p in out.rglob("*.geojson")}
    again = Fate(out, {})
    after = run_once(catalog, out, again)
    assert sorted(again.submitted) == sorted(name for name, row in rows.items() if row.state == "failed")
    assert {name: row for name, row in after.items() if rows[name].state != "failed"} == {
        name: row for name, row in rows.items() if row.state != "failed"
    }


def test_another_recipe_does_everything_again(tmp_path: Path) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    archive.mkdir()
    out.mkdir()
    for name in "ab":
        (archive / f"{name}.tif").write_text(name)
    catalog = find_scenes(str(archive), load_config(environ={}))
    run_once(catalog, out, Fate(out, {}))
    executor = Fate(out, {})
    run_once(catalog, out, executor, recipe="other")
    assert executor.submitted == ["a.tif", "b.tif"]


@given(
    before=st.dictionaries(st.sampled_from(["a.tif", "a.jp2", "b.tif", "d/c.tif"]), st.sampled_from("xyz"), min_size=1),
    after=st.dictionaries(st.sampled_from(["a.tif", "a.jp2", "b.tif", "d/c.tif"]), st.sampled_from("xyz"), min_size=1),
    recipe=st.sampled_from("rs"),
)
def test_whatever_changed_every_layer_is_of_a_scene_that_is_there_or_tells_what_no_other_tells(
    before: dict[str, str], after: dict[str, str], recipe: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    archive, out = tmp_path_factory.mktemp("archive"), tmp_path_factory.mktemp("out")
    run_once(archive_of(archive, before), out, Fate(out, {}))
    catalog = archive_of(archive, after)
    if before.keys().isdisjoint(after):
        with pytest.raises(InputError, match="of another archive"):
            run_once(catalog, out, Fate(out, {}), recipe)
        return
    rows = run_once(catalog, out, Fate(out, {}), recipe)
    scored = {name: row for name, row in rows.items() if row.state == "done"}
    assert len({row.digest for row in scored.values()}) == len(scored)
    assert {row.digest for row in scored.values()} >= {rows[name].digest for name in after}
    assert {row.recipe for row in scored.values()} == {recipe}
    assert sorted(name for row in scored.values() for name in row.outputs) == sorted(
        str(p.relative_to(out)) for p in out.rglob("*.geojson")
    )
    names = layer_names(catalog)
    assert all(list(row.outputs) == [names[name]] for name, row in scored.items() if name in after)
    assert {name for name in rows if name not in after} <= {name for name in scored if recipe == "r"}


def archive_of(folder: Path, contents: dict[str, str]) -> Catalog:
    """A folder with these scenes and no others; those that stay the same are not touched."""
    for path in [p for p in folder.rglob("*") if p.is_file()]:
        if contents.get(str(path.relative_to(folder))) != path.read_text():
            path.unlink()
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            path.write_text(content)
    return find_scenes(str(folder), PLAIN)


def test_workers_that_cannot_begin_end_the_run_and_no_scene_is_to_blame(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_text("a")
    catalog = find_scenes(str(tmp_path / "a.tif"), PLAIN)
    with pytest.raises(PartialError, match="worker 1: went down before it began"):
        run_once(catalog, tmp_path, Fate(tmp_path, {"a.tif": ["start"] * 3}))
    row = run_once(catalog, tmp_path, Fate(tmp_path, {}))["a.tif"]
    assert (row.state, row.kills, row.attempts) == ("done", 0, 1)


def test_a_worker_that_goes_down_with_the_run_costs_its_scene_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_text("a")
    caught: list[int] = []

    class Terminated(Fate):
        def wait(self, timeout_s: float) -> Sequence[Event]:
            caught.append(15)  # the signal goes to the whole group
            return super().wait(timeout_s)

    executor = Terminated(tmp_path, {"a.tif": ["crash"]})
    row = run_once(find_scenes(str(tmp_path / "a.tif"), PLAIN), tmp_path, executor, stopped=lambda: bool(caught))["a.tif"]
    assert (row.state, row.kills) == ("pending", 0)


def test_a_copy_of_a_scene_that_vanishes_while_it_is_scored_is_scored_itself(tmp_path: Path) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    out.mkdir()
    archive.mkdir()
    catalog = archive_of(archive, {"a.tif": "x", "b.tif": "x", "c.tif": "x"})

    class Meddler(Fate):
        def wait(self, timeout_s: float) -> Sequence[Event]:
            with closing(read_ledger(out)) as ledger:
                is_known = "c.tif" in ledger.rows()
            return super().wait(timeout_s) if is_known else []

        def _work(self, task: Task) -> Result:
            (archive / "a.tif").unlink(missing_ok=True)
            return super()._work(task)

    rows = run_once(catalog, out, Meddler(out, {}))
    assert {name: row.state for name, row in rows.items()} == {"a.tif": "refused", "b.tif": "done", "c.tif": "duplicate"}
    assert rows["c.tif"].duplicate_of == "b.tif"


def test_a_layer_stands_while_its_scene_is_out_of_reach(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    catalog = archive_of(archive, {"a.tif": "x", "b.tif": "y"})
    before = run_once(catalog, tmp_path, Fate(tmp_path, {}))
    (archive / "a.tif").unlink()
    again = Fate(tmp_path, {})
    assert run_once(catalog, tmp_path, again) == before
    assert again.submitted == []


def test_a_name_that_no_file_system_takes_is_a_scene_like_any_other_bad_one(tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("x" * 300 + "\nmissing.tif\n")
    executor = Fate(tmp_path, {"x" * 300: ["refused"], "missing.tif": ["refused"]})
    rows = run_once(find_scenes(str(listed), PLAIN), tmp_path, executor)
    assert [row.state for row in rows.values()] == ["refused", "refused"]


def test_a_survey_that_breaks_is_heard_of(tmp_path: Path) -> None:
    catalog = Catalog(root=tmp_path, entries=(Entry(uri="a\0.tif", name="a.tif"),))
    with pytest.raises(ValueError, match="null"):
        run_once(catalog, tmp_path, Fate(tmp_path, {}))


@pytest.mark.parametrize("companion", ["a.tif.msk", "a.hdr", "a.TFW", "a_qa.tif"])
def test_a_scene_is_done_again_when_what_lies_beside_it_changes(tmp_path: Path, companion: str) -> None:
    archive, config = tmp_path / "archive", load_config(sets=["sources.qa={suffix: _qa.tif, reject: [1]}"], environ={})
    archive.mkdir()
    (archive / "a.tif").write_text("a")
    (archive / "a.tiff.txt").write_text("another")
    catalog = find_scenes(str(archive / "a.tif"), config)
    run_once(catalog, tmp_path, Fate(tmp_path, {}), config=config)
    (archive / companion).write_text("says more")
    executor = Fate(tmp_path, {})
    assert run_once(catalog, tmp_path, executor, config=config)["a.tif"].state == "done"
    assert executor.submitted == ["a.tif"]


def test_a_full_disk_ends_the_run_and_leaves_the_scene_to_be_done(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_text("a")
    catalog = find_scenes(str(tmp_path / "a.tif"), load_config(environ={}))

    class Full(Fate):
        def _work(self, task: Task) -> Result:
            return Result.of(OutputError(task.layer, "could not be written (No space left on device)"))

    with pytest.raises(OutputError, match="No space left"):
        run_once(catalog, tmp_path, Full(tmp_path, {}))
    assert run_once(catalog, tmp_path, Fate(tmp_path, {}))["a.tif"].state == "done"


def test_a_scene_that_is_replaced_while_it_is_scored_has_no_layer(tmp_path: Path) -> None:
    scene = tmp_path / "a.tif"
    scene.write_text("a")

    class Meddler(Fate):
        def _work(self, task: Task) -> Result:
            scene.write_text("another")
            return super()._work(task)

    catalog = find_scenes(str(scene), load_config(environ={}))
    row = run_once(catalog, tmp_path, Meddler(tmp_path, {}))["a.tif"]
    assert row.state == "refused"
    assert "was replaced" in (row.error_message or "")
    assert not list(tmp_path.rglob("*.geojson"))
    assert run_once(catalog, tmp_path, Fate(tmp_path, {}))["a.tif"].state == "done"


@given(
    names=st.lists(
        st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=300), min_size=1, max_size=5, unique=True
    )
)
def test_layers_stay_below_their_folder_and_never_share_a_name(names: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("x")
    catalog = Catalog(root=folder, entries=tuple(Entry(uri=name, name=name) for name in names))
    layers = layer_names(catalog)
    for layer in layers.values():
        assert (folder / layer).resolve().is_relative_to(folder / "layers")
        assert all(len(part.encode()) < 255 for part in layer.split("/"))
    assert len(set(layers.values())) == len(names)


def test_scenes_that_differ_by_suffix_only_have_layers_of_their_own(tmp_path: Path) -> None:
    entries = tuple(Entry(uri=name, name=name) for name in ("a.tif", "a.jp2", "b.tif"))
    assert layer_names(Catalog(root=tmp_path, entries=entries)) == {
        "a.tif": "layers/a.tif.geojson",
        "a.jp2": "layers/a.jp2.geojson",
        "b.tif": "layers/b.geojson",
    }


def test_a_scene_that_was_only_touched_or_moved_to_another_disk_is_not_done_again(tmp_path: Path) -> None:
    scene = tmp_path / "a.tif"
    scene.write_text("a")
    catalog = find_scenes(str(scene), load_config(environ={}))
    first = run_once(catalog, tmp_path, Fate(tmp_path, {}))["a.tif"]
    scene.unlink()
    scene.write_text("a")
    executor = Fate(tmp_path, {})
    row = run_once(catalog, tmp_path, executor)["a.tif"]
    assert executor.submitted == []
    assert (row.state, row.digest) == (first.state, first.digest)
    assert row.stamp != first.stamp

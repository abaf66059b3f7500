"""Laws of a run, whatever the workers do: every scene ends in one state, none is scored twice, and a second run finds nothing to do."""

from __future__ import annotations

from collections import Counter, deque
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoanom.archive.ledger import SETTLED, open_ledger
from geoanom.archive.outputs import layer_names
from geoanom.archive.progress import Several
from geoanom.archive.runner import Plan, Run
from geoanom.archive.work import Event, Finished, Lost, Result, Started, Task
from geoanom.config import load_config
from geoanom.errors import GeoanomError, OutputError, SceneError
from geoanom.sources.catalog import Catalog, Entry, find_scenes
from geoanom.sources.checks import sha256_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from geoanom.archive.ledger import Row

MAX_ATTEMPTS = 3
OUTCOMES = ("done", "refused", "bug", "crash", "memory", "timeout", "late start", "unseen restart")
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


def run_once(catalog: Catalog, folder: Path, executor: Fate, recipe: str = "r") -> dict[str, Row]:
    plan = Plan(catalog=catalog, config=load_config(environ={}), folder=folder, recipe=recipe, max_attempts=MAX_ATTEMPTS)
    with closing(open_ledger(folder)) as ledger:
        run = Run(plan=plan, ledger=ledger, executor=executor, watcher=Several([]), stopped=lambda: False)
        run.work()
        return ledger.rows()


@given(contents=st.lists(st.sampled_from("abcdef"), min_size=1, max_size=6), script=st.lists(fates, min_size=6, max_size=6))
def test_every_scene_ends_in_one_state_and_a_second_run_tries_only_what_failed(
    contents: list[str], script: list[list[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    archive, out = tmp_path_factory.mktemp("archive"), tmp_path_factory.mktemp("out")
    for n, content in enumerate(contents):
        (archive / f"{n}.tif").write_text(content)
    catalog = find_scenes(str(archive), load_config(environ={}))
    executor = Fate(out, {f"{n}.tif": list(fate) for n, fate in enumerate(script)})
    rows = run_once(catalog, out, executor)
    assert set(rows) == {entry.name for entry in catalog.entries}
    assert {row.state for row in rows.values()} <= SETTLED | {"failed"}
    assert max(Counter(executor.submitted).values(), default=0) <= MAX_ATTEMPTS
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

"""Working through an archive: what is still to be done is done, and nothing is done twice."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from geoanom.archive.identity import stamp_of
from geoanom.archive.ledger import SCORED, SETTLED, Row
from geoanom.archive.outputs import intact, layer_names, remove_outputs
from geoanom.archive.survey import Survey
from geoanom.archive.work import Finished, Lost, Result, Started, Task, code_of
from geoanom.errors import InputError, PartialError, SceneError
from geoanom.sources.remote import is_remote

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from geoanom.archive.ledger import Ledger
    from geoanom.archive.progress import Watcher
    from geoanom.archive.survey import Surveyed
    from geoanom.archive.work import Event, Executor
    from geoanom.config import Config
    from geoanom.errors import GeoanomError
    from geoanom.sources.catalog import Catalog, Entry

TICK_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be done, and how far a scene may go."""

    catalog: Catalog
    config: Config
    """What may be opened."""
    folder: Path
    """For the outputs."""
    recipe: str
    """Model, settings and version: scenes scored with another one are done again."""
    max_attempts: int
    """Workers that a scene may take down."""
    retry: bool = False
    """Try again what was refused or quarantined."""


@dataclass
class Run:
    """One run over an archive."""

    plan: Plan
    ledger: Ledger
    executor: Executor
    watcher: Watcher
    stopped: Callable[[], bool]
    """Asked often; the run ends cleanly as soon as it says True."""
    rows: dict[str, Row] = field(default_factory=dict)
    _busy: set[str] = field(default_factory=set)
    _again: deque[str] = field(default_factory=deque)
    """Scenes whose worker went down."""
    _originals: dict[str, str] = field(default_factory=dict)
    """Digest to the one scene with this content that is scored."""
    _names: dict[str, str] = field(default_factory=dict)
    """Scene to its layer."""
    _entries: dict[str, Entry] = field(default_factory=dict)
    _failed_starts: int = 0
    """Workers in a row that went down before they began with a scene."""
    _fatal: GeoanomError | None = None

    def work(self) -> None:
        """Do what is to be done, until all is done, the run is stopped, or nothing more can be.

        Raises:
            GeoanomError: outputs or ledger cannot be written, the model cannot be used, the workers are gone; what is finished is kept.
        """
        self.rows = self.ledger.rows()
        self._names, self._entries = layer_names(self.plan.catalog), {entry.name: entry for entry in self.plan.catalog.entries}
        self._release()
        self._check_archive()
        self._originals = {row.digest: row.name for row in self.rows.values() if row.state in SCORED and self._is_current(row)}
        survey = Survey(self.plan.catalog, self.rows, self.plan.config)
        try:
            while not self.stopped() and self._fatal is None and not self._is_over(survey):
                self._feed(survey)
                self._listen()
            if self._is_over(survey):
                self._forget_vanished()
        finally:
            survey.close()
            self._release()
        if self._fatal is not None:
            raise self._fatal

    def _is_over(self, survey: Survey) -> bool:
        return survey.exhausted and not self._busy and not self._again

    def _feed(self, survey: Survey) -> None:
        """Hand out scenes until all workers have one."""
        while len(self._busy) < self.executor.capacity:
            name = self._again.popleft() if self._again else self._next_wanted(survey)
            if name is None:
                return
            self._busy.add(name)
            self.executor.submit(Task(name=name, uri=self._entries[name].uri, layer=self._names[name]))

    def _next_wanted(self, survey: Survey) -> str | None:
        """The next scene that is to be scored; None where none is known yet."""
        patience_s = 0.0 if self._busy else TICK_S
        scene = survey.take(patience_s)
        while scene is not None and not self.stopped():
            if self._wants(scene):
                return scene.entry.name
            scene = survey.take(patience_s)
        return None

    def _listen(self) -> None:
        for event in self.executor.wait(TICK_S) if self._busy else ():
            self._hear(event)
        self.watcher.tick(self.rows)

    def _release(self) -> None:
        """What was under way, here or in a run that was cut off, is to be done."""
        self._put(*(row.moved_to("pending", worker=None) for row in self.rows.values() if row.state == "running"))

    def _check_archive(self) -> None:
        """Refuse an archive that shares no scene with the one whose layers stand here: they would all be taken for left over."""
        scored = [name for name, row in self.rows.items() if row.state in SCORED]
        if scored and self._entries.keys().isdisjoint(self.rows):
            wrong = f"holds the layers of {len(scored)} scenes of another archive"
            raise InputError(self.plan.folder, wrong, "name a new output folder")

    def _forget_vanished(self) -> None:
        """Of scenes that are no longer in the archive, keep only layers of this recipe that no scene of the archive replaces."""
        digests, layers = {self.rows[name].digest for name in self._entries}, set(self._names.values())
        useless = [row for name, row in self.rows.items() if name not in self._entries and not self._is_kept(row, digests, layers)]
        for row in useless:
            remove_outputs(self.plan.folder, row.outputs.keys() - layers)
            del self.rows[row.name]
        self.ledger.forget(*(row.name for row in useless))

    def _is_kept(self, row: Row, digests: set[str], layers: set[str]) -> bool:
        """Does the layer of a scene that is gone still tell something that no other layer tells?"""
        is_own = row.digest not in digests and layers.isdisjoint(row.outputs)
        return is_own and row.state in SCORED and self._is_current(row) and intact(self.plan.folder, row.outputs)

    def _is_current(self, row: Row) -> bool:
        return row.recipe == self.plan.recipe and bool(row.digest)

    def _wants(self, scene: Surveyed) -> bool:
        """Note a scene as it is now; is it to be scored?"""
        name = scene.entry.name
        row = self.rows.get(name, Row(name=name))
        original = self._original_of(scene)
        if self._stands(row, scene, original):
            if scene.stamp and row.stamp != scene.stamp:  # moved or touched, and the same all the same
                self._put(replace(row, stamp=scene.stamp))
            self.watcher.tell("skipped", row)
            return False
        remove_outputs(self.plan.folder, row.outputs)
        is_same = (row.stamp, row.recipe) == (scene.stamp, self.plan.recipe) and not self.plan.retry
        fresh = row.cleared(keep_history=is_same, stamp=scene.stamp, digest=scene.digest, recipe=self.plan.recipe)
        if scene.entry.refusal is not None:
            self._put(fresh.moved_to("refused", **_complaint(scene.entry.refusal)))
        elif original is not None:
            self._put(fresh.moved_to("duplicate", duplicate_of=original))
        else:
            self._put(fresh.moved_to("pending"))
            return True
        self.watcher.tell("finished", self.rows[name])
        return False

    def _stands(self, row: Row, scene: Surveyed, original: str | None) -> bool:
        """Is what the ledger says of a scene still so? What was scored stands, too, while the scene is out of reach."""
        has_content = bool(scene.digest) and row.digest == scene.digest
        is_same = has_content or row.stamp == scene.stamp or (not scene.stamp and row.state in SCORED)
        if row.recipe != self.plan.recipe or not is_same or row.state not in SETTLED or row.duplicate_of != original:
            return False
        if row.state in SCORED:
            return self._names[row.name] in row.outputs and intact(self.plan.folder, row.outputs)
        return row.state == "duplicate" or not self.plan.retry

    def _original_of(self, scene: Surveyed) -> str | None:
        """The other scene with the same content that is scored for both; None where this is the one."""
        name = scene.entry.name
        original = self.rows.get(self._originals.get(scene.digest, name))
        if not scene.digest:
            return None
        if original is None or original.name == name or original.digest != scene.digest or not self._is_unchanged(original):
            self._originals[scene.digest] = name
            return None
        return original.name

    def _is_unchanged(self, row: Row) -> bool:
        entry = self._entries.get(row.name)
        if entry is not None and is_remote(entry.uri):
            return True  # the reader has looked at the end
        return entry is not None and stamp_of(entry.uri, self.plan.config) == row.stamp

    def _hear(self, event: Event) -> None:
        row = self.rows[event.name]
        if event.name not in self._busy:
            return  # a start can be told after the end
        if isinstance(event, Started):
            self._failed_starts = 0
            kills = row.kills + (row.state == "running")  # begun again without an end: the worker before was lost
            self._put(row.moved_to("running", worker=event.worker, attempts=row.attempts + 1, kills=kills))
            self.watcher.tell("started", self.rows[event.name])
        elif isinstance(event, Finished):
            self._settle(row, event.result)
        elif isinstance(event, Lost) and not self.stopped():  # the signal that stops a run reaches its workers, too
            self._lose(row, event)

    def _settle(self, row: Row, result: Result) -> None:
        self._busy.discard(row.name)
        if result.stops_run:
            self._fatal = result.error
            self._put(row.moved_to("pending", worker=None))
            return
        if not self._is_unchanged(row):
            remove_outputs(self.plan.folder, result.outputs)
            result = Result.of(SceneError(row.name, "was replaced or changed while it was scored", "run again when it is complete"))
            self._promote_copy(row)
        attempts = row.attempts + (row.state != "running")  # where the start is told after the end
        self._put(row.moved_to(result.state, worker=None, attempts=attempts, **result.kept(), **_complaint(result.error)))
        self.watcher.tell("finished", self.rows[row.name])

    def _promote_copy(self, lost: Row) -> None:
        """A copy of a scene that is no longer what it was is scored itself, and stands for the other copies."""
        copies = [row for row in self.rows.values() if row.duplicate_of == lost.name]
        for first in copies[:1]:
            self._originals[first.digest] = first.name
            others = (row.moved_to("duplicate", duplicate_of=first.name) for row in copies[1:])
            self._put(first.moved_to("pending", duplicate_of=None), *others)
            self._again.append(first.name)

    def _lose(self, row: Row, event: Lost) -> None:
        """A scene that took too long fails; one that took its worker down gets another, but not for ever."""
        self._busy.discard(row.name)
        kills = row.kills + (event.code not in ("timeout", "start"))
        if event.code == "timeout":
            self._put(row.moved_to("failed", worker=None, error_code=event.code, error_message=event.message))
        elif kills >= self.plan.max_attempts:
            message = f"{event.message}, {kills} times"
            self._put(row.moved_to("quarantined", worker=None, kills=kills, error_code=event.code, error_message=message))
        else:
            self._put(row.moved_to("pending", worker=None, kills=kills))
            self._again.append(row.name)
        self.watcher.tell("lost", self.rows[row.name], event.message)
        if event.code == "start":
            self._note_failed_start(event)

    def _note_failed_start(self, event: Lost) -> None:
        """Workers that cannot even begin would go on failing with every scene."""
        self._failed_starts += 1
        if self._failed_starts >= self.plan.max_attempts:
            self._fatal = PartialError(f"worker {event.worker}", event.message, "then run again to go on; what is finished is kept")

    def _put(self, *rows: Row) -> None:
        if rows:
            self.ledger.put(*rows)
            self.rows.update((row.name, row) for row in rows)


def _complaint(error: GeoanomError | None) -> dict[str, str | None]:
    """An error as the ledger keeps it: without the path, which is the row's name."""
    if error is None:
        return {"error_code": None, "error_message": None}
    return {"error_code": code_of(error), "error_message": "; ".join(filter(None, (error.wrong, error.remedy)))}

"""One pass of a monitor: what is new is looked at, judged, told and delivered.

Each step keeps what it has done before the next one begins, and begins with what it finds undone: a pass that is killed at any moment is
made up for by the next one, and a pass that finds nothing new does nothing.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from geoanom.errors import ExitCode, GeoanomError, InputError, one_line
from geoanom.monitor.deliver import deliver
from geoanom.monitor.digest import due_digest, is_overdue
from geoanom.monitor.dressing import dressed
from geoanom.monitor.events import tell
from geoanom.monitor.folding import fold, lifecycle_rules
from geoanom.monitor.intake import Intake, stamp_after, take_in
from geoanom.monitor.report import PassReport, Problem
from geoanom.monitor.rulebook import judge_of, rules_digest
from geoanom.monitor.seeing import Eye, opened, reading_config, usable
from geoanom.monitor.sinks.building import Means, build_sinks, refresh_feeds
from geoanom.monitor.states import states
from geoanom.monitor.store import open_store
from geoanom.monitor.store.passes import Seen
from geoanom.monitor.tidying import leave, remember_less, take_stock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from typing import TextIO

    from geoanom.config import Config
    from geoanom.monitor.intake import Candidate
    from geoanom.monitor.settings import Monitor, MonitorConfig
    from geoanom.monitor.sinks.base import Sink
    from geoanom.monitor.store import Store
    from geoanom.raster.scene import Scene

log = logging.getLogger(__name__)
BEYOND = ("9999", "")
"""After every look."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How a pass is run."""

    home: Path
    """Folder of the settings."""
    now: Callable[[], float]
    """Seconds since 1970."""
    since: str | None = None
    """Moment (``2024-05-01T00:00:00Z``) before which scenes are left aside."""
    dry: bool = False
    """Say what would be done, and do nothing."""
    stop: Callable[[], bool] = lambda: False
    """Asked between any two steps whether the pass has to end."""
    say: Callable[[str], None] = lambda _: None
    """Is given each line for people as it comes."""
    stream: TextIO = field(default_factory=lambda: sys.stdout)
    """What a sink of the type ``stdout`` writes to."""


def run(config: MonitorConfig, terms: Terms) -> PassReport:
    """One pass.

    Raises:
        ConfigError: settings, or a variable of the environment, that cannot be used.
        LockedError: another pass is at work.
        InputError: the model, an area or the store cannot be used.
        OutputError: the store cannot be reached or written.
    """
    monitor, held = config.monitor, list[Any]()
    means = Means(environ=os.environ, now=terms.now, state=lambda: states(held[0], monitor), stream=terms.stream)
    sinks = build_sinks(monitor.sinks, means)
    reading = reading_config(monitor)
    if terms.dry:
        from geoanom.monitor.rehearsal import rehearse

        return rehearse(monitor, reading, terms)
    with open_store(monitor.store) as store, store.exclusive(monitor.name):
        held.append(store)
        store.put_facts(name=monitor.name)
        store.enrol(*monitor.sinks)
        return _Pass(monitor, reading, terms, store, sinks).run()


class _Pass:
    def __init__(self, monitor: Monitor, config: Config, terms: Terms, store: Store, sinks: Mapping[str, Sink]) -> None:
        self.monitor, self.config, self.terms, self.store, self.sinks = monitor, config, terms, store, sinks
        self.eye = Eye(store, monitor, config, terms.home)
        self.report = PassReport()
        self.intake = Intake(fresh=(), places={})

    def run(self) -> PassReport:
        """Step by step; what cannot be undone is kept before the next step begins."""
        with self._recorded():
            self._take_in()
            if self.intake.fresh and self._has_model():
                self._look_at_all()
            if not self._stops():
                self._judge()
                self._take_stock()
            self._deliver()
            remember_less(self.store, self.monitor.retention, self.terms.now())
        with self._noting(ExitCode.UNWRITTEN):
            leave(self.store, self.monitor, self.terms.now())
        return self.report

    def _stops(self) -> bool:
        self.report.stopped = self.report.stopped or self.terms.stop()
        return self.report.stopped

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        """The store's record of the pass, however it ends; where even that cannot be written, the first error is the one that is told."""
        run_id = self.store.begin_run(self.terms.now())
        try:
            yield
        except BaseException as error:
            with suppress(GeoanomError):
                self.store.end_run(run_id, self.terms.now(), "failed", self.report.counts, message=one_line(f"{error}"))
            raise
        told = "; ".join(problem.message for problem in self.report.problems) or None
        self.store.end_run(run_id, self.terms.now(), self.report.outcome, self.report.counts, message=told)

    @contextmanager
    def _noting(self, code: ExitCode | None = None) -> Iterator[None]:
        """What goes wrong here is told, and the pass goes on."""
        try:
            yield
        except GeoanomError as error:
            self._problem(str(error), code or error.exit_code)

    def _problem(self, message: str, code: ExitCode) -> None:
        self.report.problems.append(Problem(code=code, message=message))
        self.terms.say(f"error: {message}")

    def _take_in(self) -> None:
        """A source that cannot be reached keeps nobody from being told what is known already."""
        with self._noting():
            self.intake = take_in(self.monitor, self.config, self.store.seen(), self.terms.since, self.terms.now())
            self.report.older = self.intake.n_older

    def _has_model(self) -> bool:
        """Load the model, or fit it where enough scenes are there."""
        if self.eye.lacks_model and not self._fit(self.monitor.fit_on_first or 1):
            return False
        return bool(self.eye.model)

    def _fit(self, wanted: int) -> bool:
        scenes = usable(self.intake.fresh, self.eye, wanted, self._refuse, self.terms.now())
        scenes = [scene for scene in scenes if not self._is_older(scene)]
        if len(scenes) < wanted:
            self.report.waiting = (len(scenes), wanted)
            return False
        self.terms.say(f"fitting a model on the first {wanted} scenes")
        self.eye.fit([scene.uri for scene in scenes])
        self.report.fitted = True
        return True

    def _look_at_all(self) -> None:
        refused = {problem.message for problem in self.report.refused}
        for candidate in self.intake.fresh:
            if self._stops():
                return
            try:
                self._look_at(candidate)
            except InputError as error:
                if str(error) not in refused:
                    self._refuse(candidate, error)
            except GeoanomError:
                raise
            except Exception as error:
                log.debug("a bug", exc_info=True)
                self._refuse(candidate, InputError(candidate.entry.uri, f"bug: {type(error).__name__}: {error}", "report it"))

    def _take_stock(self) -> None:
        if self.report.looked:
            with self._noting():
                take_stock(self.store)

    def _look_at(self, candidate: Candidate) -> None:
        scene, name = opened(candidate, self.eye, self.terms.now()), candidate.entry.name
        if self._is_older(scene):
            self.report.older += 1  # and is not marked as seen: another pass may want it
            return
        if self.store.knows(scene.digest, name):
            self.report.duplicates += 1
            self._mark(candidate, "duplicate", scene.digest)
            return
        look = self.eye.look(scene, candidate)
        self.store.add_look(look)
        self._mark(candidate, "look", look.digest)
        self.report.looked += 1
        for warning in look.warnings:
            log.info("%s: %s", name, one_line(warning))

    def _is_older(self, scene: Scene) -> bool:
        from geoanom.monitor.observing import moment_of  # networks come with it

        return self.terms.since is not None and moment_of(scene) < self.terms.since

    def _mark(self, candidate: Candidate, outcome: Any, digest: str | None, error: InputError | None = None) -> None:
        entry = Seen(
            path=candidate.entry.name,
            stamp=stamp_after(candidate.stamp, error),
            outcome=outcome,
            digest=digest,
            code=type(error).__name__ if error else None,
            message=str(error) if error else None,
            attempts=candidate.attempts,
        )
        self.store.put_seen(entry)

    def _refuse(self, candidate: Candidate, error: InputError) -> None:
        self.report.refused.append(Problem(code=ExitCode.PARTIAL, message=str(error)))
        self.terms.say(f"error: {error}")
        self._mark(candidate, "refused", None, error)

    def _judge(self) -> None:
        """Judge what the alerts do not know of, follow them, and put what is new into the outbox, all in one transaction."""
        self._mind_rules()
        since = self.store.stale_since()
        if since is not None:
            judge = judge_of(self.store, self.monitor, self.terms.say)
            fitted = frozenset(json.loads(self.store.facts().get("fitted", "[]")))
            rules = lifecycle_rules(self.monitor)
            found = fold(self.store, since, self.monitor.name, rules, judge=judge, fitted=fitted, stop=self._stops)
            if found is not None:
                self._tell(found.since, found.history, found.judgements)
        elif is_overdue(self.store, self.monitor.digest, told=self.store.said().told, now=self.terms.now()):
            self._tell(BEYOND, self.store.history(self.monitor.name), ())

    def _mind_rules(self) -> None:
        """Under other rules all looks are judged again; what was told stays told."""
        digest = rules_digest(self.monitor)
        known = self.store.facts().get("rules")
        if known not in (None, digest):
            self.terms.say("the rules or areas have changed: all looks are judged again")
            self.store.judge_again()
        if known != digest:
            self.store.put_facts(rules=digest)

    def _tell(self, since: tuple[str, str], history: Any, judgements: Any) -> None:
        said = self.store.said()
        is_digest = due_digest(self.store, self.monitor.digest, told=said.told) is not None
        cap = None if is_digest else self.monitor.rules.max_alerts_per_run
        telling = tell(history, judgements, said, cap)
        fresh = [event for event in (*telling.events, *telling.folded) if event.type != "digest"]
        ready = dressed(telling, self.store, self.monitor, self._open, told=said.told, now=self.terms.now())
        self.store.commit_state(since, judgements, ready)
        self.report.judged = len(judgements)
        self.report.told = Counter(event.type for event in fresh)
        self.report.suspects = [
            (j.look.scene, j.suspect) for j in judgements if j.suspect is not None and self._is_new(j.look.digest, fresh)
        ]

    def _is_new(self, digest: str, events: list[Any]) -> bool:
        return any(event.body["data"].get("digest") == digest for event in events)

    def _open(self, name: str) -> Any:
        """The scene of a look by its path, if the sources still hold it."""
        if name not in self.intake.places:
            raise InputError(name, "is not there any more")
        return self.eye.open(self.intake.places[name])

    def _deliver(self) -> None:
        if self.report.stopped:
            return
        found = deliver(self.store, self.sinks, self.terms.now, stop=self._stops)
        self.report.sinks = found.sinks
        for name, error in found.errors.items():
            self._problem(f"alerts.{name}: {error}; what waits is tried again in the next pass", ExitCode.UNWRITTEN)
        with self._noting():
            refresh_feeds(self.monitor.sinks, lambda: states(self.store, self.monitor))

"""What one pass came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from geoanom.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geoanom.monitor.deliver import SinkReport


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that went wrong and did not stop the pass."""

    code: ExitCode
    message: str
    """On one line."""


@dataclass(kw_only=True)
class PassReport:
    """What one pass came to; grows while it runs."""

    dry: bool = False
    """Nothing was done; the figures tell what would be."""
    looked: int = 0
    """Looks that were stored, or would be."""
    duplicates: int = 0
    older: int = 0
    """Left aside because they are of before the date that was asked for."""
    refused: list[Problem] = field(default_factory=list)
    """Scenes that could not be used."""
    waiting: tuple[int, int] | None = None
    """Scenes that are there, of how many that the fit waits for."""
    fitted: bool = False
    judged: int = 0
    suspects: list[tuple[str, str]] = field(default_factory=list)
    """Scenes that are not to be trusted as a whole, and why."""
    told: Mapping[str, int] = field(default_factory=dict)
    """Events of this pass by type, those within a digest included."""
    sinks: Mapping[str, SinkReport] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    stopped: bool = False
    """It was asked to end before all was done."""

    @property
    def outcome(self) -> str:
        """How the store remembers the pass."""
        if self.stopped:
            return "stopped"
        return "failed" if self.problems else "partial" if self.refused else "done"

    @property
    def exit_code(self) -> ExitCode:
        """The gravest first: what must be mended, then what is incomplete."""
        if self.problems:
            return self.problems[0].code
        return ExitCode.PARTIAL if self.refused else ExitCode.DONE

    @property
    def counts(self) -> dict[str, int]:
        """Figures for the store's record of passes."""
        return {
            "looked": self.looked,
            "duplicates": self.duplicates,
            "refused": len(self.refused),
            "judged": self.judged,
            "suspect": len(self.suspects),
            "told": sum(self.told.values()),
            "delivered": sum(sink.delivered for sink in self.sinks.values()),
        }

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "outcome": self.outcome,
            "dry_run": self.dry,
            **self.counts,
            "older": self.older,
            "waiting_for": None if self.waiting is None else {"scenes": self.waiting[0], "of": self.waiting[1]},
            "fitted": self.fitted,
            "events": dict(self.told),
            "suspects": [{"scene": scene, "reason": reason} for scene, reason in self.suspects],
            "sinks": {
                name: {"delivered": sink.delivered, "waiting": sink.waiting, "given_up": sink.given_up, "error": sink.error or None}
                for name, sink in self.sinks.items()
            },
            "errors": [problem.message for problem in (*self.problems, *self.refused)],
        }

    def as_text(self) -> str:
        """For people, on one line."""
        return ", ".join(self._words()) or "nothing is new"

    def _words(self) -> list[str]:
        would = "would look at " if self.dry else ""
        found = [
            (self.looked, f"{would}{_n(self.looked, 'new scene')}"),
            (self.duplicates, f"{_n(self.duplicates, 'scene')} known already"),
            (self.older, f"{_n(self.older, 'older scene')} left aside"),
            (len(self.refused), f"{_n(len(self.refused), 'scene')} refused"),
            (len(self.suspects), f"{_n(len(self.suspects), 'suspect scene')}"),
            *((n, f"{n} {kind}") for kind, n in sorted(self.told.items())),
        ]
        waits = [] if self.waiting is None else [f"{self.waiting[0]} of the {self.waiting[1]} scenes are there that the model is fitted on"]
        unsent = [f"{_n(sink.waiting, 'event')} wait for {name}" for name, sink in self.sinks.items() if sink.waiting]
        return [*(words for n, words in found if n), *waits, *unsent, *(["stopped, run again to go on"] if self.stopped else [])]


def _n(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"

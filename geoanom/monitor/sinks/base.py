"""What a sink is, and what it says when it cannot take an event.

Undelivered
├── Retryable        later, perhaps after a time that it names
└── Refused          not this event
    └── Gone             nor any other
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from geoanom.errors import one_line

if TYPE_CHECKING:
    from geoanom.monitor.values import Event


class Undelivered(Exception):  # noqa: N818 - the state of an event
    """A sink has not taken an event; the message has no secrets in it."""

    def __init__(self, why: str) -> None:
        """Say why, on one line."""
        super().__init__(one_line(why))


class Retryable(Undelivered):
    """It may take it later.

    Args:
        why: for people.
        after_s: seconds for which it wishes to be left alone; None if it does not say.
    """

    def __init__(self, why: str, after_s: float | None = None) -> None:
        """Say why, and from when on it may be tried again."""
        super().__init__(why)
        self.after_s = after_s


class Refused(Undelivered):
    """It does not want this event."""


class Gone(Refused):
    """It does not want any event any more."""


class Sink(Protocol):
    """Somebody who is told."""

    def send(self, event: Event) -> None:
        """Hand over an event; it may have been handed over before, under the same id.

        Raises:
            Undelivered: it was not taken.
        """

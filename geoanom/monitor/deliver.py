"""Events on their way from the outbox to the sinks.

An event is handed over, and then marked as delivered: a process that dies between the two hands it over again, under the same id, by which
the receiver knows it. Events of one sink go in the order of their moments, and those of one alert never overtake each other, also when one
of them waits for another try. A sink that is down is left alone until the next pass, and the others do not mind.

Waits grow with the number of failed attempts alone (exponential backoff, as Standard Webhooks asks for), so that the clock decides when
something is tried and never whether.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from geoanom.monitor.sinks.base import Gone, Refused, Retryable, Undelivered

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from geoanom.monitor.sinks.base import Sink
    from geoanom.monitor.values import Delivery, Outbox

FIRST_WAIT_S, LONGEST_WAIT_S = 30.0, 6 * 3600.0
LONGEST_WISH_S = 12 * 3600.0
"""A sink that wishes to be left alone for longer is asked after that time; well below what an outbox takes for a fault of the clock."""
PATIENCE_S = 3 * 24 * 3600.0
"""How long a sink is asked to take an event that it refuses: its owner may have to mend it."""
FOREVER = 253_402_300_800.0
"""The year 10000."""
LIMIT = 1000


@dataclass(frozen=True, kw_only=True)
class SinkReport:
    """What became of one sink's events in a pass."""

    delivered: int = 0
    waiting: int = 0
    """Not taken yet, or not tried; as far as they were looked at."""
    given_up: int = 0
    error: str = ""
    """The last one; empty where there was none."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What became of the events in a pass."""

    sinks: Mapping[str, SinkReport]

    @property
    def delivered(self) -> int:
        """At all sinks."""
        return sum(sink.delivered for sink in self.sinks.values())

    @property
    def errors(self) -> dict[str, str]:
        """The last error of each sink that had one."""
        return {name: sink.error for name, sink in self.sinks.items() if sink.error}


def deliver(
    outbox: Outbox, sinks: Mapping[str, Sink], now: Callable[[], float], *, limit: int = LIMIT, stop: Callable[[], bool] = lambda: False
) -> Report:
    """Hand over what is due.

    Args:
        outbox: where events wait.
        sinks: by name, in the order in which they are served.
        now: seconds since 1970; is read for each attempt.
        limit: events of each sink that are looked at.
        stop: asked before each event whether the pass has to end.
    """
    return Report(sinks={name: _Round(outbox, name, sink, now).run(limit, stop) for name, sink in sinks.items()})


def wait_s(attempts: int, wish_s: float | None = None) -> float:
    """Seconds from a failed attempt to the next one.

    Args:
        attempts: that have failed, this one included.
        wish_s: for how long the sink wishes to be left alone.
    """
    own = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(attempts - 1, 32))
    return max(own, min(wish_s or 0.0, LONGEST_WISH_S))


def is_patience_over(attempts: int) -> bool:
    """Have these failed attempts, by the waits between them, taken three days?"""
    return sum(wait_s(i) for i in range(1, attempts)) >= PATIENCE_S


@dataclass
class _Round:
    """One sink's turn: what waits for another try is looked at, too, as nothing of the same alert may pass it."""

    outbox: Outbox
    name: str
    sink: Sink
    now: Callable[[], float]
    delivered: int = 0
    given_up: int = 0
    error: str = ""
    is_down: bool = False
    held: set[str] = field(default_factory=set)
    """Alerts of which an event waits, so that later ones wait, too."""

    def run(self, limit: int, stop: Callable[[], bool]) -> SinkReport:
        pending = self.outbox.due(self.name, FOREVER, limit)
        ready = {delivery.event.event_id for delivery in self.outbox.due(self.name, self.now(), limit)}
        for delivery in pending:
            if self.is_down or stop():
                break
            if delivery.event.event_id not in ready or self.held & _alerts_of(delivery):
                self.held |= _alerts_of(delivery)
            else:
                self._attempt(delivery)
        waiting = len(pending) - self.delivered - self.given_up
        return SinkReport(delivered=self.delivered, waiting=waiting, given_up=self.given_up, error=self.error)

    def _attempt(self, delivery: Delivery) -> None:
        try:
            self.sink.send(delivery.event)
        except Undelivered as error:
            self._failed(delivery, error)
        else:
            self.outbox.delivered(delivery.event.event_id, self.name)
            self.delivered += 1

    def _failed(self, delivery: Delivery, error: Undelivered) -> None:
        event_id, attempts, self.error = delivery.event.event_id, delivery.attempts + 1, str(error)
        if isinstance(error, Refused) and is_patience_over(attempts):
            self.outbox.given_up(event_id, self.name, self.error)
            self.given_up += 1
        else:
            wish_s = error.after_s if isinstance(error, Retryable) else None
            self.outbox.failed(event_id, self.name, self.error, self.now() + wait_s(attempts, wish_s))
            self.held |= _alerts_of(delivery)
        self.is_down = isinstance(error, Retryable | Gone)


def _alerts_of(delivery: Delivery) -> set[str]:
    """Ids of the alerts that an event tells of, those of a digest included; none for a scene."""
    data = delivery.event.body["data"]
    told = [data, *data.get("alerts", ())]
    return {entry["alert_id"] for entry in told if entry.get("alert_id")}

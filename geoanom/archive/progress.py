"""What a run shows: lines on a terminal, JSON for machines, figures for Prometheus; in a pipe only what went wrong."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol, TextIO

from tqdm import tqdm

from geoanom.archive.ledger import SCORED, STATES
from geoanom.errors import ConfigError, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from geoanom.archive.ledger import Row

METRICS_EVERY_S = 15.0
What = Literal["skipped", "started", "finished", "lost"]


class Watcher(Protocol):
    """Is told what happens in a run."""

    def tell(self, what: What, row: Row, message: str = "") -> None:
        """Something happened to a scene, which is now as the row says; the message is about its lost worker."""

    def tick(self, rows: Mapping[str, Row]) -> None:
        """Some time has passed."""

    def close(self, rows: Mapping[str, Row]) -> None:
        """The run is over."""


class Lines:
    """One bar for the archive and one live line for each worker on a terminal; elsewhere only what went wrong."""

    def __init__(self, n_scenes: int, stream: TextIO | None = None) -> None:
        """Show on a stream; stderr when None."""
        self._stream = stream or sys.stderr
        self._bar = tqdm(total=n_scenes, desc="archive", unit="scene", disable=None, file=self._stream, position=0)
        self._workers: dict[str, tqdm[Any]] = {}

    def tell(self, what: What, row: Row, message: str = "") -> None:
        """Count what is settled, and say what went wrong."""
        self._bar.update(what != "started" and row.state != "pending")
        if message and row.state == "pending":
            self._say("warning", row, f"{message}; it is tried again")
        elif what != "skipped" and row.error_message:
            self._say("error", row, row.error_message)

    def tick(self, rows: Mapping[str, Row]) -> None:
        """Bring the workers' lines up to date."""
        if self._bar.disable:
            return
        now, running = time.time(), {row.worker or "": row for row in rows.values() if row.state == "running"}
        for worker in sorted(running.keys() - self._workers.keys()):
            self._workers[worker] = tqdm(bar_format="{desc}", position=len(self._workers) + 1, file=self._stream, leave=False)
        for worker, line in self._workers.items():
            row = running.get(worker)
            line.set_description_str(f"  {worker}: {one_line(row.name)} {now - row.since:.0f} s" if row else f"  {worker}: idle")

    def close(self, rows: Mapping[str, Row]) -> None:  # noqa: ARG002 - a watcher's signature
        """Leave the terminal tidy."""
        for line in self._workers.values():
            line.close()
        self._bar.close()

    def _say(self, kind: str, row: Row, text: str) -> None:
        tqdm.write(f"geoanom: {kind}: {one_line(row.name)}: {text}", file=self._stream)


class JsonLines:
    """One JSON object a line for everything that happens."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """Write to a stream; stderr when None."""
        self._stream = stream or sys.stderr

    def tell(self, what: What, row: Row, message: str = "") -> None:
        """Tell it."""
        told: dict[str, Any] = {
            "event": what,
            "scene": one_line(row.name),
            "state": row.state,
            "worker": row.worker,
            "attempts": row.attempts,
        }
        if what == "finished":
            told |= {"seconds": round(row.seconds, 3), "tiles_scored": row.tiles_scored, "anomalies": row.anomalies}
        if message or row.error_message:
            told["error"] = {"code": row.error_code, "message": message or row.error_message}
        self._write(told)

    def tick(self, rows: Mapping[str, Row]) -> None:
        """Nothing to tell."""

    def close(self, rows: Mapping[str, Row]) -> None:
        """Tell the totals."""
        self._write({"event": "end", "totals": totals_of(rows)})

    def _write(self, value: dict[str, Any]) -> None:
        stamped = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **value}
        print(json.dumps(stamped, ensure_ascii=False), file=self._stream, flush=True)


class Metrics:
    """A textfile for Prometheus' node exporter."""

    def __init__(self, path: Path) -> None:
        """Write to a file, which is replaced every quarter of a minute.

        Raises:
            ConfigError: prometheus-client is not installed.
        """
        try:
            from prometheus_client import CollectorRegistry, Gauge
        except ImportError as error:
            raise ConfigError("--metrics", "needs prometheus-client", "pip install 'geoanom[metrics]'") from error
        self._path, self._next, self._registry = path, 0.0, CollectorRegistry()
        self._scenes = Gauge("geoanom_archive_scenes", "Scenes by state", ["state"], registry=self._registry)
        self._tiles = Gauge("geoanom_archive_tiles_scored", "Tiles scored", registry=self._registry)
        self._anomalies = Gauge("geoanom_archive_anomalies", "Anomalies found", registry=self._registry)
        self._seconds = Gauge("geoanom_archive_scene_seconds", "Time spent on scored scenes", registry=self._registry)
        self._last = Gauge("geoanom_archive_last_scored_timestamp_seconds", "When a scene was last scored", registry=self._registry)

    def tell(self, what: What, row: Row, message: str = "") -> None:
        """Nothing: figures are about all scenes."""

    def tick(self, rows: Mapping[str, Row]) -> None:
        """Write the file anew now and then."""
        if time.monotonic() >= self._next:
            self.close(rows)

    def close(self, rows: Mapping[str, Row]) -> None:
        """Write the file."""
        from prometheus_client import write_to_textfile

        self._next = time.monotonic() + METRICS_EVERY_S
        for state, n in totals_of(rows).items():
            self._scenes.labels(state=state).set(n)
        scored = [row for row in rows.values() if row.state in SCORED]
        self._tiles.set(sum(row.tiles_scored for row in scored))
        self._anomalies.set(sum(row.anomalies for row in scored))
        self._seconds.set(sum(row.seconds for row in scored))
        self._last.set(max((row.since for row in scored), default=0.0))
        write_to_textfile(str(self._path), self._registry)


class Several:
    """Tells several watchers; one that cannot write any more, to a closed pipe or a full disk, must not end the run."""

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        """In this order."""
        self._watchers = tuple(watchers)

    def tell(self, what: What, row: Row, message: str = "") -> None:
        """Pass it on."""
        for watcher in self._watchers:
            with suppress(OSError):
                watcher.tell(what, row, message)

    def tick(self, rows: Mapping[str, Row]) -> None:
        """Pass it on."""
        for watcher in self._watchers:
            with suppress(OSError):
                watcher.tick(rows)

    def close(self, rows: Mapping[str, Row]) -> None:
        """Pass it on."""
        for watcher in self._watchers:
            with suppress(OSError):
                watcher.close(rows)


def totals_of(rows: Mapping[str, Row]) -> dict[str, int]:
    """Number of scenes in every state."""
    counted = Counter(row.state for row in rows.values())
    return {state: counted[state] for state in STATES}

"""How a monitor stands."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from geoanom.monitor.metrics import Figures
    from geoanom.monitor.settings import Monitor
    from geoanom.monitor.store import Store
    from geoanom.monitor.values import Status

LISTED = 20
"""Refused or suspect scenes that are named."""
UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def status_of(store: Store, monitor: Monitor, now: float) -> dict[str, Any]:
    """How a monitor stands: scalars and lists that JSON can say.

    Args:
        store: of the monitor.
        monitor: its settings.
        now: seconds since 1970.
    """
    standing, entries = store.standing(), store.entries()
    suspects = [{"scene": entry.scene, "moment": entry.moment, "reason": entry.reason} for entry in entries if entry.state == "suspect"]
    refused = [{"path": seen.path, "message": seen.message} for seen in store.seen().values() if seen.outcome == "refused"]
    given_up = [{"event": event, "sink": sink, "error": error} for event, sink, error in store.abandoned()]
    last = standing.last_run
    return {
        "monitor": monitor.name,
        "store": store.label,
        "model_id": standing.facts.get("model_id"),
        "last_success": standing.last_success and moment_at(standing.last_success),
        "last_run": last and {"started": moment_at(last.started), "outcome": last.outcome or "running or killed", "message": last.message},
        "newest": standing.newest,
        "lag_s": standing.newest and round(now - dt.datetime.fromisoformat(standing.newest).timestamp()),
        "looks": standing.looks,
        "alerts": standing.alerts,
        "undelivered": store.undelivered(monitor.sinks),
        "given_up": given_up[:LISTED],
        "n_given_up": len(given_up),
        "given_up_by": dict(sorted(Counter(each["sink"] for each in given_up).items())),
        "refused": refused[:LISTED],
        "n_refused": len(refused),
        "suspects": suspects[-LISTED:],
        "n_suspect": len(suspects),
        "drift": json.loads(standing.facts.get("drift", "null")),
    }


def status_lines(status: Mapping[str, Any], now: float, *, public: bool = False) -> list[str]:
    """The same for people; what may be published has no paths and errors in it."""
    return [
        *([] if public else [f"monitor {status['monitor']} in {status['store']}"]),
        *_pass_lines(status, now, public=public),
        f"model: {status['model_id'] or 'not there yet'}",
        f"looks: {_counts(status['looks'])}; alerts: {_counts(status['alerts'])}",
        *(f"waiting for {name}: {n} events" for name, n in status["undelivered"].items() if n),
        *([] if public else _trouble_lines(status)),
        *([f"refused scenes: {status['n_refused']}"] if public and status["n_refused"] else []),
        *(f"suspect: {each['scene']} ({each['moment']}): {each['reason']}" for each in status["suspects"]),
        *_drift_lines(status["drift"]),
    ]


def _pass_lines(status: Mapping[str, Any], now: float, *, public: bool) -> list[str]:
    success, newest, last = status["last_success"], status["newest"], status["last_run"]
    passed = f"{success} ({ago(now - dt.datetime.fromisoformat(success).timestamp())} ago)" if success else "none yet"
    seen = f"{newest} ({ago(status['lag_s'])} ago)" if newest else "none yet"
    message = f": {last['message']}" if last and last["message"] and not public else ""
    return [f"last success: {passed}; last pass: {last['outcome'] if last else 'none yet'}{message}", f"newest scene: {seen}"]


def _trouble_lines(status: Mapping[str, Any]) -> list[str]:
    given_up = [f"given up: {each['sink']}: {each['error']}" for each in status["given_up"]]
    return [*given_up, *(f"refused: {each['message']}" for each in status["refused"])]


def figures_of(status: Mapping[str, Any], now: float) -> Figures:
    """The same for Prometheus."""
    from geoanom.monitor.metrics import Figures

    success, newest = status["last_success"], status["newest"]
    return Figures(
        monitor=status["monitor"],
        last_success=success and dt.datetime.fromisoformat(success).timestamp(),
        newest=newest and dt.datetime.fromisoformat(newest).timestamp(),
        now=now,
        looks=sum(status["looks"].values()),
        alerts=cast("Mapping[Status, int]", status["alerts"]),
        undelivered=status["undelivered"],
        given_up=status["given_up_by"],
        suspect_scenes=status["n_suspect"],
        refused_scenes=status["n_refused"],
        drift=status["drift"] and status["drift"]["distance"],
    )


def moment_at(seconds: float) -> str:
    """Seconds since 1970 as ``2024-05-01T10:30:00Z``."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).replace(tzinfo=None, microsecond=0).isoformat() + "Z"


def ago(seconds: float) -> str:
    """A length of time in its largest unit."""
    size = next((size for size in UNITS if seconds >= 2 * size[1]), UNITS[-1])
    return f"{round(seconds / size[1])} {size[0]}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {what}" for what, n in counts.items()) or "none"


def _drift_lines(tree: dict[str, Any] | None) -> Sequence[str]:
    from geoanom.monitor.drift import drift_from, words

    drift = drift_from(tree)
    return [] if drift is None else [f"drift: {words(drift)}"]

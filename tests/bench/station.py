"""A monitor that is run by its real command on any day, told to a real receiver that may fail, and killed now and then."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import median
from typing import TYPE_CHECKING, Any

import shapely
import standardwebhooks
import yaml

from geoanom.monitor.store import open_store

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from receivers import Posted, Receiver

NAME = "bench"
TAKEN = 200
SECRET = "whsec_" + base64.b64encode(b"a secret that lives as long as a trial").decode()
CLOCKED = """import sys, time
real, ahead = time.time, float(sys.argv.pop(1))
time.time = lambda: real() + ahead
from geoanom.cli.main import main
main()"""
"""The real command on another day: tries that wait for hours come up between two passes."""
QUICK = {
    "tiles": {"size": 32},
    "embed": {"backbone": "spectrum", "dim": 4, "head": {"hidden": [8]}, "training": {"epochs": 1}},
    "normalize": {"sample_pixels": 20_000},
    "fit": {"max_tiles": 2000, "min_tiles": 8, "fold_tiles": 2},
    "runtime": {"threads": 1},
}
"""A model that is fitted in seconds: the memory is what is measured here."""


@dataclass(frozen=True, kw_only=True)
class Heard:
    """A request that the receiver took."""

    event_id: str
    body: dict[str, Any]
    day: int
    is_signed: bool
    """Does the reference implementation of Standard Webhooks sign it alike?"""


@dataclass(kw_only=True)
class Station:
    """A monitor with its folder, store and receiver."""

    folder: Path
    store: str
    told: Receiver
    answers: list[int] = field(default_factory=list)
    """Of the receiver, in order; 200 when they have run out."""
    codes: Counter[int] = field(default_factory=Counter)
    kills: int = 0
    took: dict[bool, list[float]] = field(default_factory=lambda: {False: [2.0], True: [8.0]})
    """Seconds of whole passes, without and with new scenes."""
    requests: dict[int, int] = field(default_factory=dict)
    """Day to the number of requests that had come by its end."""

    @property
    def inbox(self) -> Path:
        """Where scenes arrive."""
        return self.folder / "inbox"

    @property
    def settings(self) -> Path:
        """The file that the command is given."""
        return self.folder / "monitor.yaml"

    def set_up(self, **settings: Any) -> None:
        """Write the settings, and make the receiver ready."""
        self.inbox.mkdir(parents=True, exist_ok=True)
        (self.folder / "quick.yaml").write_text(yaml.safe_dump(QUICK))
        hook = {"type": "webhook", "url": self.told.url, "secret_env": "HOOK_SECRET", "allow_private": True}
        own = {"name": NAME, "scenes": "inbox", "store": self.store, "config": "quick.yaml", "alerts": [hook], "thumbnails": False}
        self.settings.write_text(yaml.safe_dump({"schema_version": 1, "monitor": own | settings}))
        self.told.posted.clear()
        self.told.answers[:] = self.answers

    def fails(self, share: float, chance: random.Random) -> None:
        """Let the receiver fail a share of all times."""
        self.answers = [503 if chance.random() < share else TAKEN for _ in range(20_000)]

    def run(self, moment: datetime, *, is_new: bool = True, kill_after: float | None = None) -> str | None:
        """A pass at some moment.

        Args:
            moment: what the clock shows.
            is_new: is there something to look at?
            kill_after: share of the usual time of such a pass after which it is killed; it may have ended before.

        Returns:
            What it said; None if it was killed.
        """
        command = [sys.executable, "-c", CLOCKED, str(moment.timestamp() - time.time()), "monitor", "run", str(self.settings)]
        environ = {**os.environ, "OMP_NUM_THREADS": "1", "HOOK_SECRET": SECRET}
        begun = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ, cwd=self.folder)
        try:
            said, _ = process.communicate(timeout=None if kill_after is None else kill_after * median(self.took[is_new][-9:]))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            self.kills += 1
            return None
        self.took[is_new].append(time.monotonic() - begun)
        self.codes[process.returncode] += 1
        return said

    def heard(self) -> list[Heard]:
        """What the receiver took, copies included."""
        answers = [*self.answers, *[TAKEN] * len(self.told.posted)]
        return [
            _heard(posted, self._day(number))
            for number, (posted, answer) in enumerate(zip(self.told.posted, answers, strict=False))
            if answer == TAKEN
        ]

    def _day(self, number: int) -> int:
        return min(day for day, count in self.requests.items() if number < count)

    def state(self) -> dict[str, Any]:
        """Alerts and their transitions, in one form for all stores; names are left out, as they tell when people were told of what."""
        with open_store(self.store) as store:
            alerts = [_plain(alert) for alert in store.history(NAME).alerts]
            return {"alerts": alerts, "transitions": [_plain(move) for move in store.transitions()]}

    def waiting(self) -> int:
        """Events that were not delivered yet."""
        with open_store(self.store) as store:
            return sum(store.undelivered().values())


def _heard(posted: Posted, day: int) -> Heard:
    stamp = datetime.fromtimestamp(
        int(posted.headers["webhook-timestamp"]), UTC
    )  # of the trial's clock, which the library's own check is not of
    signature = standardwebhooks.Webhook(SECRET).sign(posted.event_id, stamp, posted.body.decode())
    signed = signature in posted.headers["webhook-signature"].split()
    return Heard(event_id=posted.event_id, body=json.loads(posted.body), day=day, is_signed=signed)


def _plain(value: Any) -> dict[str, Any]:
    """A value of the monitor as JSON."""
    tree = {key: getattr(value, key) for key in value.__dataclass_fields__}
    return {key: sorted(v) if isinstance(v, frozenset) else shapely.to_wkt(v) if hasattr(v, "geom_type") else v for key, v in tree.items()}

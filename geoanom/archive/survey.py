"""The scenes of an archive as they are now, looked at ahead of the work."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from geoanom.archive.identity import digest_of, stamp_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geoanom.archive.ledger import Row
    from geoanom.config import Config
    from geoanom.sources.catalog import Catalog, Entry

AHEAD = 64
"""Scenes whose content is hashed before they are needed."""
TICK_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Surveyed:
    """A scene as it is now."""

    entry: Entry
    stamp: str
    """Empty where its files cannot be looked at."""
    digest: str
    """SHA-256 of its content; empty where it cannot be read."""


class Survey:
    """Stamps and digests of all scenes in order, by a thread of its own; what did not change is not read again."""

    def __init__(self, catalog: Catalog, known: Mapping[str, Row], config: Config) -> None:
        """Begin to look."""
        self.exhausted = False
        self._config = config
        self._known = {name: (row.stamp, row.digest) for name, row in known.items()}
        self._ready: queue.Queue[Surveyed | Exception | None] = queue.Queue(AHEAD)
        self._closed = threading.Event()
        threading.Thread(target=self._look, args=(catalog,), daemon=True, name="survey").start()

    def take(self, timeout_s: float) -> Surveyed | None:
        """The next scene; None where none is ready in time, or none is left and `exhausted` is True."""
        try:
            found = None if self.exhausted else self._ready.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if isinstance(found, Exception):
            raise found
        self.exhausted = found is None
        return found

    def close(self) -> None:
        """Look no further."""
        self._closed.set()

    def _look(self, catalog: Catalog) -> None:
        """Look at all scenes; what goes wrong is told to who takes them, who would wait for ever otherwise."""
        try:
            for entry in catalog.entries:
                if not self._hand_over(look_at(entry, self._config, *self._known.get(entry.name, ("", "")))):
                    return
            self._hand_over(None)
        except Exception as error:  # noqa: BLE001 - raised again where it is heard
            self._hand_over(error)

    def _hand_over(self, scene: Surveyed | Exception | None) -> bool:
        """False when nobody wants to know any more."""
        while not self._closed.is_set():
            try:
                self._ready.put(scene, timeout=TICK_S)
            except queue.Full:
                continue
            return True
        return False


def look_at(entry: Entry, config: Config, stamp_before: str = "", digest_before: str = "") -> Surveyed:
    """A scene as it is now; its content is read unless its stamp is as it was."""
    if entry.refusal is not None:
        return Surveyed(entry=entry, stamp="refused", digest="")
    stamp = stamp_of(entry.uri, config)
    digest = digest_before if stamp and stamp == stamp_before else digest_of(entry.uri, config)
    return Surveyed(entry=entry, stamp=stamp, digest=digest)

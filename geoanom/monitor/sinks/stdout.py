"""One line of JSON for each event, without its pictures."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from geoanom.monitor.sinks.base import Retryable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

    from geoanom.monitor.values import Event


class Stdout:
    """Writes to a stream."""

    def __init__(self, stream: TextIO) -> None:
        """Write here."""
        self._stream = stream

    def send(self, event: Event) -> None:
        """Write a line, in ASCII, whatever the terminal knows.

        Raises:
            Retryable: the stream is closed or full.
        """
        try:
            print(json.dumps(_without_pictures(event.body), separators=(",", ":"), allow_nan=False), file=self._stream, flush=True)
        except (OSError, ValueError) as error:
            raise Retryable(f"stdout: cannot be written to ({getattr(error, 'strerror', None) or 'it is closed'})") from None


def _without_pictures(body: Mapping[str, Any]) -> dict[str, Any]:
    data = {name: value for name, value in body["data"].items() if not name.startswith("thumbnail_")}
    return {**body, "data": data}

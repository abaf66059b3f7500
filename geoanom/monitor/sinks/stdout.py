"""One line of JSON for each event."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from geoanom.monitor.sinks.base import Retryable

if TYPE_CHECKING:
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
            print(json.dumps(event.body, separators=(",", ":"), allow_nan=False), file=self._stream, flush=True)
        except (OSError, ValueError) as error:
            raise Retryable(f"stdout: cannot be written to ({getattr(error, 'strerror', None) or 'it is closed'})") from None

"""Signed JSON by POST: Standard Webhooks (https://www.standardwebhooks.com)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from typing import TYPE_CHECKING

from geoanom.errors import ConfigError
from geoanom.monitor.sinks.posting import post

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from geoanom.monitor.sinks.settings import WebhookSettings
    from geoanom.monitor.values import Event

PREFIX = "whsec_"


class Webhook:
    """Posts each event to one URL."""

    def __init__(self, settings: WebhookSettings, url: str, secrets: Sequence[bytes], now: Callable[[], float]) -> None:
        """Post with these keys; `now` gives the seconds since 1970 that are signed."""
        self._settings, self._url, self._secrets, self._now = settings, url, tuple(secrets), now

    def send(self, event: Event) -> None:
        """Post the event's body.

        Raises:
            Undelivered: it was not taken.
        """
        body = json.dumps(event.body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        headers = signed_headers(event.event_id, int(self._now()), body, self._secrets)
        post(self._url, body, headers, self._now, timeout_s=self._settings.timeout_s, allow_private=self._settings.allow_private)


def signed_headers(event_id: str, timestamp: int, body: bytes, secrets: Sequence[bytes]) -> dict[str, str]:
    """The three headers of Standard Webhooks, with a signature (v1, HMAC-SHA256) by each key."""
    signed = f"{event_id}.{timestamp}.".encode() + body
    signatures = [base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode() for secret in secrets]
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def keys_of(text: str, variable: str) -> tuple[bytes, ...]:
    """The keys in a secret: ``whsec_`` with base64, or any other text as it is.

    While a key is replaced there are two of the first kind, with a space between.

    Args:
        text: the secret.
        variable: where it stands, for the error.

    Raises:
        ConfigError: it is empty, or not base64 after ``whsec_``.
    """
    words = text.split()
    if not words:
        raise ConfigError(variable, "is empty", "set it to the secret that the receiver has given you")
    if not all(word.startswith(PREFIX) for word in words):
        return (text.encode(),)
    return tuple(_decoded(word.removeprefix(PREFIX), variable) for word in words)


def _decoded(text: str, variable: str) -> bytes:
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        key = b""
    if not key:
        raise ConfigError(variable, "is not base64 after whsec_", "copy the whole secret")
    return key

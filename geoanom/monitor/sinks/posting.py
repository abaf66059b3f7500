"""A POST that is either taken, refused, or worth another try."""

from __future__ import annotations

import base64
import http.client
import socket
import ssl
from contextlib import suppress
from email.utils import parsedate_to_datetime
from threading import Event, Timer
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from geoanom.monitor.sinks.addresses import connection_to
from geoanom.monitor.sinks.base import Gone, Refused, Retryable
from geoanom.sources.web import split_login

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from geoanom.monitor.sinks.base import Undelivered

LATER = frozenset({408, 425, 429})
"""Answers below 500 that are about the moment and not about the message."""


def post(
    url: str, body: bytes, headers: Mapping[str, str], now: Callable[[], float], *, timeout_s: float, allow_private: bool = False
) -> None:
    """Send a body; redirects are not followed, and no more of the answer is read than its head.

    Args:
        url: may hold a login, and is not repeated in errors but for its host.
        body: JSON.
        headers: more than those that every request has.
        now: seconds since 1970, to understand a date in ``Retry-After``.
        timeout_s: for all of it but the resolution of the name.
        allow_private: see `connection_to`.

    Raises:
        Undelivered: it was not taken.
    """
    plain, login = split_login(url)
    parts = urlsplit(plain)
    own = {"Content-Type": "application/json", "User-Agent": "geoanom", "Connection": "close", **headers}
    if login is not None:
        own["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
    connection = connection_to(parts, timeout_s, allow_private=allow_private)
    target = parts._replace(scheme="", netloc="", path=parts.path or "/").geturl()
    status, after = _exchange(connection, target, body, own, timeout_s)
    if not 200 <= status < 300:
        raise answer(parts.hostname or "", status, _seconds(after, now))


def answer(host: str, status: int, after_s: float | None) -> Undelivered:
    """What a status other than 2xx means."""
    if status == 410:
        return Gone(f"{host}: does not take messages any more (HTTP 410)")
    if status in LATER or status >= 500:
        return Retryable(f"{host}: is not ready (HTTP {status})", after_s)
    if 300 <= status < 400:
        return Refused(f"{host}: redirects (HTTP {status}), which is not followed; name the final URL")
    return Refused(f"{host}: refuses the message (HTTP {status})")


def _exchange(
    connection: http.client.HTTPConnection, target: str, body: bytes, headers: Mapping[str, str], timeout_s: float
) -> tuple[int, str | None]:
    """Status and ``Retry-After`` of the answer."""
    host, hung_up = connection.host, Event()
    watchdog = Timer(timeout_s, _hang_up, [connection, hung_up])  # a timeout of sockets is for each step, and a dripping server takes many
    watchdog.daemon = True
    watchdog.start()
    try:
        connection.request("POST", target, body, dict(headers))
        response = connection.getresponse()
        if hung_up.is_set():  # what has arrived may be cut off
            raise TimeoutError
        return response.status, response.headers.get("Retry-After")
    except ssl.SSLCertVerificationError as error:
        raise Retryable(f"{host}: its certificate is not to be trusted ({error.verify_message})") from None
    except (OSError, http.client.HTTPException) as error:
        reason = (
            "it gave no answer in time" if isinstance(error, TimeoutError) else getattr(error, "strerror", None) or type(error).__name__
        )
        raise Retryable(f"{host}: cannot be reached ({reason})") from None
    finally:
        watchdog.cancel()
        connection.close()


def _hang_up(connection: http.client.HTTPConnection, hung_up: Event) -> None:
    hung_up.set()
    with suppress(OSError, AttributeError):
        connection.sock.shutdown(socket.SHUT_RDWR)


def _seconds(after: str | None, now: Callable[[], float]) -> float | None:
    """``Retry-After`` in seconds (RFC 9110, section 10.2.3); None where it is none."""
    if after is None:
        return None
    if after.strip().isdecimal():
        return float(after[:12])
    with suppress(ValueError):
        return max(0.0, parsedate_to_datetime(after).timestamp() - now())
    return None

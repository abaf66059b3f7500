"""Connections to receivers on the open Internet, and to no other machine unless that is allowed.

A name is resolved once, all its addresses are judged, and the connection goes to one of those: a name that means another machine a moment
later leads nowhere else. Proxies are left out, as they would resolve the name once more.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from typing import TYPE_CHECKING

from geoanom.monitor.sinks.base import Refused, Retryable
from geoanom.sources.web import is_public_address

if TYPE_CHECKING:
    from collections.abc import Sequence
    from urllib.parse import SplitResult


def connection_to(url: SplitResult, timeout_s: float, *, allow_private: bool) -> http.client.HTTPConnection:
    """An HTTP connection that is yet to be opened, to an address that was judged.

    Args:
        url: of the receiver.
        timeout_s: for each step.
        allow_private: also to addresses that are not on the open Internet, and without encryption.

    Raises:
        Refused: the address may not be reached.
        Retryable: the name is not known, at the moment.
    """
    host = url.hostname or ""
    if url.scheme != "https" and not allow_private:
        raise Refused(f"{host}: is not encrypted; use https, or set allow_private")
    port = url.port or (443 if url.scheme == "https" else 80)
    addresses = _addresses(host, port)
    if not allow_private and not all(is_public_address(address) for address, _ in addresses):
        raise Refused(f"{host}: is on a private network; set allow_private if that is meant")
    kind = _EncryptedTo if url.scheme == "https" else _To
    return kind(host, port, addresses, timeout_s)


def _addresses(host: str, port: int) -> list[tuple[str, int]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Retryable(f"{host}: the name cannot be resolved ({getattr(error, 'strerror', None) or 'no such name'})") from None
    return list(dict.fromkeys((str(entry[4][0]), int(entry[4][1])) for entry in found))


class _To(http.client.HTTPConnection):
    """Opens to the first of some addresses that answers, and speaks to the host by its name."""

    def __init__(self, host: str, port: int, addresses: Sequence[tuple[str, int]], timeout_s: float) -> None:
        super().__init__(host, port, timeout=timeout_s)
        self._addresses = addresses

    def connect(self) -> None:
        """Open it."""
        self.sock = _open(self._addresses, self.timeout)


class _EncryptedTo(http.client.HTTPSConnection):
    """The same, encrypted: the certificate must be of the host's name."""

    def __init__(self, host: str, port: int, addresses: Sequence[tuple[str, int]], timeout_s: float) -> None:
        self._tls = ssl.create_default_context()
        super().__init__(host, port, timeout=timeout_s, context=self._tls)
        self._addresses = addresses

    def connect(self) -> None:
        """Open it."""
        bare = _open(self._addresses, self.timeout)
        self.sock = tls = self._tls.wrap_socket(bare, server_hostname=self.host, do_handshake_on_connect=False)
        tls.do_handshake()  # now that who hangs up finds the socket


def _open(addresses: Sequence[tuple[str, int]], timeout_s: float | None) -> socket.socket:
    for i, address in enumerate(addresses):
        try:
            return socket.create_connection(address, timeout_s)
        except OSError:
            if i == len(addresses) - 1:
                raise
    raise RuntimeError("a resolved name has an address")  # pragma: no cover

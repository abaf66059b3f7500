"""Ranges of bytes over HTTP, for what is looked at before GDAL may open it: identity, first bytes, documents.

Every hop of a request is judged: it may change the path on its host, or lead to a public host, and nowhere else.
"""

from __future__ import annotations

import base64
import ipaddress
import math
import re
import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException, InvalidURL
from typing import IO, TYPE_CHECKING
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from geoanom.errors import SceneError
from geoanom.raster.environ import TRIES

if TYPE_CHECKING:
    from collections.abc import Callable
    from email.message import Message
    from http.client import HTTPResponse
    from urllib.parse import SplitResult

EMBEDDING = {ipaddress.ip_network("64:ff9b::/96"): 0, ipaddress.ip_network("2002::/16"): 80}
"""Networks of IPv6 in which an address of IPv4 lies (RFC 6052, RFC 3056), by the bits behind it."""
CLOSED = tuple(map(ipaddress.ip_network, ("64:ff9b:1::/48", "::/96", "fec0::/10")))
"""Translation within a network (RFC 8215), IPv4 in an outdated form (RFC 4291), and site-local addresses (RFC 3879)."""
SCHEMES = ("http", "https")
PASSING = frozenset({429, 500, 502, 503, 504})
"""Answers after which a request is sent again."""
REASONS = {401: "asks for a login", 403: "may not be read", 404: "does not exist", 410: "does not exist any more", 412: "was replaced"}
FINAL = (TimeoutError, socket.gaierror, InvalidURL, str)
"""Reasons that another try does not mend; urllib gives that of a URL without a host in words."""
PAUSES_S = tuple(0.5 * 2**i for i in range(TRIES - 1))
CHUNK_BYTES = 65_536


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a server sent."""

    url: str
    """Where it came from, after all redirects."""
    body: bytes
    size_bytes: int
    """Of the whole file."""
    etag: str
    """Empty when the server states none."""
    modified: str
    """``Last-Modified``; empty when the server states none."""


def public_name(url: str) -> str:
    """A URL without user, password, query and fragment, which may hold secrets; other names as they are."""
    if "://" not in url or url.startswith("s3://"):
        return url
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, _place(parts), parts.path, "", ""))


def without_secrets(text: str) -> str:
    """A message of another library with the users, passwords and queries of all URLs left out."""
    return re.sub(r"[a-z][a-z0-9+]*://[^\s'\"]+", lambda found: _public_or_dots(found.group()), text)


def _public_or_dots(url: str) -> str:
    try:
        return public_name(url)
    except ValueError:
        return "..."


def split_login(url: str) -> tuple[str, str | None]:
    """A URL in ASCII without user, password and fragment, and ``user:password`` if it has them."""
    parts = urlsplit(quote(url, safe="%/:=&?~#+!$,;'@()*[]"))
    login = None if parts.username is None else f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return urlunsplit((parts.scheme, _place(parts), parts.path, parts.query, "")), login


def _place(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


def fetch(url: str, name: str, timeout_s: float, *, start: int = 0, length: int) -> Answer:
    """A range of a remote file's bytes, shorter where the file ends.

    Raises:
        SceneError: it cannot be had; in one line without the URL's secrets.
    """
    return _tried(partial(_send, url, name, timeout_s, f"bytes={start}-{start + length - 1}", length), name, timeout_s)


def fetch_document(url: str, name: str, timeout_s: float, limit_bytes: int) -> Answer:
    """A whole remote document of at most `limit_bytes`.

    Raises:
        SceneError: it cannot be had, or is larger.
    """
    return _tried(partial(_send, url, name, timeout_s, None, limit_bytes), name, timeout_s)


def _tried(send: Callable[[], Answer], name: str, timeout_s: float) -> Answer:
    """What a request gives; it is sent again, while there is time, when the reason may pass."""
    deadline = time.monotonic() + timeout_s
    for pause_s in (*PAUSES_S, math.inf):
        is_last = time.monotonic() + pause_s > deadline
        try:
            return send()
        except HTTPError as error:
            error.close()
            if is_last or error.code not in PASSING:
                raise refusal(name, error.code) from None
        except (URLError, OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            if is_last or isinstance(reason, FINAL):
                raise _unreached(name, reason, timeout_s) from None
        time.sleep(pause_s)
    raise RuntimeError("the last try gives an answer or an error")  # pragma: no cover


def _unreached(name: str, reason: object, timeout_s: float) -> SceneError:
    if isinstance(reason, TimeoutError):
        return SceneError(name, f"gave no answer within {timeout_s:g} s", "try again, or raise sources.read_timeout_s")
    return SceneError(name, f"cannot be reached ({without_secrets(str(reason))})", "check the URL and the network")


def refusal(name: str, code: int) -> SceneError:
    """The error for an answer that is none."""
    what = REASONS.get(code, "cannot be had")
    return SceneError(name, f"{what} (HTTP {code})", "check the URL and the permission to read it" if code < 500 else "try again later")


def _send(url: str, name: str, timeout_s: float, asked: str | None, limit: int) -> Answer:
    plain, login = split_login(url)
    headers = {"User-Agent": "geoanom", "Accept-Encoding": "identity"} | ({"Range": asked} if asked else {})
    ask = request.Request(plain, headers=headers)  # noqa: S310 - only HTTP handlers are installed
    if login is not None:  # a header that stays behind when a redirect leaves the host
        ask.add_unredirected_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    deadline = time.monotonic() + timeout_s
    with _opener(plain, name).open(ask, timeout=timeout_s) as response:
        size_bytes = None if asked is None else _size_of_whole(response, name, asked)
        body = _body(response, name, limit, deadline)
        return Answer(
            url=response.url,
            body=body,
            size_bytes=len(body) if size_bytes is None else size_bytes,
            etag=response.headers.get("ETag", ""),
            modified=response.headers.get("Last-Modified", ""),
        )


def _size_of_whole(response: HTTPResponse, name: str, asked: str) -> int:
    """Size in bytes of the file of which a range was asked for, before any of the body is taken."""
    stated = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", response.headers.get("Content-Range", ""))
    if response.status != 206 or stated is None or not asked.startswith(f"bytes={stated[1]}-"):
        raise SceneError(name, "is on a server that does not serve ranges of a file", "download the file and name the local copy")
    return int(stated[3])


def _body(response: HTTPResponse, name: str, limit: int, deadline: float) -> bytes:
    """The body, by pieces: neither an endless nor a dripping one may hold the program."""
    body, stated = bytearray(), response.headers.get("Content-Length")
    while chunk := response.read1(CHUNK_BYTES):
        body += chunk
        if len(body) > limit:
            raise SceneError(name, f"sends more than the {limit} bytes that it may", "check the URL")
        if time.monotonic() > deadline:
            raise TimeoutError
    if stated is not None and len(body) < int(stated):
        raise SceneError(name, f"is truncated: {len(body)} of {stated} bytes arrived", "try again, or download it and name the local copy")
    return bytes(body)


def _opener(url: str, name: str) -> request.OpenerDirector:
    """An opener that knows HTTP and nothing else."""
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler(),
        request.HTTPHandler(),
        request.HTTPSHandler(),
        _JudgedRedirects(url, name),
        request.HTTPDefaultErrorHandler(),
        request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


class _JudgedRedirects(request.HTTPRedirectHandler):
    """Follows redirects that `check_hop` lets pass."""

    def __init__(self, url: str, name: str) -> None:
        self._url, self._name = url, name

    def http_error_302(self, req: request.Request, fp: IO[bytes], code: int, msg: str, headers: Message) -> object:
        """Judge the address as the server wrote it, before urllib refuses it in words of its own."""
        where = headers.get("Location", "")
        scheme = urlsplit(where).scheme
        if scheme and scheme not in SCHEMES:
            fp.close()
            raise SceneError(self._name, f"redirects to a {scheme}: address", "name a URL that serves the file itself")
        return super().http_error_302(req, fp, code, msg, headers)  # type: ignore[arg-type]

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(  # noqa: PLR0917 - urllib's own
        self, req: request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> request.Request | None:
        """The next request; the one refusal is that of `check_hop`."""
        with ExitStack() as unless_judged_well:
            unless_judged_well.callback(fp.close)
            check_hop(self._url, newurl, self._name, "redirects")
            unless_judged_well.pop_all()
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def check_hop(here: str, there: str, name: str, verb: str) -> None:
    """Refuse an address that a server must not lead to: no HTTP, less safe, or inside a network that only this machine may see.

    Args:
        here: the URL that leads there.
        there: the address.
        name: named in the error.
        verb: what `here` does, for the error.

    Raises:
        SceneError: `there` is another host's private address, no HTTP, or plain HTTP after HTTPS.
    """
    source, target = urlsplit(here), urlsplit(there)
    if target.scheme not in SCHEMES:
        raise SceneError(name, f"{verb} to a {target.scheme}: address", "name a URL that serves the file itself")
    if source.scheme == "https" and target.scheme == "http":
        raise SceneError(name, f"{verb} from https to http", "name a URL that serves the file itself")
    if target.hostname != source.hostname and not is_public(target.hostname or ""):
        raise SceneError(name, f"{verb} to a private address of another host", "name that URL itself if it is meant")


def is_public(host: str) -> bool:
    """Do all addresses of a host lie on the open Internet?"""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return bool(found) and all(map(is_public_address, found))


def is_public_address(address: str) -> bool:
    """Does an address lie on the open Internet, also if it is an address within an address?"""
    place = ipaddress.ip_address(address.partition("%")[0])
    inner = [ipaddress.IPv4Address((int(place) >> bits) & 0xFFFFFFFF) for net, bits in EMBEDDING.items() if place in net]
    is_closed = place.is_multicast or any(place in net for net in CLOSED)
    return place.is_global and not is_closed and all(part.is_global for part in inner)

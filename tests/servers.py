"""Real servers on loopback: HTTP with ranges and with every fault that a test may want, and a store that speaks S3."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(kw_only=True)
class Site:
    """What a server serves, and what it was asked for."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    """Content by path, without the leading slash."""
    rules: dict[str, Callable[[Handler], bool]] = field(default_factory=dict)
    """By path: what answers a request in a way of its own, and says whether it has."""
    hits: list[str] = field(default_factory=list)
    """``METHOD /path range`` of every request."""
    bytes_served: int = 0
    """Of all bodies."""
    states_etag: bool = True
    released: threading.Event = field(default_factory=threading.Event)
    """Ends the waits of slow answers."""

    def put(self, path: str, content: bytes) -> str:
        """Serve this content; returns its URL."""
        self.files[path] = content
        return f"{self.url}/{path}"

    def forget(self) -> None:
        """Count from zero again."""
        self.hits.clear()
        self.bytes_served = 0


class Server(ThreadingHTTPServer):
    """Silent about connections that the client breaks off."""

    daemon_threads = True
    request_queue_size = 128  # GDAL opens several connections at once, and a full queue resets them
    site: Site

    def handle_error(self, request: object, client_address: object) -> None:
        """A test looks at what its client says."""


class Handler(BaseHTTPRequestHandler):
    """Serves a site, with ranges."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's own name
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer."""
        site, path = self.server.site, unquote(self.path.partition("?")[0]).lstrip("/")
        site.hits.append(f"{self.command} {self.path} {self.headers.get('Range', '')}".strip())
        if path in site.rules and site.rules[path](self):
            return
        if path not in site.files:
            self.reply(404, b"")
        else:
            self.reply_with(site.files[path])

    do_HEAD = do_GET  # noqa: N815 - http.server's own name

    def do_POST(self) -> None:
        """Answer like a GET; the body is read and left to the rules."""
        self.posted = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def reply_with(self, content: bytes, cut: int | None = None) -> bool:
        """Send the range that was asked for; only its first `cut` bytes, then hang up, where that is given. True: it is answered."""
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        headers = {"Accept-Ranges": "bytes"}
        if self.server.site.states_etag:
            headers["ETag"] = f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
        if asked is None:
            return self.reply(200, content, headers, cut)
        start, end = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
        if start >= len(content):
            return self.reply(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
        return self.reply(206, content[start : end + 1], headers, cut)

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: int | None = None) -> bool:
        """Send a status, headers and a body. True: it is answered."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            sent = body if cut is None else body[:cut]
            self.server.site.bytes_served += len(sent)
            with suppress(ConnectionError):
                self.wfile.write(sent)
        if cut is not None:
            self.close_connection = True
        return True


def status(code: int) -> Callable[[Handler], bool]:
    """The rule that answers with a status alone."""
    return lambda handler: handler.reply(code, b"")


def redirect(where: str) -> Callable[[Handler], bool]:
    """The rule that leads elsewhere."""
    return lambda handler: handler.reply(302, b"", {"Location": where})


def without_ranges(handler: Handler) -> bool:
    """The rule that sends the whole file, whatever range is asked for."""
    del handler.headers["Range"]
    return False


def slow(handler: Handler) -> bool:
    """The rule that lets the client wait until the test is over."""
    handler.server.site.released.wait(60)
    return False


@contextmanager
def http_site() -> Iterator[Site]:
    """A server of HTTP on loopback, for as long as the context lasts."""
    server = Server(("127.0.0.1", 0), Handler)
    server.site = Site(url=f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.site
    finally:
        server.site.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass(kw_only=True)
class Wire:
    """A relay that counts what comes back through it."""

    url: str
    bytes_served: int = 0
    """Headers and bodies."""


@contextmanager
def s3_store() -> Iterator[Wire]:
    """A store that speaks S3 (moto), behind a relay that counts bytes."""
    from moto.server import ThreadedMotoServer

    store = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    store.start()
    try:
        with _relay(store.get_host_and_port()) as wire:
            yield wire
    finally:
        store.stop()


@contextmanager
def _relay(target: tuple[str, int]) -> Iterator[Wire]:
    listener = socket.create_server(("127.0.0.1", 0))
    wire = Wire(url=f"http://127.0.0.1:{listener.getsockname()[1]}")
    thread = threading.Thread(target=_accept, args=(listener, target, wire), daemon=True)
    thread.start()
    try:
        yield wire
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _accept(listener: socket.socket, target: tuple[str, int], wire: Wire) -> None:
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(target)
            threading.Thread(target=_pump, args=(client, server, None), daemon=True).start()
            threading.Thread(target=_pump, args=(server, client, wire), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket, wire: Wire | None) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
            if wire is not None:
                wire.bytes_served += len(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
    source.close()

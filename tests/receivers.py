"""Who is told, in tests: a real receiver of HTTP, plain and encrypted, and a real server of mail, all on loopback; and a small outbox."""

from __future__ import annotations

import json
import shutil
import sqlite3
import ssl
import subprocess
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from geoanom.monitor.values import Delivery, Event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from email.message import EmailMessage, Message
    from pathlib import Path

    from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


def event(name: str, day: int = 1, alert: str = "a", kind: Any = "alert.new", **data: Any) -> Event:
    """An event with some body."""
    moment = f"2024-05-{day:02d}T10:30:00Z"
    told = {"alert_id": alert, "monitor": "north-sea", "status": "new", "score": 0.93, "lon": 3.25, "lat": 56.125, **data}
    return Event(event_id=name, type=kind, moment=moment, body={"type": kind, "id": name, "timestamp": moment, "data": told})


@dataclass(kw_only=True)
class Posted:
    """A request that arrived."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def event_id(self) -> str:
        """As the header says it."""
        return self.headers["webhook-id"]


@dataclass(kw_only=True)
class Receiver:
    """Takes what is posted, and answers as it is told."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    """Statuses of the next answers; 200 when they have run out, no answer at all at 0, a dripping one at -1."""
    headers: dict[str, str] = field(default_factory=dict)
    """Of every answer."""
    posted: list[Posted] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)
    """That encrypted connections asked for."""
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def ids(self) -> list[str]:
        """Of all requests, in order."""
        return [posted.event_id for posted in self.posted]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    receiver: Receiver

    def handle_error(self, request: object, client_address: object) -> None:
        """A test looks at what its client says."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's own name
        """Say nothing."""

    def do_POST(self) -> None:
        receiver = self.server.receiver
        body = self.rfile.read(int(self.headers["Content-Length"]))
        receiver.posted.append(Posted(path=self.path, headers={k.lower(): v for k, v in self.headers.items()}, body=body))
        status = receiver.answers.pop(0) if receiver.answers else 200
        if status <= 0:
            self._drip(receiver, dripping=status < 0)
            return
        self.send_response(status)
        for name, value in {"Content-Length": "0", **receiver.headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _drip(self, receiver: Receiver, *, dripping: bool) -> None:
        with suppress(OSError):
            if not dripping:
                receiver.released.wait(60)
            self.wfile.write(b"HTTP/1.1 200 ")
            for _ in range(200):
                receiver.released.wait(0.02)
                self.wfile.write(b"X")
            self.wfile.write(b"\r\nContent-Length: 0\r\n\r\n")
        self.close_connection = True


@contextmanager
def receiver(certificate: Path | None = None) -> Iterator[Receiver]:
    """A receiver on loopback, encrypted where a certificate is given."""
    server = _Server(("127.0.0.1", 0), _Handler)
    scheme, host = ("https", "localhost") if certificate else ("http", "127.0.0.1")
    server.receiver = Receiver(url=f"{scheme}://{host}:{server.server_port}/hook?a=1")
    if certificate:
        context = _server_context(certificate)
        context.sni_callback = lambda _socket, name, _context: server.receiver.names.append(name)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.receiver
    finally:
        server.receiver.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


def certificate_for(name: str, folder: Path) -> Path:
    """A certificate with its key in one file, signed by itself."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl, which makes the certificate")
    path, key = folder / f"{name}.pem", folder / f"{name}.key"
    subject = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, "-keyout", str(key), "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + key.read_text())
    return path


def _server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@dataclass(kw_only=True)
class Mailbox:
    """What a mail server took."""

    host: str = "localhost"
    port: int = 0
    mails: list[tuple[list[str], EmailMessage]] = field(default_factory=list)
    """Recipients and message."""
    refusals: dict[str, str] = field(default_factory=dict)
    """The server's answer to a recipient, or to DATA."""
    logins: list[tuple[str, str, bool]] = field(default_factory=list)
    """User, password, encrypted?"""


class _Keeper:
    def __init__(self, box: Mailbox) -> None:
        self._box = box

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's own
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Sequence[str]
    ) -> str:
        del server, session, options
        if address in self._box.refusals:
            return self._box.refusals[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's own
        del server, session
        if "DATA" in self._box.refusals:
            return self._box.refusals["DATA"]
        content = envelope.content
        assert isinstance(content, bytes)
        parsed: Any = message_from_bytes(content, policy=policy.default)
        self._box.mails.append((list(map(str, envelope.rcpt_tos)), parsed))
        return "250 OK"


@contextmanager
def mailbox(certificate: Path | None = None, password: str = "") -> Iterator[Mailbox]:
    """A mail server on loopback; with a certificate it wants STARTTLS, with a password a login."""
    controllers = pytest.importorskip("aiosmtpd.controller", reason="needs aiosmtpd, a real mail server")
    from aiosmtpd.smtp import AuthResult

    box = Mailbox()

    def judged(server: SMTP, session: Session, envelope: Envelope, mechanism: str, login: LoginPassword) -> AuthResult:
        del server, envelope, mechanism
        box.logins.append((login.login.decode(), login.password.decode(), session.ssl is not None))
        return AuthResult(success=login.password.decode() == password, handled=False)

    means: dict[str, Any] = {"authenticator": judged, "auth_required": True, "auth_require_tls": True} if password else {}
    if certificate:
        means |= {"tls_context": _server_context(certificate), "require_starttls": True}
    controller = controllers.Controller(_Keeper(box), hostname="127.0.0.1", port=_free_port(), **means)
    controller.start()
    box.port = controller.port
    try:
        yield box
    finally:
        controller.stop()


def _free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def text_of(message: Message) -> str:
    """The text of a mail."""
    body: Any = message
    return str(body.get_body().get_content())


class FileOutbox:
    """Events in one SQLite file, which outlives its process."""

    def __init__(self, path: Path, after: Callable[[str], None] = lambda _: None) -> None:
        """Open it; `after` is called with an event's id before it is marked as delivered."""
        self._db, self._after = sqlite3.connect(path, isolation_level=None), after
        self._db.execute("PRAGMA synchronous = OFF")  # processes are killed in tests, machines are not
        self._db.execute("""CREATE TABLE IF NOT EXISTS outbox (sink TEXT, id TEXT, type TEXT, moment TEXT, body TEXT, state TEXT,
            attempts INTEGER, next_try REAL, error TEXT, PRIMARY KEY (sink, id))""")

    def add(self, sink: str, *events: Event) -> None:
        """Let events wait for a sink."""
        for each in events:
            row = (sink, each.event_id, each.type, each.moment, json.dumps(dict(each.body)))
            self._db.execute("INSERT OR IGNORE INTO outbox VALUES (?, ?, ?, ?, ?, 'waits', 0, 0, '')", row)

    def due(self, sink: str, now: float, limit: int) -> Sequence[Delivery]:
        rows = self._db.execute(
            "SELECT id, type, moment, body, attempts FROM outbox WHERE sink = ? AND state = 'waits' AND (next_try <= ? OR next_try > ?) "
            "ORDER BY moment, id LIMIT ?",
            (sink, now, now + 86_400, limit),
        )
        return [
            Delivery(event=Event(event_id=i, type=kind, moment=moment, body=json.loads(body)), sink=sink, attempts=attempts)
            for i, kind, moment, body, attempts in rows
        ]

    def delivered(self, event_id: str, sink: str) -> None:
        self._after(event_id)
        self._db.execute("UPDATE outbox SET state = 'delivered' WHERE id = ? AND sink = ?", (event_id, sink))

    def failed(self, event_id: str, sink: str, error: str, next_try: float) -> None:
        self._db.execute(
            "UPDATE outbox SET attempts = attempts + 1, error = ?, next_try = ? WHERE id = ? AND sink = ?",
            (error, next_try, event_id, sink),
        )

    def given_up(self, event_id: str, sink: str, error: str) -> None:
        self._db.execute("UPDATE outbox SET state = 'given up', error = ? WHERE id = ? AND sink = ?", (error, event_id, sink))

    def states(self, sink: str) -> dict[str, str]:
        """Of all events of a sink."""
        return dict(self._db.execute("SELECT id, state FROM outbox WHERE sink = ? ORDER BY moment, id", (sink,)).fetchall())

    def next_try(self, event_id: str, sink: str) -> float:
        """When it is tried next."""
        return float(self._db.execute("SELECT next_try FROM outbox WHERE id = ? AND sink = ?", (event_id, sink)).fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        self._db.close()

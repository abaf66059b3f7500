"""Who is told: signed, refused or put off, in order, again after a crash under the same id, and never lost."""

from __future__ import annotations

import base64
import io
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from email import message_from_bytes
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from receivers import FileOutbox, Receiver, certificate_for, event, mailbox, receiver, text_of
from rfc7946 import assert_rfc7946

from geoanom.errors import ConfigError, OutputError
from geoanom.monitor.deliver import LONGEST_WAIT_S, PATIENCE_S, deliver, is_patience_over, wait_s
from geoanom.monitor.settings import Monitor
from geoanom.monitor.sinks import slack
from geoanom.monitor.sinks.addresses import connection_to
from geoanom.monitor.sinks.base import Gone, Refused, Retryable, Sink
from geoanom.monitor.sinks.building import Means, build_sinks, refresh_feeds
from geoanom.monitor.sinks.email import message_of
from geoanom.monitor.sinks.feed import feed_text
from geoanom.monitor.sinks.settings import EmailSettings
from geoanom.monitor.sinks.webhook import keys_of

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from geoanom.monitor.values import Event

SECRET = "whsec_" + base64.b64encode(b"a key of twenty-four bytes").decode()
PICTURE = b"\x89PNG\r\n\x1a\nbefore"


def no_alerts() -> list[dict[str, Any]]:
    return []


def sink(state: Callable[[], Iterable[Mapping[str, Any]]] = no_alerts, stream: Any = None, environ: Any = None, **settings: Any) -> Sink:
    """A sink as a monitor's file makes it."""
    secrets = {"SECRET": SECRET, "PASSWORD": "pass word", **(environ or {})}
    monitor = Monitor.model_validate({"name": "n", "scenes": "s", "model": "m", "alerts": [settings]})
    means = Means(environ=secrets, now=time.time, state=state, stream=stream or io.StringIO())
    return next(iter(build_sinks(monitor.sinks, means).values()))


def webhook(url: str, **more: Any) -> Sink:
    return sink(**{"type": "webhook", "url": url, "secret_env": "SECRET", "allow_private": True, "timeout_s": 5, **more})


def mail(box: Any, **more: Any) -> dict[str, Any]:
    common = {"type": "email", "host": box.host, "port": box.port, "sender": "geoanom@example.org", "to": ["duty@example.org"]}
    return {**common, "security": "none", "timeout_s": 5, **more}


@pytest.fixture
def site() -> Iterator[Receiver]:
    with receiver() as site:
        yield site


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[FileOutbox]:
    box = FileOutbox(tmp_path / "outbox.sqlite")
    yield box
    box.close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate_for("localhost", tmp_path_factory.mktemp("tls"))


# Webhook


@pytest.mark.parametrize(("secret", "key"), [(SECRET, SECRET), ("any old text", b"any old text")])
def test_an_independent_reader_verifies_the_signature(site: Receiver, secret: str, key: str | bytes) -> None:
    judge = pytest.importorskip("standardwebhooks", reason="needs standardwebhooks, the reference reader")
    told = event("e1", area="Åland & <co>", thumbnail_before=base64.b64encode(PICTURE).decode())
    webhook(site.url, environ={"SECRET": secret}).send(told)
    (posted,) = site.posted
    assert judge.Webhook(key).verify(posted.body, dict(posted.headers)) == told.body
    assert (posted.event_id, posted.path, posted.headers["content-type"]) == ("e1", "/hook?a=1", "application/json")
    with pytest.raises(judge.WebhookVerificationError):
        judge.Webhook(key).verify(posted.body.replace(b"0.93", b"0.94"), dict(posted.headers))


def test_while_a_key_is_replaced_both_keys_sign(site: Receiver) -> None:
    judge = pytest.importorskip("standardwebhooks", reason="needs standardwebhooks, the reference reader")
    other = "whsec_" + base64.b64encode(b"another key of some length").decode()
    webhook(site.url, environ={"SECRET": f"{SECRET} {other}"}).send(event("e1"))
    for key in (SECRET, other):
        assert judge.Webhook(key).verify(site.posted[0].body, dict(site.posted[0].headers))


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_every_good_answer_is_good(site: Receiver, status: int) -> None:
    site.answers = [status]
    webhook(site.url).send(event("e1"))
    assert len(site.posted) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((code, Refused) for code in (301, 302, 307, 400, 401, 403, 404, 405, 413, 422)),
        *((code, Retryable) for code in (408, 425, 429, 500, 502, 503, 504)),
        (410, Gone),
    ],
)
def test_every_other_answer_is_a_refusal_or_for_later(site: Receiver, status: int, kind: type[Exception]) -> None:
    site.answers, site.headers = [status], {"Location": site.url}
    with pytest.raises(kind, match=f"HTTP {status}"):
        webhook(site.url).send(event("e1"))
    assert len(site.posted) == 1  # no redirect is followed


@pytest.mark.parametrize(
    ("header", "after_s"),
    [("120", 120), ("-5", None), ("soon", None), ("in an hour", 3600)],
)
def test_a_wish_to_be_left_alone_is_heard(site: Receiver, header: str, after_s: float | None) -> None:
    told = formatdate(time.time() + 3600) if header == "in an hour" else header
    site.answers, site.headers = [429], {"Retry-After": told}
    with pytest.raises(Retryable) as caught:
        webhook(site.url).send(event("e1"))
    assert caught.value.after_s == (after_s if after_s is None else pytest.approx(after_s, abs=30))


@pytest.mark.parametrize("answer", [0, -1])
def test_a_receiver_that_does_not_answer_or_drips_is_left(site: Receiver, answer: int) -> None:
    site.answers = [answer]
    with pytest.raises(Retryable, match="cannot be reached"):
        webhook(site.url, timeout_s=0.3).send(event("e1"))


def test_a_receiver_that_is_not_there_is_tried_later() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Retryable, match="cannot be reached"):
        webhook(f"http://127.0.0.1:{port}/s3cret?token=s3cret").send(event("e1"))
    with pytest.raises(Retryable, match="cannot be resolved"):
        webhook("http://nowhere.invalid/").send(event("e1"))


PRIVATE = """127.0.0.1 localhost 0.0.0.0 10.1.2.3 192.168.1.1 172.16.0.1 169.254.169.254 100.64.0.1 224.0.0.1 2130706433 0x7f.1 0177.0.0.1
[::1] [fe80::1] [fd00:ec2::254] [::ffff:127.0.0.1] [64:ff9b::a9fe:a9fe] [2002:7f00:1::] [64:ff9b:1::a00:1]
[::808:808] [fec0::1]"""


@pytest.mark.parametrize("host", PRIVATE.split())
def test_what_is_not_on_the_open_internet_is_refused_unless_allowed(host: str) -> None:
    url = urlsplit(f"https://{host}/")
    with pytest.raises(Refused, match="private network"):
        connection_to(url, 1.0, allow_private=False)
    connection_to(url, 1.0, allow_private=True)


def test_a_name_with_one_private_address_among_others_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver is hostile."""
    real = socket.getaddrinfo

    def hostile(host: str, *rest: Any, **more: Any) -> Any:
        names = ["8.8.8.8", "10.0.0.1"] if host == "mixed.example" else [host]
        return [entry for name in names for entry in real(name, *rest, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", hostile)
    with pytest.raises(Refused, match="private network"):
        connection_to(urlsplit("https://mixed.example/"), 1.0, allow_private=False)


def test_plain_http_is_refused_unless_allowed() -> None:
    with pytest.raises(Refused, match="not encrypted"):
        connection_to(urlsplit("http://8.8.8.8/"), 1.0, allow_private=False)
    connection_to(urlsplit("https://8.8.8.8/"), 1.0, allow_private=False)


def test_a_name_that_means_another_machine_a_moment_later_leads_nowhere_else(site: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver is hostile; the rest is real."""
    port, real, asked = urlsplit(site.url).port, socket.getaddrinfo, []

    def hostile(host: str, *rest: Any, **more: Any) -> Any:
        asked.append(host)
        return real("127.0.0.1" if asked.count("rebinding.example") == 1 or host == "127.0.0.1" else "127.66.6.6", *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", hostile)
    webhook(f"http://rebinding.example:{port}/").send(event("e1"))
    assert asked.count("rebinding.example") == 1
    assert site.posted[0].headers["host"] == f"rebinding.example:{port}"


def test_a_certificate_must_be_of_the_hosts_name(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver(certificate) as site:
        with pytest.raises(Retryable, match="not to be trusted"):
            webhook(site.url).send(event("e1"))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        webhook(site.url).send(event("e2"))
        with pytest.raises(Retryable, match="not to be trusted"):
            webhook(site.url.replace("localhost", "127.0.0.1")).send(event("e3"))
        assert (site.ids, site.names[:2]) == (["e2"], ["localhost", "localhost"])


@pytest.mark.parametrize("rest", ["", "*", "a", "MfKQ!9g="])
def test_a_secret_that_is_none_is_refused_and_not_repeated(rest: str) -> None:
    with pytest.raises(ConfigError, match="SECRET: is not base64") as caught:
        keys_of(f"whsec_{rest}", "SECRET")
    assert f"whsec_{rest or '?'}" not in str(caught.value)
    assert keys_of(f"whsec_{rest} other words", "SECRET") == (f"whsec_{rest} other words".encode(),)
    with pytest.raises(ConfigError, match="SECRET: is empty"):
        keys_of(" ", "SECRET")


@pytest.mark.parametrize(
    "settings",
    [
        {"type": "webhook", "url": "https://example.org", "secret_env": "NONE"},
        {"type": "webhook", "url_env": "NONE", "secret_env": "SECRET"},
        {"type": "slack", "url_env": "NONE"},
        {"type": "email", "host": "h", "sender": "a@b.c", "to": ["d@e.f"], "user": "u", "password_env": "NONE"},
    ],
)
def test_a_variable_that_is_not_set_is_named(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="the variable NONE is not set"):
        sink(**settings)
    with pytest.raises(ConfigError, match=r"alerts\.slack: the variable U holds no URL"):
        sink(type="slack", url_env="U", environ={"U": "hooks.slack.com/x"})


# Slack, stdout


def test_a_text_for_slack_cannot_be_markup(site: Receiver) -> None:
    told = event("e1", area="<!channel> & co", reason="a\nb", report="https://example.org/?a=1&b=<x|y>#a", thumbnail_before="c2VjcmV0")
    sink(type="slack", url_env="U", environ={"U": site.url}, allow_private=True).send(told)
    text = json.loads(site.posted[0].body)["text"]
    assert "<" not in text.replace("<https://example.org/?a=1&amp;b=%3Cx%7Cy%3E#a|report>", "")
    assert "&lt;!channel&gt; &amp; co" in text
    assert "why: a b" in text
    assert "c2VjcmV0" not in text


@given(st.text())
def test_escaped_text_means_the_same(text: str) -> None:
    escaped = slack.escaped(text)
    assert not set("<>") & set(escaped)
    assert escaped.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") == text


def test_a_line_of_json_is_one_event() -> None:
    stream = io.StringIO()
    out = sink(type="stdout", stream=stream)
    told = [event("e1", reason="a\nb\u2028c\udc80"), event("e2", kind="scene.suspect")]
    for each in told:
        out.send(each)
    assert [json.loads(line) for line in stream.getvalue().splitlines()] == [each.body for each in told]
    stream.close()
    with pytest.raises(Retryable, match="stdout"):
        out.send(told[0])
    if Path("/dev/full").exists():
        full = Path("/dev/full").open("w")  # noqa: SIM115 - closing it fails again
        with pytest.raises(Retryable, match="No space"):
            sink(type="stdout", stream=full).send(told[0])
        with pytest.raises(OSError, match="No space"):
            full.close()


@pytest.mark.parametrize("kind", ["alert.new", "alert.persistent", "alert.resolved", "scene.suspect", "digest"])
def test_a_sink_is_told_what_it_wants_to_hear(kind: str) -> None:
    stream = io.StringIO()
    sink(type="stdout", stream=stream, events=["alert.new", "digest"]).send(event("e1", kind=kind))
    assert bool(stream.getvalue()) == (kind in ("alert.new", "digest"))


# Mail


def test_a_mail_tells_what_has_happened_and_shows_it() -> None:
    told = event("e1", area="harbour", thumbnail_before=base64.b64encode(PICTURE).decode(), report="https://example.org/page#a")
    with mailbox() as box:
        sink(**mail(box, to=["duty@example.org", "boss@example.org"])).send(told)
        sink(**mail(box)).send(told)
    (people, message), (_, again) = box.mails
    assert people == ["duty@example.org", "boss@example.org"]
    assert message["Subject"] == "[north-sea] something has changed in harbour at 56.12500, 3.25000"
    assert message["Message-ID"] == again["Message-ID"] == "<e1@example.org>"
    assert {"score: 0.93", "area: harbour", "https://example.org/page#a"} <= set(text_of(message).splitlines())
    (picture,) = message.iter_attachments()
    assert (picture.get_filename(), picture.get_content()) == ("before.png", PICTURE)


@given(st.text(), st.text())
def test_no_text_breaks_out_of_its_header_or_line(area: str, reason: str) -> None:
    settings = EmailSettings.model_validate({"type": "email", "host": "h", "sender": "a@b.org", "to": ["c@d.org"]})
    told = event("e1", area=f"{area}\r\nBcc: x@y.org\r\n\r\n", reason=f"{reason}\nalert: fake")
    parsed = message_from_bytes(message_of(told, settings, 0.0).as_bytes())
    assert parsed["Bcc"] is None
    assert parsed["To"] == "c@d.org"
    assert sum(line.startswith("alert: ") for line in text_of(message_of(told, settings, 0.0)).splitlines()) == 1


def test_a_login_waits_for_encryption(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    login = {"user": "geoanom", "password_env": "PASSWORD", "security": "starttls"}
    with mailbox(certificate, "pass word") as box:
        sink(**mail(box, **login)).send(event("e1"))
        with pytest.raises(Retryable, match="does not take the user and password") as caught:
            sink(**mail(box, **login), environ={"PASSWORD": "s3cret"}).send(event("e2"))
        with pytest.raises(Retryable, match="localhost"):
            sink(**mail(box)).send(event("e3"))
    assert box.logins[0] == ("geoanom", "pass word", True)
    assert len(box.mails) == 1
    assert "s3cret" not in str(caught.value)
    with mailbox() as plain, pytest.raises(Retryable, match="STARTTLS"):
        sink(**mail(plain, **login)).send(event("e4"))
    assert not plain.mails


@pytest.mark.parametrize(
    ("refusals", "kind"),
    [
        ({"duty@example.org": "550 no such user"}, Refused),
        ({"duty@example.org": "451 try later"}, Retryable),
        ({"duty@example.org": "550 no such user", "boss@example.org": "451 try later"}, Retryable),
        ({"DATA": "554 looks like spam"}, Refused),
        ({"DATA": "452 disk full"}, Retryable),
    ],
)
def test_a_mail_that_is_not_taken_is_refused_or_for_later(refusals: dict[str, str], kind: type[Exception]) -> None:
    with mailbox() as box:
        box.refusals = refusals
        with pytest.raises(kind, match="SMTP"):
            sink(**mail(box, to=["duty@example.org", "boss@example.org"])).send(event("e1"))
        if list(refusals.values()) == ["550 no such user"]:
            assert [people for people, _ in box.mails] == [["boss@example.org"]]


# The file of alerts


def alert(name: str, status: str = "new", day: int = 1, **more: Any) -> dict[str, Any]:
    lon = 3.0 + sum(name.encode()) % 7
    ring = [[lon, 56.0], [lon + 0.5, 56.0], [lon + 0.5, 56.5], [lon, 56.5], [lon, 56.0]]
    last = {"last_observed": f"2024-{1 + day // 28:02d}-{1 + day % 28:02d}T10:30:00Z", "families": ["change", "embedding"]}
    return {"alert_id": name, "status": status, "geometry": {"type": "Polygon", "coordinates": [ring]}, **last, **more}


STATES = st.lists(
    st.builds(alert, st.text("abc", min_size=1), st.sampled_from(["new", "persistent", "resolved", "dismissed"]), st.integers(0, 100)),
    unique_by=lambda entry: entry["alert_id"],
)


@given(STATES, st.integers(0, 60), st.randoms(use_true_random=False))
def test_the_feed_is_rfc_7946_and_tells_the_state_alone(state: list[dict[str, Any]], keep_days: int, rng: random.Random) -> None:
    tree = assert_rfc7946(feed_text(state, keep_days))
    shown = {feature["id"]: feature["properties"]["status"] for feature in tree["features"]}
    assert {key for key, status in shown.items() if status != "resolved"} == {
        entry["alert_id"] for entry in state if entry["status"] in ("new", "persistent")
    }
    assert "dismissed" not in shown.values()
    shuffled = rng.sample(state, len(state))
    assert feed_text([*shuffled, *state], keep_days) == feed_text(state, keep_days)


def test_a_resolved_alert_leaves_the_feed_after_some_days() -> None:
    state = [alert("old", "resolved", 1), alert("young", "resolved", 11), alert("open", "new", 1), alert("newest", "new", 21)]
    assert [feature["id"] for feature in json.loads(feed_text(state, 10))["features"]] == ["newest", "open", "young"]


def test_the_feed_is_replaced_at_once_and_only_when_it_changes(tmp_path: Path) -> None:
    path, state = tmp_path / "alerts.geojson", [alert("a")]
    feed = sink(lambda: state, type="file", path=str(path))
    feed.send(event("e1"))
    first = path.stat()
    feed.send(event("e1"))
    assert path.stat().st_ino == first.st_ino
    state[0] = alert("a", "dismissed")
    monitor = Monitor.model_validate({"name": "n", "scenes": "s", "model": "m", "alerts": [{"type": "file", "path": str(path)}]})
    refresh_feeds(monitor.sinks, lambda: state)
    assert json.loads(path.read_text())["features"] == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["alerts.geojson"]


def test_a_feed_that_cannot_be_written_is_for_later(tmp_path: Path) -> None:
    path = tmp_path / "none" / "alerts.geojson"
    with pytest.raises(Retryable, match="could not be written"):
        sink(lambda: [alert("a")], type="file", path=str(path)).send(event("e1"))
    monitor = Monitor.model_validate({"name": "n", "scenes": "s", "model": "m", "alerts": [{"type": "file", "path": str(path)}]})
    with pytest.raises(OutputError, match="could not be written"):
        refresh_feeds(monitor.sinks, no_alerts)


# Delivery


def at(now: float) -> Callable[[], float]:
    """A clock."""
    return lambda: now


class Taker:
    """Takes events, but for those that it is told to fail."""

    def __init__(self, **fails: Exception) -> None:
        self.fails, self.taken = fails, list[str]()

    def send(self, event: Event) -> None:
        if event.event_id in self.fails:
            raise self.fails[event.event_id]
        self.taken.append(event.event_id)


def test_events_are_handed_over_once_and_in_order(outbox: FileOutbox, site: Receiver) -> None:
    outbox.add("hook", *(event(f"e{day}", day, alert=f"a{day}") for day in (3, 1, 2)))
    sinks = {"hook": webhook(site.url)}
    report = deliver(outbox, sinks, time.time)
    assert (site.ids, report.delivered, report.errors) == (["e1", "e2", "e3"], 3, {})
    assert deliver(outbox, sinks, time.time).delivered == 0
    assert len(site.posted) == 3


def test_a_sink_that_is_down_holds_up_nobody_and_loses_nothing(outbox: FileOutbox, site: Receiver) -> None:
    events = [event(f"e{day}", day, alert=f"a{day}") for day in (1, 2, 3)]
    outbox.add("down", *events)
    outbox.add("up", *events)
    up, down = Taker(), webhook(site.url)
    site.answers = [503]
    report = deliver(outbox, {"down": down, "up": up}, at(0.0))
    assert (site.ids, up.taken) == (["e1"], ["e1", "e2", "e3"])  # one try, and the sink is left alone
    assert (report.sinks["down"].waiting, report.sinks["up"].waiting) == (3, 0)
    assert report.errors == {"down": "127.0.0.1: is not ready (HTTP 503)"}
    deliver(outbox, {"down": down, "up": up}, at(3600.0))
    assert site.ids == ["e1", "e1", "e2", "e3"]
    assert set(outbox.states("down").values()) == {"delivered"}


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["ok", "later", "refused", "gone"])), min_size=1, max_size=8), st.data())
def test_events_of_one_alert_never_overtake_each_other_and_none_is_lost(
    tmp_path_factory: pytest.TempPathFactory, plan: list[tuple[str, str]], data: st.DataObject
) -> None:
    outbox, now, taken = FileOutbox(tmp_path_factory.mktemp("o") / "o.sqlite"), 0.0, list[str]()
    errors = {"later": Retryable("x"), "refused": Refused("x"), "gone": Gone("x")}
    fails = {f"e{i}": errors[what] for i, (_, what) in enumerate(plan) if what != "ok"}
    events = [event(f"e{i}", 1 + i, alert=name) for i, (name, _) in enumerate(plan)]
    for told in [[each] for each in events] + [[]] * 6:  # events come in pass by pass
        outbox.add("s", *told)
        taker = Taker(**fails)
        deliver(outbox, {"s": taker}, at(now))
        taken += taker.taken
        now += data.draw(st.sampled_from([1.0, 40.0, 7200.0, -1e6, 1e9]))
        for key in data.draw(st.lists(st.sampled_from(sorted(fails)), unique=True)) if fails else []:
            fails.pop(key)
    fails.clear()
    for _ in range(2):  # the longest wait is over
        now = abs(now) + 1e9
        taker = Taker()
        deliver(outbox, {"s": taker}, at(now))
        taken += taker.taken
    assert sorted(taken) == sorted(each.event_id for each in events)
    for name in "ab":
        own = [each.event_id for each in events if each.body["data"]["alert_id"] == name]
        assert [key for key in taken if key in own] == own
    outbox.close()


def test_what_is_refused_lets_the_others_pass_and_is_given_up_after_three_days(outbox: FileOutbox) -> None:
    outbox.add("s", event("bad", 1, alert="a"), event("good", 2, alert="b"), event("after", 3, alert="a"))
    taker, now, tries = Taker(bad=Refused("no")), 0.0, 0
    assert deliver(outbox, {"s": taker}, at(now)).sinks["s"].waiting == 2
    assert taker.taken == ["good"]
    while outbox.states("s")["bad"] == "waits":
        now, tries = outbox.next_try("bad", "s"), tries + 1
        report = deliver(outbox, {"s": taker}, at(now))
    assert now >= PATIENCE_S
    assert (report.sinks["s"].given_up, tries) == (1, 21)
    assert taker.taken == ["good", "after"]
    assert outbox.states("s")["bad"] == "given up"


def test_what_may_pass_is_tried_for_ever(outbox: FileOutbox) -> None:
    outbox.add("s", event("e1"))
    now = 0.0
    for _ in range(200):
        deliver(outbox, {"s": Taker(e1=Retryable("down"))}, at(now))
        now = outbox.next_try("e1", "s")
    assert now > 40 * 86_400
    assert outbox.states("s") == {"e1": "waits"}


def test_a_receiver_that_is_gone_is_asked_once_a_pass(outbox: FileOutbox, site: Receiver) -> None:
    outbox.add("s", *(event(f"e{day}", day, alert=f"a{day}") for day in (1, 2, 3)))
    site.answers = [410]
    report = deliver(outbox, {"s": webhook(site.url)}, at(0.0))
    assert (site.ids, report.sinks["s"].waiting) == (["e1"], 3)


@given(st.integers(1, 500), st.one_of(st.none(), st.floats(0, 1e9)))
def test_waits_double_up_to_a_cap_and_hear_wishes(attempts: int, wish_s: float | None) -> None:
    assert wait_s(1) == 30.0
    assert wait_s(attempts) == min(LONGEST_WAIT_S, 30.0 * 2 ** (attempts - 1))
    assert wait_s(attempts, wish_s) == max(wait_s(attempts), min(wish_s or 0.0, 43_200.0))
    assert is_patience_over(attempts + 1) >= is_patience_over(attempts)


def test_a_clock_that_was_wrong_once_delays_nothing_for_years(outbox: FileOutbox) -> None:
    outbox.add("s", event("e1"))
    deliver(outbox, {"s": Taker(e1=Retryable("down"))}, at(4e9))  # the year 2096
    taker = Taker()
    deliver(outbox, {"s": taker}, at(1.7e9))
    assert taker.taken == ["e1"]


def test_a_pass_ends_between_two_events_when_it_has_to(outbox: FileOutbox) -> None:
    outbox.add("s", *(event(f"e{day}", day, alert=f"a{day}") for day in (1, 2, 3)))
    taker, asked = Taker(), itertools.count()
    deliver(outbox, {"s": taker}, at(0.0), stop=lambda: next(asked) == 2)
    assert taker.taken == ["e1", "e2"]
    deliver(outbox, {"s": taker}, at(0.0), limit=1)
    assert taker.taken == ["e1", "e2", "e3"]


KILLED = """
import os, signal, sys, time
from pathlib import Path
from receivers import FileOutbox
from test_sinks import webhook
from geoanom.monitor.deliver import deliver

def die(event_id):
    if event_id == "e2":
        os.kill(os.getpid(), signal.SIGKILL)

deliver(FileOutbox(Path(sys.argv[1]), after=die), {"hook": webhook(sys.argv[2])}, time.time)
"""


def test_a_process_that_is_killed_before_it_takes_note_repeats_itself_under_the_same_id(tmp_path: Path, site: Receiver) -> None:
    path = tmp_path / "outbox.sqlite"
    with ExitStack() as stack:
        outbox = FileOutbox(path)
        stack.callback(outbox.close)
        outbox.add("hook", *(event(f"e{day}", day, alert=f"a{day}") for day in (1, 2, 3)))
        environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        killed = subprocess.run([sys.executable, "-c", KILLED, str(path), site.url], env=environ, check=False, timeout=60)
        assert killed.returncode == -signal.SIGKILL
        assert outbox.states("hook") == {"e1": "delivered", "e2": "waits", "e3": "waits"}
        deliver(outbox, {"hook": webhook(site.url)}, time.time)
        assert site.ids == ["e1", "e2", "e2", "e3"]
        first, again = (posted for posted in site.posted if posted.event_id == "e2")
        assert first.body == again.body
        assert set(outbox.states("hook").values()) == {"delivered"}

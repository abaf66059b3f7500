"""From the settings of sinks to the sinks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from geoanom.errors import ConfigError
from geoanom.monitor.sinks.settings import EmailSettings, FileSettings, SlackSettings, WebhookSettings, is_http

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import TextIO

    from geoanom.monitor.sinks.base import Sink
    from geoanom.monitor.sinks.feed import State
    from geoanom.monitor.sinks.settings import SinkSettings
    from geoanom.monitor.values import Event


@dataclass(frozen=True, kw_only=True)
class Means:
    """What sinks need of the world."""

    environ: Mapping[str, str] = field(repr=False)
    """Where secrets stand."""
    now: Callable[[], float]
    """Seconds since 1970."""
    state: State
    """All alerts as they stand when it is called."""
    stream: TextIO
    """What a sink of the type ``stdout`` writes to."""


def build_sinks(settings: Mapping[str, SinkSettings], means: Means) -> dict[str, Sink]:
    """The sinks by their names.

    Raises:
        ConfigError: a variable that a sink needs is not set, or cannot be used.
    """
    return {name: _build(each, name, means) for name, each in settings.items()}


def refresh_feeds(settings: Mapping[str, SinkSettings], state: State) -> None:
    """Bring the files of alerts up to date, also where nothing was to be told: people may have dismissed some.

    Raises:
        OutputError: one could not be written.
    """
    from geoanom.monitor.sinks.feed import Feed

    for each in settings.values():
        if isinstance(each, FileSettings):
            Feed(each.path, state, each.keep_days).refresh()


def _build(settings: SinkSettings, name: str, means: Means) -> Sink:
    sink = _whole(settings, name, means)
    return sink if settings.events is None else Only(sink, settings.events)


def _whole(settings: SinkSettings, name: str, means: Means) -> Sink:
    """Each kind is imported where it is used: half of them are in no monitor."""
    if isinstance(settings, WebhookSettings):
        from geoanom.monitor.sinks.webhook import Webhook, keys_of

        url = settings.url or _url(settings.url_env, name, means.environ)
        return Webhook(settings, url, keys_of(_variable(settings.secret_env, name, means.environ), settings.secret_env), means.now)
    if isinstance(settings, SlackSettings):
        from geoanom.monitor.sinks.slack import Slack

        return Slack(settings, _url(settings.url_env, name, means.environ), means.now)
    if isinstance(settings, EmailSettings):
        from geoanom.monitor.sinks.email import Email

        password = _variable(settings.password_env, name, means.environ) if settings.password_env else ""
        return Email(settings, password, means.now)
    if isinstance(settings, FileSettings):
        from geoanom.monitor.sinks.feed import Feed

        return Feed(settings.path, means.state, settings.keep_days)
    from geoanom.monitor.sinks.stdout import Stdout

    return Stdout(means.stream)


class Only:
    """Tells a sink some types of events and keeps the others from it."""

    def __init__(self, sink: Sink, types: Collection[str]) -> None:
        """Tell it these."""
        self._sink, self._types = sink, frozenset(types)

    def send(self, event: Event) -> None:
        """Hand over an event of these types; others count as taken."""
        if event.type in self._types:
            self._sink.send(event)


def _variable(variable: str | None, sink: str, environ: Mapping[str, str]) -> str:
    value = environ.get(variable or "", "").strip()
    if not value:
        raise ConfigError(f"alerts.{sink}", f"the variable {variable} is not set", f"export {variable}, or leave the sink out")
    return value


def _url(variable: str | None, sink: str, environ: Mapping[str, str]) -> str:
    url = _variable(variable, sink, environ)
    if not is_http(url):
        raise ConfigError(f"alerts.{sink}", f"the variable {variable} holds no URL", "set it to an address that starts with https://")
    return url

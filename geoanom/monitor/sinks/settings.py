"""The settings of those who are told."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from geoanom.config.section import Section
from geoanom.monitor.fields import Here, Variable
from geoanom.monitor.schedule import NAME
from geoanom.monitor.values import EventType

SCHEMES = ("http", "https")
ADDRESS = r"^[^@\s<>,;:()\[\]\\\"]+@[A-Za-z0-9.-]+$"


class _Sink(Section):
    """What all sinks have in common."""

    name: str | None = Field(None, pattern=f"^{NAME}$", description="unique in the monitor; the type when null")
    events: tuple[EventType, ...] | None = Field(None, min_length=1, description="types of events it is told; all when null")


class _Receiver(_Sink):
    timeout_s: float = Field(20.0, gt=0.0, le=300.0, description="longest time for one message")
    allow_private: bool = Field(default=False, description="also addresses of private networks and of this machine, and plain http")


class WebhookSettings(_Receiver):
    """Signed JSON by POST, as Standard Webhooks has it."""

    type: Literal["webhook"]
    url: str | None = Field(None, description="where to")
    url_env: Variable | None = None
    secret_env: Variable

    @model_validator(mode="after")
    def _says_where(self) -> WebhookSettings:
        if (self.url is None) == (self.url_env is None):
            raise ValueError("give one of url, url_env")
        if self.url is not None and not is_http(self.url):
            raise ValueError("url is no address that starts with https://")
        if self.url is not None and "@" in urlsplit(self.url).netloc:
            raise ValueError("url holds a login: put it into a variable and name that in url_env")
        return self


class SlackSettings(_Receiver):
    """A text, as Slack, Mattermost and their like take it; the URL is a secret."""

    type: Literal["slack"]
    url_env: Variable


class EmailSettings(_Sink):
    """A mail by SMTP."""

    type: Literal["email"]
    host: str = Field(min_length=1, pattern=r"^[^\s/@]+$")
    port: int = Field(587, ge=1, le=65535)
    security: Literal["starttls", "ssl", "none"] = "starttls"
    user: str | None = None
    password_env: Variable | None = None
    sender: str = Field(pattern=ADDRESS)
    to: tuple[Annotated[str, Field(pattern=ADDRESS)], ...] = Field(min_length=1)
    timeout_s: float = Field(30.0, gt=0.0, le=300.0)

    @model_validator(mode="after")
    def _logs_in_or_not(self) -> EmailSettings:
        if (self.user is None) != (self.password_env is None):
            raise ValueError("user and password_env go together")
        if self.user is not None and self.security == "none":
            raise ValueError("a password is not sent without encryption: set security to starttls or ssl")
        return self


class FileSettings(_Sink):
    """A GeoJSON file of the alerts as they stand."""

    type: Literal["file"]
    path: Here
    keep_days: int = Field(30, ge=0, description="days that a resolved alert stays")


class StdoutSettings(_Sink):
    """One line of JSON for each event."""

    type: Literal["stdout"]


SinkSettings = Annotated[WebhookSettings | SlackSettings | EmailSettings | FileSettings | StdoutSettings, Field(discriminator="type")]


def is_http(url: str) -> bool:
    """Is this an address of HTTP, with a host and no impossible port?"""
    try:
        parts = urlsplit(url)
        return parts.scheme in SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False

"""A text in JSON, as Slack, Mattermost and their like take it at an incoming webhook."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import quote

from geoanom.monitor.sinks.posting import post
from geoanom.monitor.sinks.wording import headline, lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from geoanom.monitor.sinks.settings import SlackSettings
    from geoanom.monitor.values import Event


class Slack:
    """Posts each event to one channel."""

    def __init__(self, settings: SlackSettings, url: str, now: Callable[[], float]) -> None:
        """Post to a URL, which is a secret; `now` gives seconds since 1970."""
        self._settings, self._url, self._now = settings, url, now

    def send(self, event: Event) -> None:
        """Post the event in words.

        Raises:
            Undelivered: it was not taken.
        """
        body = json.dumps({"text": text_of(event)}, ensure_ascii=False).encode()
        post(self._url, body, {}, self._now, timeout_s=self._settings.timeout_s, allow_private=self._settings.allow_private)


def text_of(event: Event) -> str:
    """Headline, facts and link, in Slack's markup."""
    report = event.body["data"].get("report")
    link = [f"<{escaped(quote(report, safe='%/:=&?~#+!$,;@()*[]'))}|report>"] if report else []
    return "\n".join([f"*{escaped(headline(event))}*", *map(escaped, lines(event)), *link])


def escaped(text: str) -> str:
    """The three characters that mean something else, as https://docs.slack.dev/messaging/formatting-message-text has it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

"""A mail for each event, by SMTP."""

from __future__ import annotations

import base64
import smtplib
import ssl
from contextlib import closing, suppress
from email.message import EmailMessage
from email.utils import formatdate
from typing import TYPE_CHECKING

from geoanom.errors import one_line
from geoanom.monitor.sinks.base import Refused, Retryable
from geoanom.monitor.sinks.wording import headline, lines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from geoanom.monitor.sinks.settings import EmailSettings
    from geoanom.monitor.values import Event

LOGIN = frozenset({530, 534, 535, 538})
"""Answers that are about a login or about encryption (RFC 4954, section 6), and not about the mail."""
PICTURES = ("before", "after")


class Email:
    """Sends each event to some people."""

    def __init__(self, settings: EmailSettings, password: str, now: Callable[[], float]) -> None:
        """Log in with a password where the settings name a user; `now` gives seconds since 1970."""
        self._settings, self._password, self._now = settings, password, now

    def send(self, event: Event) -> None:
        """Send a mail, whose Message-ID is made of the event's id, so that a repeat can be told.

        Raises:
            Undelivered: it was not taken for all.
        """
        message = message_of(event, self._settings, self._now())
        try:
            with closing(self._connected()) as server:
                refused = self._hand_over(server, message)
                with suppress(smtplib.SMTPException, OSError):  # what was taken is taken, however the server says goodbye
                    server.quit()
        except smtplib.SMTPException as error:
            raise Retryable(self._about(error)) from None
        except OSError as error:
            raise Retryable(f"{self._settings.host}: cannot be reached ({error.strerror or type(error).__name__})") from None
        if refused:
            raise self._not_for_all(refused)

    def _connected(self) -> smtplib.SMTP:
        """A server that one may speak to; whatever goes wrong here is not the event's fault."""
        settings = self._settings
        if settings.security == "ssl":
            context = ssl.create_default_context()
            server: smtplib.SMTP = smtplib.SMTP_SSL(settings.host, settings.port, timeout=settings.timeout_s, context=context)
        else:
            server = smtplib.SMTP(settings.host, settings.port, timeout=settings.timeout_s)
        try:
            if settings.security == "starttls":
                server.starttls(context=ssl.create_default_context())
            if settings.user is not None:
                server.login(settings.user, self._password)
        except BaseException:
            server.close()
            raise
        return server

    def _hand_over(self, server: smtplib.SMTP, message: EmailMessage) -> Mapping[str, tuple[int, bytes]]:
        """Those for whom it was not taken, with the server's answers."""
        try:
            return server.send_message(message, self._settings.sender, list(self._settings.to))
        except smtplib.SMTPRecipientsRefused as error:
            return error.recipients
        except (smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as error:
            if error.smtp_code >= 500 and error.smtp_code not in LOGIN:
                raise Refused(self._about(error)) from None
            raise

    def _not_for_all(self, refused: Mapping[str, tuple[int, bytes]]) -> Retryable | Refused:
        """A repeat reaches those again who have it already; they know it by its Message-ID."""
        codes = [code for code, _ in refused.values()]
        why = f"{self._settings.host}: does not take mail for {', '.join(sorted(refused))} (SMTP {max(codes)})"
        return Retryable(why) if min(codes) < 500 else Refused(why)

    def _about(self, error: smtplib.SMTPException) -> str:
        """The server's code, and its words unless they follow on a password."""
        host = self._settings.host
        if isinstance(error, smtplib.SMTPAuthenticationError):
            return f"{host}: does not take the user and password (SMTP {error.smtp_code})"
        if isinstance(error, smtplib.SMTPResponseException):
            words = error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else str(error.smtp_error)
            return f"{host}: {words[:200]} (SMTP {error.smtp_code})"
        return f"{host}: {error}"


def message_of(event: Event, settings: EmailSettings, now: float) -> EmailMessage:
    """The mail; no text of an event can break out of its header or place."""
    message = EmailMessage()
    message["Subject"] = one_line(headline(event))[:200]
    message["From"], message["To"] = settings.sender, ", ".join(settings.to)
    message["Date"] = formatdate(now)
    message["Message-ID"] = f"<{event.event_id}@{settings.sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no answers of absent people, please
    data = event.body["data"]
    link = [one_line(str(data["report"]))] if data.get("report") else []
    message.set_content("\n".join([headline(event), "", *lines(event), *link]) + "\n")
    for which in PICTURES:
        if data.get(f"thumbnail_{which}"):
            picture = base64.b64decode(data[f"thumbnail_{which}"])
            message.add_attachment(picture, maintype="image", subtype="png", filename=f"{which}.png")
    return message

"""Every error that geoanom raises on purpose, and the exit code each one ends with.

    GeoanomError                 1   base of them all
    ├── ConfigError              2   a setting or option that cannot be used
    ├── PartialError             3   some scenes failed, the rest is written
    ├── InputError               4   an input that is bad or refused; nothing was written
    │   ├── SceneError               a raster
    │   └── ModelError               a model bundle or a head file
    ├── OutputError              5   an output that could not be written
    └── LockedError              6   another run works on the same outputs

Each message reads ``PATH: what is wrong; what to do``.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from os import PathLike


class ExitCode(enum.IntEnum):
    """What a process tells its caller."""

    DONE = 0
    BUG = 1
    USAGE = 2
    PARTIAL = 3
    REFUSED = 4
    UNWRITTEN = 5
    LOCKED = 6
    FOUND = 10


class GeoanomError(Exception):
    """Base of all errors raised on purpose.

    Args:
        subject: the path, key or name that the message is about.
        wrong: what is wrong with it.
        remedy: what the reader can do about it.
    """

    exit_code = ExitCode.BUG

    def __init__(self, subject: str | PathLike[str], wrong: str, remedy: str = "") -> None:
        """Compose the one-line message."""
        self.subject, self.wrong, self.remedy = str(subject), one_line(wrong), one_line(remedy)
        super().__init__(str(self))

    def __str__(self) -> str:
        """The message on one line."""
        tail = f"; {self.remedy}" if self.remedy else ""
        return f"{one_line(self.subject)}: {self.wrong}{tail}"

    def __reduce__(self) -> tuple[type[GeoanomError], tuple[str, str, str]]:
        """Keep the three parts when an error crosses a process border."""
        return type(self), (self.subject, self.wrong, self.remedy)


class ConfigError(GeoanomError):
    """A setting or option that cannot be used."""

    exit_code = ExitCode.USAGE


class PartialError(GeoanomError):
    """Some scenes failed and the rest is written."""

    exit_code = ExitCode.PARTIAL


class InputError(GeoanomError):
    """An input that is bad or refused; nothing was written."""

    exit_code = ExitCode.REFUSED


class SceneError(InputError):
    """A raster that cannot be used as a scene."""


class ModelError(InputError):
    """A model bundle or head file that cannot be used."""


class OutputError(GeoanomError):
    """An output that could not be written."""

    exit_code = ExitCode.UNWRITTEN


class LockedError(GeoanomError):
    """Another run works on the same outputs."""

    exit_code = ExitCode.LOCKED


def one_line(text: str) -> str:
    """Fold white space and escape what would break the line of a terminal or a log."""
    folded = " ".join(text.split())
    return "".join(c if c.isprintable() else f"\\x{ord(c) & 0xFF if 0xDC80 <= ord(c) <= 0xDCFF else ord(c):02x}" for c in folded)

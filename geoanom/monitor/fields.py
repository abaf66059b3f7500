"""Kinds of values in the settings of a monitor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, Field, ValidationInfo

from geoanom.errors import ConfigError
from geoanom.monitor.schedule import minutes_of


def _from_folder(value: str, info: ValidationInfo) -> str:
    """A path as seen from the folder of the settings' file; URLs stay as they are, but for the path of an SQLite URL."""
    folder = (info.context or {}).get("folder")
    if value.startswith("sqlite:///"):
        return "sqlite:///" + _from_folder(value.removeprefix("sqlite:///"), info)
    if folder is None or "://" in value:
        return value
    return str(folder / Path(value).expanduser())


def _holds_no_password(value: str) -> str:
    parts = urlsplit(value)
    if "://" in value and (parts.password is not None or "password" in parse_qs(parts.query)):
        raise ValueError("holds a password: leave it out, and set it in the environment instead (PGPASSWORD, or the sink's url_env)")
    return value


def _known_period(value: str) -> str:
    try:
        minutes_of(value)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    return value


Place = Annotated[str, Field(min_length=1), AfterValidator(_holds_no_password), AfterValidator(_from_folder)]
"""A path or a URL."""
Here = Annotated[Path, AfterValidator(lambda value, info: Path(_from_folder(str(value), info)))]
"""A path."""
Period = Annotated[str, AfterValidator(_known_period)]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="a variable of the environment")]

"""Kinds of values in the settings of a monitor, and the one line for those that cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, Field, ValidationInfo

from geoanom.config.loading import WORDS
from geoanom.config.section import Section
from geoanom.errors import ConfigError
from geoanom.monitor.schedule import minutes_of
from geoanom.registry import unknown

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

SEE = "see configs/monitor.yaml"


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


def as_config_error(error: ValidationError, root: type[Section], subject: str) -> ConfigError:
    """One line for the first complaint, with the nearest known key or name when one is unknown."""
    first = min(error.errors(), key=lambda e: e["type"] not in ("extra_forbidden", "union_tag_invalid"))  # they explain what is missing
    groups, keys = _trail(root, first["loc"])
    where = ".".join(keys)
    if first["type"] == "extra_forbidden":
        siblings = {".".join([*keys[:-1], name]) for group in groups for name in group.model_fields}
        return ConfigError(subject, str(unknown("setting", where, siblings)))
    if first["type"].startswith("union_tag"):
        return ConfigError(subject, _about_tag(first, where, groups))
    said = WORDS.get(first["type"], first["msg"].removeprefix("Value error, "))
    return ConfigError(subject, f"{where or 'settings'}: {said}", SEE)


def _trail(root: type[Section], loc: tuple[int | str, ...]) -> tuple[list[type[Section]], list[str]]:
    """The groups of settings that the last key of a place belongs to, and the keys as the file has them: without tags of unions."""
    groups: list[type[Section]] = [root]
    keys: list[str] = []
    for part in loc:
        tagged = [group for group in groups if _tag_of(group) == part]
        if tagged and len(groups) > 1:
            groups = tagged
            continue
        keys.append(str(part))
        found = [group.model_fields[part].annotation for group in groups if isinstance(part, str) and part in group.model_fields]
        groups = _sections_in(found) or groups
    return groups, keys


def _sections_in(annotations: list[Any]) -> list[type[Section]]:
    """All groups of settings that an annotation names, however deep."""
    here = [part for part in annotations if isinstance(part, type) and issubclass(part, Section)]
    return here + [found for part in annotations if part not in here for found in _sections_in(list(get_args(part)))]


def _tag_of(group: type[Section]) -> object:
    kind = group.model_fields.get("type")
    return next(iter(get_args(kind.annotation)), None) if kind else None


def _about_tag(error: ErrorDetails, where: str, groups: list[type[Section]]) -> str:
    known = [str(_tag_of(group)) for group in groups if _tag_of(group)]
    if error["type"] == "union_tag_not_found":
        return f"{where}: has no type; known: {', '.join(known)}"
    return f"{where}.type: {unknown('type', str(error['ctx']['tag']), known)}"

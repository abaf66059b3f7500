"""One line for settings that cannot be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from geoanom.config.section import Section
from geoanom.errors import ConfigError
from geoanom.registry import unknown

if TYPE_CHECKING:
    from os import PathLike

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

WORDS = {"tuple_type": "should be a list, such as [1, 3]", "model_type": "should be a group of settings, such as {key: value}"}
"""What complaints of pydantic mean in YAML."""


def as_config_error(error: ValidationError, root: type[Section], subject: str | PathLike[str], see: str) -> ConfigError:
    """One line for the first complaint, with the nearest known key or name when one is unknown.

    Args:
        error: of pydantic.
        root: the group of settings that was being read.
        subject: the file or place that it came from.
        see: where the reader finds what is meant.
    """
    first = min(error.errors(), key=lambda e: e["type"] not in ("extra_forbidden", "union_tag_invalid"))  # they explain what is missing
    groups, keys = _trail(root, first["loc"])
    where = ".".join(keys)
    if first["type"] == "extra_forbidden":
        siblings = {".".join([*keys[:-1], name]) for group in groups for name in group.model_fields}
        return ConfigError(subject, str(unknown("setting", where, siblings)))
    if first["type"].startswith("union_tag"):
        return ConfigError(subject, _about_tag(first, where, groups))
    said = WORDS.get(first["type"], first["msg"].removeprefix("Value error, "))
    return ConfigError(subject, f"{where or 'settings'}: {said}", see)


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

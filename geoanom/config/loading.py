"""Settings from YAML, the environment and the command line.

Later sources win: built-in defaults, the file, ``GEOANOM_*`` variables (``GEOANOM_TILES__SIZE=32``), ``--set key.path=value``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import yaml
from pydantic import ValidationError
from yaml.constructor import ConstructorError

from geoanom.config.section import Section
from geoanom.config.sections import Config, Member
from geoanom.errors import ConfigError
from geoanom.registry import unknown

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping
    from os import PathLike

ENV_PREFIX = "GEOANOM_"
WORDS = {"tuple_type": "should be a list, such as [1, 3]", "model_type": "should be a group of settings, such as {key: value}"}
"""What complaints of pydantic mean in YAML."""


def load_config(path: str | PathLike[str] | None = None, sets: Iterable[str] = (), environ: Mapping[str, str] | None = None) -> Config:
    """Read the settings from all their sources.

    Args:
        path: a YAML file, or None for the defaults.
        sets: ``key.path=value`` texts, the value in YAML.
        environ: the environment; the process's own when None.

    Raises:
        ConfigError: a file, key or value that cannot be used.
    """
    tree = _read_yaml(Path(path)) if path else {}
    for name, text in sorted((os.environ if environ is None else environ).items()):
        keys = name.removeprefix(ENV_PREFIX).lower().split("__")
        if name.startswith(ENV_PREFIX) and (len(keys) > 1 or keys[0] in Config.model_fields):  # others are no settings, such as secrets
            _place(tree, keys, text, name)
    for item in sets:
        key, equals, text = item.partition("=")
        if not equals:
            raise ConfigError(item, "not a setting", "write --set key.path=value")
        _place(tree, key.strip().split("."), text, item)
    return parse_config(tree, str(path or "config"))


def parse_config(tree: Mapping[str, Any], subject: str = "config") -> Config:
    """Check a tree of settings; `subject` is named in the error."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise _as_config_error(error, subject) from error


def dump_config(config: Config) -> str:
    """The settings as YAML that `load_config` reads back to an equal value."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


class _Loader(yaml.SafeLoader):
    """The safe loader, which also refuses what YAML passes over in silence: a key given twice, and a key that is no text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - YAML's
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise ConstructorError(
                    None, None, f"the key {key_node.value!r} means {key!r} in YAML, put it in quotes", key_node.start_mark
                )
            if key in seen:
                raise ConstructorError(None, None, f"the key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _load_yaml(text: str) -> Any:
    return yaml.load(text, _Loader)  # noqa: S506 - it is a safe loader


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = _load_yaml(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(path, f"cannot be read ({error})", "name a readable YAML file") from error
    except yaml.YAMLError as error:
        raise ConfigError(path, f"cannot be read as YAML ({error})", "mend the file") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(path, "is not a mapping of settings", "see configs/default.yaml")
    return tree


def _place(tree: dict[str, Any], keys: list[str], text: str, subject: str) -> None:
    """Put a YAML value at a path of keys; a threshold rule displaces the rule that stood there."""
    try:
        value = _load_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(subject, f"the value is not YAML ({error})", "quote it") from error
    node = tree
    for key in keys[:-1]:
        node = node.setdefault(key, {})
        if not isinstance(node, dict):
            raise ConfigError(subject, f"{key!r} is not a group of settings", "see configs/default.yaml")
    if keys[:-1] == ["threshold"] and value is not None:
        node.clear()
    node[keys[-1]] = value


def _as_config_error(error: ValidationError, subject: str) -> ConfigError:
    """One line for the first complaint, with the nearest known key when a key is unknown."""
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")  # a misspelt key explains one that is missing
    keys = [str(part) for part in first["loc"]]
    where = ".".join(keys)
    if first["type"] == "extra_forbidden":
        return ConfigError(subject, str(unknown("setting", where, _siblings(keys))), "")
    said = WORDS.get(first["type"], first["msg"].removeprefix("Value error, "))
    return ConfigError(subject, f"{where or 'settings'}: {said}", "see configs/default.yaml")


def _siblings(keys: list[str]) -> list[str]:
    """Full paths of the settings that stand beside an unknown one."""
    model: Any = Config
    for key in keys[:-1]:
        annotation = model.model_fields[key].annotation if key in model.model_fields else None
        sections = [part for part in (annotation, *get_args(annotation)) if isinstance(part, type) and issubclass(part, Section)]
        model = sections[0] if sections else Member
    return [".".join([*keys[:-1], name]) for name in model.model_fields]

"""Settings from YAML, the environment and the command line.

Later sources win: built-in defaults, the file, ``GEOANOM_*`` variables (``GEOANOM_TILES__SIZE=32``), ``--set key.path=value``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError
from yaml.constructor import ConstructorError

from geoanom.config.complaints import as_config_error
from geoanom.config.sections import Config
from geoanom.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping
    from os import PathLike

ENV_PREFIX = "GEOANOM_"
SEE = "see configs/default.yaml"


def load_config(path: str | PathLike[str] | None = None, sets: Iterable[str] = (), environ: Mapping[str, str] | None = None) -> Config:
    """Read the settings from all their sources.

    Args:
        path: a YAML file, or None for the defaults.
        sets: ``key.path=value`` texts, the value in YAML.
        environ: the environment; the process's own when None.

    Raises:
        ConfigError: a file, key or value that cannot be used.
    """
    tree = read_yaml(Path(path)) if path else {}
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
        raise as_config_error(error, Config, subject, SEE) from error


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


def read_yaml(path: Path) -> dict[str, Any]:
    """The tree of settings in a file.

    Raises:
        ConfigError: it cannot be read, or holds no settings.
    """
    try:
        tree = _load_yaml(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(path, f"cannot be read ({error})", "name a readable YAML file") from error
    except yaml.YAMLError as error:
        raise ConfigError(path, f"cannot be read as YAML ({error})", "mend the file") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(path, "is not a mapping of settings", SEE)
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
            raise ConfigError(subject, f"{key!r} is not a group of settings", SEE)
    if keys[:-1] == ["threshold"] and value is not None:
        node.clear()
    node[keys[-1]] = value

"""Values as bytes: JSON, deflated; nothing that could run."""

from __future__ import annotations

import json
import zlib
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import shapely

from geoanom.monitor.history import Place
from geoanom.monitor.values import Alert

if TYPE_CHECKING:
    from collections.abc import Iterable

    from geoanom.monitor.values import Cell

LEVEL = 6


def alert_bytes(alert: Alert) -> bytes:
    """An alert."""
    return _deflated(_alert_tree(alert))


def alert_from(data: bytes) -> Alert:
    """The alert of some bytes."""
    return _alert(_inflated(data))


def place_bytes(place: Place) -> bytes:
    """A place."""
    tree = {f.name: getattr(place, f.name) for f in fields(place)}
    return _deflated({**tree, "alert": _alert_tree(place.alert)})


def place_from(data: bytes) -> Place:
    """The place of some bytes."""
    tree = _inflated(data)
    return Place(**{**tree, "alert": _alert(tree["alert"]), "anchor": tuple(tree["anchor"]), "order": tuple(tree["order"])})


def cells_bytes(cells: Iterable[Cell]) -> bytes:
    """Cells, in order."""
    return _deflated(sorted(cells))


def cells_from(data: bytes) -> frozenset[Cell]:
    """The cells of some bytes."""
    return frozenset((row, col) for row, col in _inflated(data))


def _alert_tree(alert: Alert) -> dict[str, Any]:
    tree = {f.name: getattr(alert, f.name) for f in fields(alert)}
    return {**tree, "geometry": shapely.to_wkb(alert.geometry, hex=True), "cells": sorted(alert.cells)}


def _alert(tree: dict[str, Any]) -> Alert:
    cells = frozenset((row, col) for row, col in tree["cells"])
    return Alert(**{**tree, "geometry": shapely.from_wkb(tree["geometry"]), "cells": cells, "families": tuple(tree["families"])})


def _deflated(tree: Any) -> bytes:
    return zlib.compress(json.dumps(tree, separators=(",", ":"), default=_plain).encode(), LEVEL)


def _plain(number: Any) -> Any:
    """Scalars of NumPy as Python's."""
    return number.item()


def _inflated(data: bytes) -> Any:
    return json.loads(zlib.decompress(data))

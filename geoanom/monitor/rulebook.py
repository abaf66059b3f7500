"""From a monitor's settings to what judges its looks."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from geoanom.config import canonical_json
from geoanom.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from geoanom.monitor.folding import Judge
    from geoanom.monitor.past import Past
    from geoanom.monitor.settings import Monitor
    from geoanom.monitor.store import Store
    from geoanom.monitor.values import Cell, Judgement, Look

UNJUDGED = {"max_alerts_per_run", "cell_px"}
"""Rules that no judgement depends on: how it is told, and what the first scene has settled for good."""


def judge_of(store: Store, monitor: Monitor, say: Callable[[str], None]) -> Judge:
    """What judges looks under these rules; says which areas no scene shows.

    Raises:
        InputError: an area cannot be read.
    """
    from geoanom.monitor.areas import read_areas
    from geoanom.monitor.judging import judge
    from geoanom.monitor.view import View

    view = View.from_json(store.facts()["view"])
    areas = read_areas(monitor.areas, view.lattice, monitor.rules)
    for line in areas.unseen(entry.footprint for entry in store.entries()):
        say(f"warning: {line}")

    def judged(look: Look, past: Past, frozen: Mapping[Cell, str]) -> Judgement:
        return judge(look, past, monitor.rules, view.lattice, frozen=frozen, areas=areas, bands=view.bands)

    return judged


def rules_digest(monitor: Monitor) -> str:
    """Changes when looks have to be judged again: with the rules, and with the areas and what their files hold.

    Raises:
        InputError: the file of an area cannot be read.
    """
    areas = [
        {**area.model_dump(mode="json", exclude={"path"}), "title": area.title, "content": _digest(area.path)} for area in monitor.areas
    ]
    tree = {"rules": monitor.rules.model_dump(mode="json", exclude=UNJUDGED), "areas": areas}
    return hashlib.sha256(canonical_json(tree).encode()).hexdigest()[:16]


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})", "correct monitor.areas, or put the file there") from error

"""What a benchmark found: tables for people, and the same with every single run for machines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

Item = TypeVar("Item")
NOTHING = "-"


class Progress(Protocol):
    """Wraps what is iterated over, like tqdm."""

    def __call__(self, items: Iterable[Item], /, *, desc: str | None = None, total: int | None = None) -> Iterable[Item]:
        """Hand the items on, one by one."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table."""

    method: str
    figures: Mapping[str, float | None]
    """Name of a column to its value; None where there is none."""
    n_runs: int
    """Runs that the figures summarize."""


@dataclass(frozen=True, kw_only=True)
class Results:
    """What one run of a suite found."""

    suite: str
    settings: Mapping[str, Any]
    """What the figures depend on: plain values."""
    rows: tuple[Row, ...]
    """The headline table."""
    details: tuple[Mapping[str, Any], ...]
    """One flat record of plain values for each single measurement."""
    tables: Mapping[str, tuple[Row, ...]] = field(default_factory=dict)
    """Further tables by title."""

    def markdown(self) -> str:
        """The settings and all tables in Markdown, figures with three digits behind the point."""
        said = ", ".join(f"{name} {_shown(value)}" for name, value in self.settings.items())
        parts = [f"## {self.suite}", said, _table(self.rows)]
        for title, rows in self.tables.items():
            parts += [f"### {title}", _table(rows)]
        return "\n\n".join(part for part in parts if part) + "\n"

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values that JSON can hold; figures that are not finite become None."""
        return {
            "suite": self.suite,
            "settings": _plain(self.settings),
            "rows": [_record(row) for row in self.rows],
            "tables": {title: [_record(row) for row in rows] for title, rows in self.tables.items()},
            "details": _plain(self.details),
        }


def _table(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    columns = list(dict.fromkeys(name for row in rows for name in row.figures))
    lines = [["method", *columns, "runs"], ["---", *["---:"] * (len(columns) + 1)]]
    lines += [[row.method, *[_shown(row.figures.get(name)) for name in columns], str(row.n_runs)] for row in rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _shown(value: Any) -> str:
    """Counts as they are, measurements with three digits, a dash for what is missing."""
    plain = _plain(value)
    if plain is None:
        return NOTHING
    return f"{plain:.3f}" if isinstance(plain, float) else str(plain)


def _record(row: Row) -> dict[str, Any]:
    return {"method": row.method, "figures": _plain(row.figures), "n_runs": row.n_runs}


def _plain(value: Any) -> Any:
    """Python's own numbers and containers."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    number = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(number, float) and not np.isfinite(number) else number

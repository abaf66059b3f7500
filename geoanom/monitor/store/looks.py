"""Looks and their cells, and which of them stand."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sa

from geoanom.errors import SceneError
from geoanom.monitor.store.cells import packed, stripes_of, unpacked
from geoanom.monitor.store.kinds import from_wkb, to_wkb
from geoanom.monitor.store.part import Part, facts_of
from geoanom.monitor.store.tables import facts, look_cells, looks, seen
from geoanom.monitor.values import Cells, Look

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shapely.geometry.base import BaseGeometry
    from sqlalchemy import ColumnElement, Connection, Row

LookState = Literal["used", "superseded", "suspect"]
Order = tuple[str, str]

SAME_FOOTPRINT = 0.9
"""Share of their union that two looks of one moment have in common if they are of the same scene."""


@dataclass(frozen=True, kw_only=True)
class LookEntry:
    """A look without its cells."""

    digest: str
    scene: str
    path: str
    moment: str
    footprint: BaseGeometry = field(repr=False)
    warnings: tuple[str, ...]
    state: LookState
    reason: str | None
    """Why it is suspect or superseded."""
    judged: bool
    """Is its judgement part of the state of the alerts?"""
    place: tuple[int, int, int, int]
    """First lattice row and column, number of rows and columns."""


class LooksPart(Part):
    """What the monitor has seen."""

    def add_look(self, look: Look) -> LookState:
        """Keep a look; one that is there already is left as it is.

        A look replaces that of another content at the same path, whenever it comes, unless a copy of that lies elsewhere. Of looks of the
        same moment and essentially the same footprint the one with the greatest scene name and digest stands, whichever came first.

        Raises:
            SceneError: it is older than what the monitor still keeps.
        """
        with self._db.writing() as connection:
            _refuse_forgotten(connection, look)
            old = connection.execute(sa.select(looks.c.replaced).filter_by(digest=look.digest)).first()
            if old is None:
                _insert(connection, look)
            elif old.replaced:
                connection.execute(looks.update().filter_by(digest=look.digest).values(replaced=False, path=look.path))
            for moment in {look.moment, *_replace_at_path(connection, look)}:
                _settle(connection, moment)
            return _state(connection.execute(sa.select(looks.c.state).filter_by(digest=look.digest)).scalar_one())

    def knows(self, digest: str, path: str) -> bool:
        """Would adding this content, found there, change nothing?"""
        with self._db.reading() as connection:
            old = connection.execute(sa.select(looks.c.replaced).filter_by(digest=digest)).first()
            other = (looks.c.path == path) & (looks.c.digest != digest) & ~looks.c.replaced
            displaced = connection.execute(sa.select(looks.c.digest).where(other)).first()
        return old is not None and displaced is None and not old.replaced

    def entries(self, since: Order | None = None, before: Order | None = None) -> list[LookEntry]:
        """All looks without their cells, in order, the superseded ones included."""
        query = sa.select(looks).where(*_between(since, before)).order_by(looks.c.moment, looks.c.digest)
        with self._db.reading() as connection:
            return [_entry(row) for row in connection.execute(query)]

    def looks(self, since: Order | None = None, before: Order | None = None, rows: range | None = None) -> Iterator[Look]:
        """Looks that stand and whose cells are kept, one at a time in order.

        Args:
            since: the first one.
            before: the first one that is left out.
            rows: lattice rows to read; None for all. A look that has none of them comes with no rows.
        """
        horizon = self.horizon
        for entry in self.entries(since, before):
            if entry.state != "superseded" and entry.moment >= horizon:
                yield _look(entry, self.read_cells(entry.digest, rows))

    def read_cells(self, digest: str, rows: range | None = None) -> Cells:
        """Cells of a look, of these lattice rows or of all.

        Raises:
            KeyError: there is no such look.
        """
        with self._db.reading() as connection:
            row = connection.execute(sa.select(looks).filter_by(digest=digest)).first()
            if row is None:
                raise KeyError(digest)
            place = _entry(row).place
            query = sa.select(look_cells).filter_by(digest=digest).order_by(look_cells.c.stripe)
            if rows is not None:
                stripes = stripes_of(rows.start, rows.stop)
                query = query.where(look_cells.c.stripe >= stripes.start, look_cells.c.stripe < stripes.stop)
            return unpacked(connection.execute(query).all(), place, rows)

    def stale_since(self) -> Order | None:
        """The first look whose coming or going the alerts do not know of yet; None where they know of all."""
        stands = looks.c.state != "superseded"
        query = sa.select(looks.c.moment, looks.c.digest).where(sa.or_(stands & ~looks.c.judged, ~stands & looks.c.judged))
        with self._db.reading() as connection:
            first = connection.execute(query.order_by(looks.c.moment, looks.c.digest).limit(1)).first()
        return None if first is None else (first.moment, first.digest)

    def judge_again(self) -> None:
        """Forget which looks were judged, because the rules have changed; what was told stays told.

        What looks without cells came to stays as it is.
        """
        with self._db.writing() as connection:
            kept = looks.c.moment >= facts_of(connection).get("horizon", "")
            connection.execute(looks.update().where(kept, looks.c.state != "superseded").values(judged=False))

    @property
    def horizon(self) -> str:
        """Looks before this moment have no cells any more."""
        with self._db.reading() as connection:
            return facts_of(connection).get("horizon", "")

    def forget_cells(self, before: str) -> int:
        """Give up the cells of looks before a moment, for good; their alerts stay. Returns how many looks that were.

        Looks that were not judged yet are kept, and so are all after them.
        """
        stale = self.stale_since()
        until = before if stale is None else min(before, stale[0])
        with self._db.writing() as connection:
            old = sa.select(looks.c.digest).where(looks.c.moment < until)
            held = sa.select(sa.func.count(sa.distinct(look_cells.c.digest))).where(look_cells.c.digest.in_(old))
            n = connection.execute(held).scalar_one()
            connection.execute(look_cells.delete().where(look_cells.c.digest.in_(old)))
            if until > facts_of(connection).get("horizon", ""):
                connection.execute(facts.delete().filter_by(key="horizon"))
                connection.execute(facts.insert().values(key="horizon", value=until))
            return int(n)


def _refuse_forgotten(connection: Connection, look: Look) -> None:
    horizon = facts_of(connection).get("horizon", "")
    if look.moment < horizon:
        raise SceneError(look.path, f"is of {look.moment}, and looks before {horizon} are no longer kept", "keep looks longer (retention)")


def _insert(connection: Connection, look: Look) -> None:
    n_rows, n_cols = look.cells.valid.shape
    row = {
        "digest": look.digest,
        "path": look.path,
        "scene": look.scene,
        "moment": look.moment,
        "footprint": to_wkb(look.footprint),
        "warnings": json.dumps(look.warnings),
        "state": "superseded",  # until it is settled which of its moment stand
        "reason": None,
        "replaced": False,
        "judged": False,
        "first_row": look.cells.row,
        "first_col": look.cells.col,
        "n_rows": n_rows,
        "n_cols": n_cols,
    }
    connection.execute(looks.insert().values(row))
    stripes = [{"digest": look.digest, **stripe} for stripe in packed(look.cells)]
    if stripes:
        connection.execute(look_cells.insert(), stripes)


def _replace_at_path(connection: Connection, look: Look) -> list[str]:
    """Mark what was at the look's path before; returns the moments of it."""
    horizon = facts_of(connection).get("horizon", "")
    old = (looks.c.path == look.path) & (looks.c.digest != look.digest) & ~looks.c.replaced & (looks.c.moment >= horizon)
    for digest in connection.execute(sa.select(looks.c.digest).where(old)).scalars().all():
        _follow_copy(connection, digest, look.path)
    moments = list(connection.execute(sa.select(looks.c.moment).where(old)).scalars())
    connection.execute(looks.update().where(old).values(replaced=True))
    return moments


def _follow_copy(connection: Connection, digest: str, gone: str) -> None:
    """A look whose content also lies at another path is from now on the one from there."""
    elsewhere = (seen.c.digest == digest) & (seen.c.path != gone) & seen.c.outcome.in_(["look", "duplicate"])
    path = connection.execute(sa.select(seen.c.path).where(elsewhere).order_by(seen.c.path).limit(1)).scalar()
    if path is not None:
        connection.execute(looks.update().filter_by(digest=digest).values(path=path))


def _settle(connection: Connection, moment: str) -> None:
    """Decide which looks of a moment stand: a function of what is there, not of how it came."""
    found = sorted(connection.execute(sa.select(looks).filter_by(moment=moment)), key=lambda row: (row.scene, row.digest), reverse=True)
    standing: list[Row[Any]] = []
    for row in found:
        better = None if row.replaced else next((other for other in standing if _same_footprint(row, other)), None)
        if row.replaced or better is not None:
            reason = f"replaced by {better.scene}" if better is not None else "its file was replaced"
            connection.execute(looks.update().filter_by(digest=row.digest).values(state="superseded", reason=reason))
            continue
        standing.append(row)
        if row.state == "superseded":
            connection.execute(looks.update().filter_by(digest=row.digest).values(state="used", reason=None, judged=False))


def _same_footprint(one: Row[Any], other: Row[Any]) -> bool:
    a, b = from_wkb(one.footprint), from_wkb(other.footprint)
    union = a.union(b).area
    return bool(a.equals(b) if union == 0 else a.intersection(b).area >= SAME_FOOTPRINT * union)


def _between(since: Order | None, before: Order | None) -> list[ColumnElement[bool]]:
    order = sa.tuple_(looks.c.moment, looks.c.digest)
    return [*([] if since is None else [order >= since]), *([] if before is None else [order < before])]


def _entry(row: Row[Any]) -> LookEntry:
    return LookEntry(
        digest=row.digest,
        scene=row.scene,
        path=row.path,
        moment=row.moment,
        footprint=from_wkb(row.footprint),
        warnings=tuple(json.loads(row.warnings)),
        state=_state(row.state),
        reason=row.reason,
        judged=row.judged,
        place=(row.first_row, row.first_col, row.n_rows, row.n_cols),
    )


def _look(entry: LookEntry, cells: Cells) -> Look:
    return Look(
        digest=entry.digest,
        scene=entry.scene,
        path=entry.path,
        moment=entry.moment,
        footprint=entry.footprint,
        cells=cells,
        warnings=entry.warnings,
    )


def _state(text: str) -> LookState:
    found: LookState = "used" if text == "used" else "suspect" if text == "suspect" else "superseded"
    return found

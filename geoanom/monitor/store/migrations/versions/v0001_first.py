"""The first schema."""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import Boolean, Column, Float, ForeignKey, Integer, LargeBinary

from geoanom.monitor.store.kinds import SRID, Key, Where, Words

revision = "0001"
down_revision = None
SHAPES = (("looks", "footprint"), ("detections", "geometry"), ("alerts", "geometry"))


def upgrade() -> None:
    """Make the tables."""
    shape = _shape()
    _make_looks(shape)
    _make_alerts(shape)
    _make_events()
    _make_rest()
    if op.get_bind().dialect.name == "postgresql":
        for table, column in SHAPES:
            op.create_index(f"{table}_{column}", table, [column], postgresql_using="gist")


def _shape() -> Any:
    if op.get_bind().dialect.name != "postgresql":
        return LargeBinary()
    from geoalchemy2 import Geometry

    return Geometry("GEOMETRY", srid=SRID, spatial_index=False)


def _make_looks(shape: Any) -> None:
    op.create_table(
        "looks",
        Column("digest", Key, primary_key=True),
        Column("path", Where, nullable=False),
        Column("scene", Words, nullable=False),
        Column("moment", Key, nullable=False),
        Column("footprint", shape, nullable=False),
        Column("warnings", Words, nullable=False),
        Column("state", Key, nullable=False),
        Column("reason", Words, nullable=True),
        Column("replaced", Boolean, nullable=False),
        Column("judged", Boolean, nullable=False),
        Column("first_row", Integer, nullable=False),
        Column("first_col", Integer, nullable=False),
        Column("n_rows", Integer, nullable=False),
        Column("n_cols", Integer, nullable=False),
    )
    op.create_index("looks_moment", "looks", ["moment"])
    op.create_table(
        "look_cells",
        Column("digest", Key, ForeignKey("looks.digest", ondelete="CASCADE"), primary_key=True),
        Column("kind", Key, primary_key=True),
        Column("stripe", Integer, primary_key=True),
        Column("dtype", Key, nullable=False),
        Column("shape", Key, nullable=False),
        Column("data", LargeBinary, nullable=False),
    )
    op.create_table(
        "detections",
        Column("digest", Key, ForeignKey("looks.digest", ondelete="CASCADE"), primary_key=True),
        Column("number", Integer, primary_key=True),
        Column("geometry", shape, nullable=False),
        Column("score", Float, nullable=False),
        Column("p_value", Float, nullable=False),
        Column("families", Key, nullable=False),
        Column("area", Words, nullable=False),
        Column("reason", Words, nullable=False),
        Column("cells", LargeBinary, nullable=False),
    )


def _make_alerts(shape: Any) -> None:
    op.create_table(
        "alerts",
        Column("alert_id", Key, primary_key=True),
        Column("name", Key, nullable=False, unique=True),
        Column("status", Key, nullable=False),
        Column("course", Key, nullable=False),
        Column("confidence", Key, nullable=False),
        Column("geometry", shape, nullable=False),
        Column("area", Words, nullable=False),
        Column("score", Float, nullable=False),
        Column("max_score", Float, nullable=False),
        Column("families", Key, nullable=False),
        Column("first_detected", Key, nullable=False),
        Column("last_detected", Key, nullable=False),
        Column("last_observed", Key, nullable=False),
        Column("n_detections", Integer, nullable=False),
        Column("n_valid_observations", Integer, nullable=False),
        Column("n_clear", Integer, nullable=False),
        Column("scene", Words, nullable=False),
        Column("reason", Words, nullable=False),
    )
    op.create_table(
        "observations",
        Column("alert_id", Key, primary_key=True),
        Column("moment", Key, primary_key=True),
        Column("digest", Key, primary_key=True),
        Column("place", LargeBinary, nullable=False),
    )
    op.create_table(
        "transitions",
        Column("alert_id", Key, primary_key=True),
        Column("moment", Key, primary_key=True),
        Column("digest", Key, primary_key=True),
        Column("scene", Words, nullable=False),
        Column("before", Key, nullable=True),
        Column("after", Key, nullable=False),
    )
    op.create_table(
        "names",
        Column("name", Key, primary_key=True),
        Column("alert", LargeBinary, nullable=False),
    )
    op.create_table(
        "verdicts",
        Column("name", Key, primary_key=True),
        Column("verdict", Key, nullable=False),
        Column("moment", Key, nullable=False),
        Column("author", Words, nullable=False),
        Column("note", Words, nullable=False),
    )


def _make_events() -> None:
    op.create_table(
        "events",
        Column("seq", Integer, primary_key=True),
        Column("event_id", Key, nullable=False, unique=True),
        Column("type", Key, nullable=False),
        Column("moment", Key, nullable=False),
        Column("body", Words, nullable=False),
        Column("folded", Boolean, nullable=False),
    )
    op.create_table(
        "sinks",
        Column("name", Key, primary_key=True),
        Column("after_seq", Integer, nullable=False),
    )
    op.create_table(
        "deliveries",
        Column("event_id", Key, ForeignKey("events.event_id", ondelete="CASCADE"), primary_key=True),
        Column("sink", Key, primary_key=True),
        Column("state", Key, nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("next_try", Float, nullable=False),
        Column("error", Words, nullable=True),
    )


def _make_rest() -> None:
    op.create_table(
        "facts",
        Column("key", Key, primary_key=True),
        Column("value", Words, nullable=False),
    )
    op.create_table(
        "seen",
        Column("path", Where, primary_key=True),
        Column("stamp", Key, nullable=False),
        Column("digest", Key, nullable=True),
        Column("outcome", Key, nullable=False),
        Column("code", Key, nullable=True),
        Column("message", Words, nullable=True),
        Column("attempts", Integer, nullable=False),
    )
    op.create_table(
        "runs",
        Column("run_id", Integer, primary_key=True),
        Column("started", Float, nullable=False),
        Column("ended", Float, nullable=True),
        Column("outcome", Key, nullable=True),
        Column("counts", Words, nullable=False),
        Column("message", Words, nullable=True),
    )

"""The tables of a store, as the newest schema has them."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Float, ForeignKey, Integer, LargeBinary, MetaData, Table

from geoanom.monitor.store.kinds import Key, Shape, Where, Words

METADATA = MetaData()
facts = Table(
    "facts",
    METADATA,
    Column("key", Key, primary_key=True),
    Column("value", Words, nullable=False),
)
"""What the monitor as a whole is about."""

seen = Table(
    "seen",
    METADATA,
    Column("path", Where, primary_key=True),
    Column("stamp", Key, nullable=False),
    Column("digest", Key, nullable=True),
    Column("outcome", Key, nullable=False),
    Column("code", Key, nullable=True),
    Column("message", Words, nullable=True),
    Column("attempts", Integer, nullable=False),
)
"""Every path that was looked at, and what became of it."""

looks = Table(
    "looks",
    METADATA,
    Column("digest", Key, primary_key=True),
    Column("path", Where, nullable=False),
    Column("scene", Words, nullable=False),
    Column("moment", Key, nullable=False),
    Column("footprint", Shape, nullable=False),
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
"""Scenes as the monitor remembers them."""

look_cells = Table(
    "look_cells",
    METADATA,
    Column("digest", Key, ForeignKey("looks.digest", ondelete="CASCADE"), primary_key=True),
    Column("kind", Key, primary_key=True),
    Column("stripe", Integer, primary_key=True),
    Column("dtype", Key, nullable=False),
    Column("shape", Key, nullable=False),
    Column("data", LargeBinary, nullable=False),
)
"""Their cells, in stripes of lattice rows: the bytes of little-endian arrays, deflated."""

detections = Table(
    "detections",
    METADATA,
    Column("digest", Key, ForeignKey("looks.digest", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("geometry", Shape, nullable=False),
    Column("score", Float, nullable=False),
    Column("p_value", Float, nullable=False),
    Column("families", Key, nullable=False),
    Column("area", Words, nullable=False),
    Column("reason", Words, nullable=False),
    Column("cells", LargeBinary, nullable=False),
)
"""What each look shows otherwise than its memory says."""

alerts = Table(
    "alerts",
    METADATA,
    Column("alert_id", Key, primary_key=True),
    Column("name", Key, nullable=False, unique=True),
    Column("status", Key, nullable=False),
    Column("course", Key, nullable=False),
    Column("confidence", Key, nullable=False),
    Column("geometry", Shape, nullable=False),
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
"""Alerts as they stand; `status` as people see it, `course` as the looks alone tell it."""

observations = Table(
    "observations",
    METADATA,
    Column("alert_id", Key, primary_key=True),
    Column("moment", Key, primary_key=True),
    Column("digest", Key, primary_key=True),
    Column("place", LargeBinary, nullable=False),
)
"""Each state of each place, after the look that saw it."""

transitions = Table(
    "transitions",
    METADATA,
    Column("alert_id", Key, primary_key=True),
    Column("moment", Key, primary_key=True),
    Column("digest", Key, primary_key=True),
    Column("scene", Words, nullable=False),
    Column("before", Key, nullable=True),
    Column("after", Key, nullable=False),
)
"""Steps of alerts, as the looks alone tell them."""

names = Table(
    "names",
    METADATA,
    Column("name", Key, primary_key=True),
    Column("alert", LargeBinary, nullable=False),
)
"""Every alert that people were told of, as it was last under that name."""

events = Table(
    "events",
    METADATA,
    Column("seq", Integer, primary_key=True),
    Column("event_id", Key, nullable=False, unique=True),
    Column("type", Key, nullable=False),
    Column("moment", Key, nullable=False),
    Column("body", Words, nullable=False),
    Column("folded", Boolean, nullable=False),
)
"""What is told, each once; the folded ones by a digest."""

sinks = Table(
    "sinks",
    METADATA,
    Column("name", Key, primary_key=True),
    Column("after_seq", Integer, nullable=False),
)
"""Who is told, and from which event on."""

deliveries = Table(
    "deliveries",
    METADATA,
    Column("event_id", Key, ForeignKey("events.event_id", ondelete="CASCADE"), primary_key=True),
    Column("sink", Key, primary_key=True),
    Column("state", Key, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_try", Float, nullable=False),
    Column("error", Words, nullable=True),
)
"""What became of events at sinks; no row: not tried yet."""

verdicts = Table(
    "verdicts",
    METADATA,
    Column("name", Key, primary_key=True),
    Column("verdict", Key, nullable=False),
    Column("moment", Key, nullable=False),
    Column("author", Words, nullable=False),
    Column("note", Words, nullable=False),
)
"""What people say of alerts, by name."""

runs = Table(
    "runs",
    METADATA,
    Column("run_id", Integer, primary_key=True),
    Column("started", Float, nullable=False),
    Column("ended", Float, nullable=True),
    Column("outcome", Key, nullable=True),
    Column("counts", Words, nullable=False),
    Column("message", Words, nullable=True),
)
"""Passes of the monitor."""

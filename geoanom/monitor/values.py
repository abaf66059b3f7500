"""What the parts of a monitor hand to each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

Status = Literal["new", "persistent", "resolved", "dismissed"]
Confidence = Literal["nominal", "high", "highest"]
EventType = Literal["alert.new", "alert.persistent", "alert.resolved", "scene.suspect", "digest"]

Cell = tuple[int, int]
"""Row and column of a cell on the lattice of a monitor; both may be negative."""


@dataclass(frozen=True, kw_only=True)
class Lattice:
    """The grid of cells that all looks of a monitor share."""

    crs: str
    """As ``EPSG:32618`` or WKT 2."""
    transform: tuple[float, float, float, float, float, float]
    """Cell corner (col, row) to (x, y), as affine writes it."""


@dataclass(frozen=True, kw_only=True)
class Cells:
    """A rectangle of cells as one scene shows them."""

    row: int
    """Lattice row of the first row."""
    col: int
    """Lattice column of the first column."""
    valid: NDArray[np.float32]
    """(row, col) share of usable pixels, 0..1."""
    score: NDArray[np.float32]
    """(row, col) decades of p by the frozen model, higher = more anomalous; NaN where not scored."""
    descriptor: NDArray[np.float32]
    """(row, col, feature) what the cell looks like; NaN where not valid."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """One scene as the monitor remembers it."""

    digest: str
    """SHA-256 of the scene's content: the look's identity."""
    scene: str
    """Name."""
    path: str
    """Where it was found, as the source calls it."""
    moment: str
    """Acquisition in UTC, ``2024-05-01T10:30:00Z``."""
    footprint: BaseGeometry
    """In WGS 84, as RFC 7946 wants it."""
    cells: Cells = field(repr=False)
    warnings: tuple[str, ...] = ()

    @property
    def order(self) -> tuple[str, str]:
        """Looks are taken in this order, whenever they arrive."""
        return self.moment, self.digest


@dataclass(frozen=True, kw_only=True)
class Detection:
    """A place that one look shows otherwise than its memory says."""

    cells: frozenset[Cell]
    geometry: BaseGeometry = field(repr=False)
    """Polygon or MultiPolygon in WGS 84."""
    score: float
    """0..1, higher = more anomalous."""
    p_value: float
    families: tuple[str, ...]
    """Kinds of detectors that found it: ``change``, ``embedding``."""
    area: str = ""
    """Name of the watched area."""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a look means, given all looks before it."""

    look: Look
    """Its cells are valid only where they could be compared with a memory: what was not judged is not clear."""
    detections: tuple[Detection, ...]
    """In the order of their worst cell; none where the scene is suspect."""
    suspect: str | None = None
    """Why the whole scene is not to be trusted; then it neither finds, confirms nor resolves."""


@dataclass(frozen=True, kw_only=True)
class Alert:
    """One event at one place."""

    alert_id: str
    status: Status
    confidence: Confidence
    geometry: BaseGeometry = field(repr=False)
    """In WGS 84, of the detection with the highest score."""
    cells: frozenset[Cell] = field(repr=False)
    """All cells in which it was ever detected."""
    area: str
    score: float
    """Of the last detection."""
    max_score: float
    families: tuple[str, ...]
    """All that ever found it, sorted."""
    first_detected: str
    last_detected: str
    last_observed: str
    n_detections: int
    n_valid_observations: int
    """Looks since the first detection in which the place was visible, those with a detection included."""
    n_clear: int
    """Visible looks without a detection since the last one."""
    scene: str
    """Of the last detection."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that somebody is to be told once."""

    event_id: str
    type: EventType
    moment: str
    """Acquisition of the look that caused it."""
    body: Mapping[str, Any]
    """The message: ``{"type", "id", "timestamp", "data"}``."""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """An event that waits to be handed to a sink."""

    event: Event
    sink: str
    """Name of the sink, unique in a monitor."""
    attempts: int
    """Failed ones so far."""


class Outbox(Protocol):
    """Where events wait until each sink has taken them."""

    def due(self, sink: str, now: float, limit: int) -> Sequence[Delivery]:
        """Events for a sink whose time has come (seconds since 1970), the oldest first."""

    def delivered(self, event_id: str, sink: str) -> None:
        """The sink has taken it; it is never handed out again."""

    def failed(self, event_id: str, sink: str, error: str, next_try: float) -> None:
        """The sink has not; try again from then on."""

    def given_up(self, event_id: str, sink: str, error: str) -> None:
        """The sink never will: it is kept, named in the status, and not tried again."""

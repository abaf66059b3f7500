"""When a scene was taken: from a raster tag, or from a date in its name."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TAGS = ("ACQUISITION_DATETIME", "TIFFTAG_DATETIME")
FORMATS = ("%Y:%m:%d %H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d", "%Y%m%d")
IN_NAME = re.compile(
    r"(?<!\d)(?P<y>(?:19|20)\d\d)(?P<gap>[-_]?)(?P<m>0[1-9]|1[0-2])(?P=gap)(?P<d>0[1-9]|[12]\d|3[01])"
    r"(?:T(?P<H>\d{2})(?P<M>\d{2})(?P<S>\d{2}))?(?!\d)"
)


def acquisition_datetime(tags: Mapping[str, str], name: str) -> str | None:
    """ISO 8601 date and time of acquisition, in UTC where nothing else is said; None when nothing tells it."""
    for tag in TAGS:
        if tag in tags:
            moment = _parse(tags[tag].strip())
            if moment is not None:
                return _iso(moment)
    moments = (_from_parts([int(match[part] or 0) for part in "ymdHMS"]) for match in IN_NAME.finditer(name))
    return next((_iso(moment) for moment in moments if moment is not None), None)


def _from_parts(parts: Sequence[int]) -> dt.datetime | None:
    year, month, day, hour, minute, second = parts
    try:
        return dt.datetime(year, month, day, hour, minute, second, tzinfo=dt.UTC)
    except ValueError:
        return None


def _parse(text: str) -> dt.datetime | None:
    """The moment in UTC; None for what is no date, or lies so far off that UTC has no year for it."""
    moment = _fromisoformat(text) or next((m for m in (_strptime(text, fmt) for fmt in FORMATS) if m is not None), None)
    if moment is None or moment.tzinfo is None:
        return None if moment is None else moment.replace(tzinfo=dt.UTC)
    try:
        return moment.astimezone(dt.UTC)
    except OverflowError:
        return None


def _fromisoformat(text: str) -> dt.datetime | None:
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError:
        return None


def _strptime(text: str, fmt: str) -> dt.datetime | None:
    try:
        return dt.datetime.strptime(text, fmt).replace(tzinfo=dt.UTC)
    except ValueError:
        return None


def _iso(moment: dt.datetime) -> str:
    return moment.replace(microsecond=0, tzinfo=None).isoformat() + "Z"

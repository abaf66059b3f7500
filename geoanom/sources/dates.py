"""When a scene was taken: from a raster tag, or from a date in its name."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

TAGS = ("ACQUISITION_DATETIME", "TIFFTAG_DATETIME")
FORMATS = ("%Y:%m:%d %H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d", "%Y%m%d")
IN_NAME = re.compile(r"(?<!\d)((?:19|20)\d\d)[-_]?(0[1-9]|1[0-2])[-_]?(0[1-9]|[12]\d|3[01])(?:T(\d{2})(\d{2})(\d{2}))?(?!\d)")


def acquisition_datetime(tags: Mapping[str, str], name: str) -> str | None:
    """ISO 8601 date and time of acquisition, in UTC where nothing else is said; None when nothing tells it."""
    for tag in TAGS:
        if tag in tags:
            moment = _parse(tags[tag].strip())
            if moment is not None:
                return _iso(moment)
    match = IN_NAME.search(name)
    if match is None:
        return None
    try:
        return _iso(dt.datetime(*(int(part or 0) for part in match.groups()), tzinfo=dt.UTC))  # type: ignore[arg-type,misc]
    except ValueError:
        return None


def _parse(text: str) -> dt.datetime | None:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        moment = next((m for m in (_strptime(text, fmt) for fmt in FORMATS) if m is not None), None)
    return moment.replace(tzinfo=dt.UTC) if moment is not None and moment.tzinfo is None else moment


def _strptime(text: str, fmt: str) -> dt.datetime | None:
    try:
        return dt.datetime.strptime(text, fmt).replace(tzinfo=dt.UTC)
    except ValueError:
        return None


def _iso(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

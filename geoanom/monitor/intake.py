"""Which scenes of a monitor's sources are new, told without opening one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geoanom.archive.identity import stamp_of
from geoanom.errors import InputError
from geoanom.sources.catalog import find_scenes, is_pattern
from geoanom.sources.dates import acquisition_datetime

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from geoanom.config import Config
    from geoanom.monitor.settings import Monitor
    from geoanom.monitor.store.passes import Seen
    from geoanom.sources.catalog import Entry

REFUSED = "refused"
"""Stamp of a scene that is not opened, whatever it holds."""
MOST_TRIES = 5
"""A scene on another machine may fail for reasons that pass: it is tried in so many passes, although it looks the same."""
EMPTY = ("holds no scene", "holds no item that is asked for")
"""What is wrong with a source in which nothing has arrived yet."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A scene that is new, or was replaced, or deserves another try."""

    entry: Entry
    stamp: str
    attempts: int
    """This one included."""


@dataclass(frozen=True, kw_only=True)
class Intake:
    """What the sources hold."""

    fresh: tuple[Candidate, ...]
    """In the order of the dates in their names, as far as there are any."""
    places: Mapping[str, str]
    """Name of each scene to what opens it."""
    n_older: int = 0
    """Left aside because their names tell a date before the one that was asked for."""


def take_in(monitor: Monitor, config: Config, seen: Mapping[str, Seen], since: str | None) -> Intake:
    """Look for scenes.

    Args:
        monitor: its settings.
        config: how scenes are read.
        seen: what became of each scene before, by name.
        since: moment before which scenes are left aside.

    Raises:
        InputError: a source cannot be reached.
    """
    entries = _entries(monitor, _searching(config, since))
    wanted = [entry for entry in entries if since is None or not _is_older(entry, since)]
    fresh = [candidate for entry in wanted if (candidate := _candidate(entry, config, seen.get(entry.name))) is not None]
    ordered = sorted(fresh, key=lambda candidate: (_date(candidate.entry) or "9999", candidate.entry.name))
    return Intake(
        fresh=tuple(ordered),
        places={entry.name: entry.uri for entry in entries},
        n_older=len(entries) - len(wanted),
    )


def _entries(monitor: Monitor, config: Config) -> tuple[Entry, ...]:
    uri = monitor.scenes.uri
    if "://" not in uri and not is_pattern(uri) and not Path(uri).exists():
        raise InputError(uri, "does not exist, or is not mounted", "make the folder, or correct monitor.scenes")
    try:
        return find_scenes(uri, config).entries
    except InputError as error:
        if error.wrong in EMPTY:
            return ()
        raise


def _searching(config: Config, since: str | None) -> Config:
    """A catalog is asked for no more than is wanted, unless its own filter says when."""
    stac = config.sources.stac
    if since is None or stac.datetime is not None:
        return config
    sources = config.sources.model_copy(update={"stac": stac.model_copy(update={"datetime": f"{since}/.."})})
    return config.model_copy(update={"sources": sources})


def _date(entry: Entry) -> str | None:
    return acquisition_datetime({}, entry.name)


def _is_older(entry: Entry, since: str) -> bool:
    date = _date(entry)
    return date is not None and date[:10] < since[:10]


def _candidate(entry: Entry, config: Config, before: Seen | None) -> Candidate | None:
    stamp = stamp_of(entry.uri, config) if entry.refusal is None else REFUSED
    if before is None or not stamp or before.stamp != stamp:
        return Candidate(entry=entry, stamp=stamp, attempts=1)
    if before.outcome == "refused" and "://" in entry.uri and before.attempts < MOST_TRIES:
        return Candidate(entry=entry, stamp=stamp, attempts=before.attempts + 1)
    return None


def names_of(candidates: tuple[Candidate, ...], most: int = 3) -> Iterator[str]:
    """The first names, for people."""
    yield from (candidate.entry.name for candidate in candidates[:most])
    if len(candidates) > most:
        yield f"and {len(candidates) - most} more"

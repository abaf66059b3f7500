"""The settings of a monitor: what it watches, by which rules, and whom it tells."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from geoanom.config import Quality, Section, Sources, Stac
from geoanom.config.complaints import as_config_error
from geoanom.config.loading import read_yaml
from geoanom.monitor.fields import Here, Period, Place
from geoanom.monitor.schedule import NAME
from geoanom.monitor.sinks.settings import FileSettings, SinkSettings

if TYPE_CHECKING:
    from os import PathLike

SEASON_DAYS = 45
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(gt=0.0, lt=1.0)]
Times = Annotated[int, Field(ge=1, le=1000)]


class Scenes(Section):
    """Where new scenes come from."""

    path: Place | None = Field(None, description="a folder, a pattern or a list of scenes")
    stac: Place | None = Field(None, description="a STAC catalog or the landing page of an API")
    collections: tuple[str, ...] | None = Field(None, description="of the catalog; all when null")
    query: Stac = Field(Stac(), description="filters of the catalog, as in sources.stac")

    @model_validator(mode="after")
    def _is_one_source(self) -> Scenes:
        if (self.path is None) == (self.stac is None):
            raise ValueError("name a folder or a list, or {stac: URL}")
        if self.path is not None and (self.collections or self.query != Stac()):
            raise ValueError("collections and query belong to stac")
        if self.collections is not None and self.query.collections is not None:
            raise ValueError("give collections once")
        return self

    @property
    def uri(self) -> str:
        """What the catalog of scenes is opened by."""
        return self.path or self.stac or ""


class AreaRules(Section):
    """Rules of one area; those of the monitor where null."""

    fdr: Rate | None = None
    confirm_after: Times | None = None
    resolve_after: Times | None = None
    min_valid_fraction: Share | None = None


class Area(AreaRules):
    """A watched area."""

    path: Here = Field(description="any vector file; its features make one area")
    name: str | None = Field(None, min_length=1, description="in messages; the file's name when null")

    @property
    def title(self) -> str:
        """What it is called in messages."""
        return self.name or self.path.stem


class Rules(Section):
    """When a change is told, confirmed and over."""

    fdr: Rate = Field(0.05, description="expected share of false alerts among the alerts of a scene")
    confirm_after: Times = Field(2, description="days with a detection until an alert is persistent")
    resolve_after: Times = Field(2, description="clear days without a detection until it is resolved")
    min_valid_fraction: Share = Field(0.5, description="share of a place that must be seen for it to count as observed")
    max_alerts_per_run: int = Field(50, ge=1, description="more new alerts than this are told in one digest")
    min_history: int = Field(4, ge=2, description="looks at a place before anything is news there")
    season: int | None = Field(SEASON_DAYS, ge=1, le=182, description="days about the same day of other years that count as one season")
    cell_px: int | None = Field(None, ge=1, le=4096, description="side of a remembered cell in pixels; 8 or more when null")

    @field_validator("season", mode="before")
    @classmethod
    def _yes_or_no(cls, given: Any) -> Any:
        return {True: SEASON_DAYS, False: None}[given] if isinstance(given, bool) else given

    def of(self, area: AreaRules) -> Rules:
        """The rules that hold in an area."""
        own = {name: getattr(area, name) for name in AreaRules.model_fields if getattr(area, name) is not None}
        return self.model_copy(update=own)


class Digest(Section):
    """All of a pass, or of a period, in one message."""

    every: Period | None = Field(None, description="at most one in this time; one a pass when null")


class Retention(Section):
    """What is forgotten; alerts and what was told of them never are."""

    looks_days: int | None = Field(1830, ge=366, description="of descriptors of looks; the memory of a place is as long; null: for ever")
    events_days: int | None = Field(365, ge=7, description="of the texts of delivered events; null: for ever")


class Monitor(Section):
    """What is watched, by which rules, and who is told."""

    name: str = Field(pattern=f"^{NAME}$", description="one lock and one state per name")
    scenes: Scenes
    areas: tuple[Area, ...] = Field((), description="the footprints of the scenes when empty")
    model: Here | None = Field(None, description="a model's folder")
    fit_on_first: int | None = Field(None, ge=1, le=10_000, description="fit a model on the first scenes instead")
    config: Here | None = Field(None, description="settings of that fit, as of geoanom fit --config")
    store: Place = Field("state.sqlite", validate_default=True, description="an SQLite file, or postgresql://user@host/db")
    quality: Quality | None = Field(None, description="a quality raster beside each scene")
    sources: Sources = Sources()
    rules: Rules = Rules()
    alerts: tuple[SinkSettings, ...] = ()
    digest: Digest | None = None
    thumbnails: bool = Field(default=True, description="pictures before and after in webhooks and mails")
    report_url: str | None = Field(None, pattern="^https?://", description="where `page` is published; messages link to it")
    page: Here | None = Field(None, description="an HTML page of the current state")
    metrics: Here | None = Field(None, description="a textfile for Prometheus; its name ends in .prom")
    every: Period = Field("6h", description="how often `monitor schedule` runs it")
    retention: Retention = Retention()

    @field_validator("scenes", mode="before")
    @classmethod
    def _a_path_alone(cls, given: Any) -> Any:
        return {"path": given} if isinstance(given, str) else given

    @field_validator("areas", mode="before")
    @classmethod
    def _one_file_alone(cls, given: Any) -> Any:
        return [{"path": given}] if isinstance(given, str) else [] if given is None else given

    @field_validator("digest", mode="before")
    @classmethod
    def _yes_or_no(cls, given: Any) -> Any:
        return {True: {}, False: None}[given] if isinstance(given, bool) else given

    @model_validator(mode="after")
    def _fits_together(self) -> Monitor:
        if (self.model is None) == (self.fit_on_first is None):
            raise ValueError("give one of model, fit_on_first")
        if self.config is not None and self.fit_on_first is None:
            raise ValueError("config belongs to fit_on_first; a model has its own settings")
        if self.quality is not None and self.sources.qa is not None:
            raise ValueError("give one of quality, sources.qa")
        _no_twins("sinks", [sink.name or sink.type for sink in self.alerts])
        _no_twins("areas", [area.title for area in self.areas])
        return self

    @property
    def sinks(self) -> dict[str, SinkSettings]:
        """The sinks by their names."""
        return {sink.name or sink.type: sink for sink in self.alerts}

    @property
    def reading(self) -> Sources:
        """How scenes are read: what the monitor says of quality, catalogs and the net is in it."""
        stac = self.scenes.query.model_copy(update={"collections": self.scenes.collections or self.scenes.query.collections})
        own: dict[str, Any] = {"stac": stac} if self.scenes.stac else {}
        if self.quality is not None:
            own["qa"] = self.quality
        if re.match("https?://|s3://", self.scenes.uri):  # is named here by a person
            own["allow"] = tuple(dict.fromkeys((*self.sources.allow, "remote")))
        return self.sources.model_copy(update=own)

    @property
    def written(self) -> tuple[Path, ...]:
        """Folders that a pass writes to."""
        store = [] if re.match("postgres", self.store) else [Path(self.store.removeprefix("sqlite:///"))]
        feeds = [sink.path for sink in self.alerts if isinstance(sink, FileSettings)]
        return tuple(sorted({path.parent for path in (*store, *feeds, self.page, self.metrics) if path is not None}))


class MonitorConfig(Section):
    """A file of settings."""

    schema_version: Literal[1] = 1
    monitor: Monitor


def load_monitor(path: str | PathLike[str]) -> MonitorConfig:
    """Read the settings of a monitor; relative paths in it are seen from its folder.

    Raises:
        ConfigError: a file, key or value that cannot be used.
    """
    file = Path(path)
    try:
        return MonitorConfig.model_validate(read_yaml(file), context={"folder": file.absolute().parent})
    except ValidationError as error:
        raise as_config_error(error, MonitorConfig, path, "see configs/monitor.yaml") from None


def _no_twins(what: str, names: list[str]) -> None:
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise ValueError(f"two {what} are called {twins[0]!r}: give each a name of its own")

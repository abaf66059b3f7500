"""The settings of a monitor: closed to unknown keys, seen from their folder, one line for what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from geoanom.errors import ConfigError
from geoanom.monitor.settings import Monitor, MonitorConfig, Rules, load_monitor
from geoanom.monitor.sinks.settings import EmailSettings, FileSettings, SlackSettings, StdoutSettings, WebhookSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import BaseModel

    Write = Callable[..., Path]

SHIPPED = Path(__file__).parents[1] / "configs" / "monitor.yaml"
LEAST: dict[str, Any] = {"name": "n", "scenes": "inbox", "model": "model"}
HOOK = {"type": "webhook", "url": "https://example.org/", "secret_env": "S"}
MAIL = {"type": "email", "host": "h", "sender": "a@b.org", "to": ["c@d.org"]}


LETTER = """
schema_version: 1
monitor:
  name: north-sea
  scenes: inbox/
  areas: areas.geojson
  model: model/
  store: state.sqlite
  quality: {suffix: _qa.tif, reject: [1, 3]}
  rules: {fdr: 0.05, confirm_after: 2, resolve_after: 2, min_valid_fraction: 0.5, max_alerts_per_run: 50}
  alerts:
    - {type: webhook, url: "https://...", secret_env: GEOANOM_WEBHOOK_SECRET, allow_private: false}
    - {type: file, path: alerts.geojson}
"""
"""What other programs write: this form must be read for ever."""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def put(text: str | None = None, **monitor: Any) -> Path:
        path = tmp_path / "monitor.yaml"
        tree = {"schema_version": 1, "monitor": {key: value for key, value in {**LEAST, **monitor}.items() if value != "absent"}}
        path.write_text(yaml.safe_dump(tree) if text is None else text, "utf-8")
        return path

    return put


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_monitor(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def keys_in(model: type[BaseModel]) -> set[str]:
    return set(model.model_fields)


def test_the_shipped_file_is_the_defaults_but_for_its_examples() -> None:
    shipped, least = load_monitor(SHIPPED).monitor, Monitor.model_validate(LEAST)
    examples = {"name", "scenes", "areas", "model", "quality", "alerts"}
    for key in keys_in(Monitor) - examples - {"store"}:
        assert getattr(shipped, key) == getattr(least, key), key
    assert [type(sink) for sink in shipped.alerts] == [WebhookSettings, SlackSettings, EmailSettings, FileSettings, StdoutSettings]
    assert shipped.store == str(SHIPPED.parent / "state.sqlite")


def test_the_shipped_file_shows_every_setting() -> None:
    text = SHIPPED.read_text("utf-8")
    models: list[type[BaseModel]] = [
        Monitor,
        Rules,
        WebhookSettings,
        SlackSettings,
        EmailSettings,
        FileSettings,
        type(Monitor.model_validate(LEAST).retention),
    ]
    for key in {key for model in models for key in keys_in(model)}:
        assert f"{key}:" in text or f"`{key}`" in text or f"{key}," in text, key


def test_the_published_form_is_read(write: Write) -> None:
    monitor = load_monitor(write(LETTER)).monitor
    assert (monitor.rules, [*monitor.sinks]) == (Rules(), ["webhook", "file"])
    text = LETTER.replace("inbox/", "{stac: 'https://example.org', collections: [a], query: {}}").replace(
        "model: model/", "fit_on_first: 8"
    )
    assert load_monitor(write(text)).monitor.fit_on_first == 8


def test_the_alternatives_in_the_shipped_file_are_good() -> None:
    lines = SHIPPED.read_text("utf-8").splitlines()
    given = set()
    for key in ("scenes", "areas"):
        start = next(i for i, line in enumerate(lines) if line.startswith(f"  # {key}:"))
        rest = [line.removeprefix("  # ") for line in lines[start:]]
        block = rest[: next(i for i, line in enumerate(rest) if (i and not line.startswith("  ")) or lines[start + i][:4] != "  # ")]
        given |= Monitor.model_validate({**LEAST, **yaml.safe_load("\n".join(block))}).model_fields_set
    assert given >= {"scenes", "areas"}


def test_paths_are_seen_from_the_files_folder(write: Write, tmp_path: Path) -> None:
    file_sink = {"type": "file", "path": "out/alerts.geojson"}
    path = write(areas="areas.geojson", store="sqlite:///s.sqlite", page="page.html", metrics="/var/m.prom", alerts=[file_sink])
    monitor = load_monitor(path).monitor
    assert monitor.scenes.uri == str(tmp_path / "inbox")
    assert (monitor.model, monitor.page, monitor.areas[0].path) == (tmp_path / "model", tmp_path / "page.html", tmp_path / "areas.geojson")
    assert monitor.store == f"sqlite:///{tmp_path}/s.sqlite"
    assert set(monitor.written) == {Path("/var"), tmp_path, tmp_path / "out"}
    assert load_monitor(write(store="postgresql://u@host/db")).monitor.store == "postgresql://u@host/db"
    assert load_monitor(write(scenes="s3://bucket/list.txt")).monitor.scenes.uri == "s3://bucket/list.txt"


def test_a_catalog_is_read_by_its_filters_and_may_be_reached(write: Write) -> None:
    search = {"stac": "https://example.org/stac", "collections": ["s2"], "query": {"max_cloud_percent": 40}}
    reading = load_monitor(write(scenes=search, quality={"suffix": "_qa.tif", "reject": [1]})).monitor.reading
    assert (reading.stac.collections, reading.stac.max_cloud_percent, reading.allow) == (("s2",), 40.0, ("remote",))
    assert reading.qa is not None
    assert reading.qa.reject == (1,)
    assert load_monitor(write()).monitor.reading.allow == ()


def test_an_area_has_rules_of_its_own(write: Write) -> None:
    areas = [{"path": "a.gpkg", "fdr": 0.01}, {"path": "b.gpkg", "name": "Hafen"}]
    monitor = load_monitor(write(areas=areas, rules={"fdr": 0.2, "confirm_after": 3})).monitor
    assert [area.title for area in monitor.areas] == ["a", "Hafen"]
    assert [(monitor.rules.of(area).fdr, monitor.rules.of(area).confirm_after) for area in monitor.areas] == [(0.01, 3), (0.2, 3)]


@pytest.mark.parametrize(("given", "days"), [(True, 45), (False, None), (30, 30), (None, None)])
def test_seasons_are_days_or_none(given: Any, days: int | None) -> None:
    assert Rules(season=given).season == days


@pytest.mark.parametrize(("given", "every"), [(True, None), ({"every": "1d"}, "1d")])
def test_a_digest_is_of_a_pass_or_a_period(given: Any, every: str | None) -> None:
    digest = Monitor.model_validate({**LEAST, "digest": given}).digest
    assert digest is not None
    assert digest.every == every
    assert Monitor.model_validate({**LEAST, "digest": False}).digest is None


@pytest.mark.parametrize(
    ("monitor", "says"),
    [
        ({"rules": {"confirm_aftr": 3}}, "monitor.rules.confirm_aftr: unknown setting; did you mean 'monitor.rules.confirm_after'?"),
        ({"scnes": "x"}, "did you mean 'monitor.scenes'?"),
        ({"scenes": {"stac": "https://e.org", "colections": []}}, "did you mean 'monitor.scenes.collections'?"),
        ({"scenes": {"stac": "https://e.org", "query": {"bbx": 1}}}, "did you mean 'monitor.scenes.query.bbox'?"),
        ({"areas": [{"path": "a", "resolve_afer": 1}]}, "did you mean 'monitor.areas.0.resolve_after'?"),
        ({"alerts": [{**HOOK, "sekret_env": "S"}]}, "did you mean 'monitor.alerts.0.secret_env'?"),
        ({"alerts": [{"type": "stdout"}, {**MAIL, "hots": "x"}]}, "did you mean 'monitor.alerts.1.host'?"),
        ({"alerts": [{"type": "webhok"}]}, "monitor.alerts.0.type: webhok: unknown type; did you mean 'webhook'?"),
        ({"alerts": [{"path": "a"}]}, "monitor.alerts.0: has no type; known: webhook, slack, email, file, stdout"),
        ({"digest": {"evry": "1d"}}, "did you mean 'monitor.digest.every'?"),
        ({"quality": {"sufix": "_qa.tif"}}, "did you mean 'monitor.quality.suffix'?"),
        ({"sources": {"stac": {"max_item": 1}}}, "did you mean 'monitor.sources.stac.max_items'?"),
        ({"rules": {"fdr": 0}}, "monitor.rules.fdr: Input should be greater than 0"),
        ({"rules": {"fdr": float("nan")}}, "monitor.rules.fdr"),
        ({"every": "6 hours"}, "monitor.every: 6 hours: is no period"),
        ({"name": "a/b"}, "monitor.name"),
        ({"model": "absent"}, "give one of model, fit_on_first"),
        ({"fit_on_first": 3}, "give one of model, fit_on_first"),
        ({"config": "a.yaml"}, "config belongs to fit_on_first"),
        ({"scenes": {}}, "name a folder or a list, or {stac: URL}"),
        ({"scenes": {"path": "a", "collections": ["b"]}}, "belong to stac"),
        ({"areas": [{"path": "a.gpkg"}, {"path": "b/a.shp"}]}, "two areas are called 'a'"),
        ({"alerts": [HOOK, HOOK]}, "two sinks are called 'webhook'"),
        ({"alerts": [{**HOOK, "url": "ftp://x"}]}, "url is no address"),
        ({"alerts": [{**HOOK, "url": "https://x:99999/"}]}, "url is no address"),
        ({"alerts": [{**HOOK, "url_env": "U"}]}, "give one of url, url_env"),
        ({"alerts": [{**HOOK, "secret_env": "whsec_MfKQ/9g="}]}, "monitor.alerts.0.secret_env"),
        ({"alerts": [{**MAIL, "to": ["a@b.org\nBcc: c@d.org"]}]}, "monitor.alerts.0.to.0"),
        ({"alerts": [{**MAIL, "sender": "a@b.org, c@d.org"}]}, "monitor.alerts.0.sender"),
        ({"alerts": [{**MAIL, "user": "u"}]}, "user and password_env go together"),
        ({"alerts": [{**MAIL, "user": "u", "password_env": "P", "security": "none"}]}, "not sent without encryption"),
        ({"alerts": [{"type": "slack", "url": "https://hooks.slack.com/x"}]}, "did you mean 'monitor.alerts.0.url_env'?"),
        ({"alerts": {"type": "stdout"}}, "should be a list"),
        ({"retention": {"looks_days": 10}}, "monitor.retention.looks_days"),
    ],
)
def test_what_cannot_be_used_gets_one_line(write: Write, monitor: dict[str, Any], says: str) -> None:
    assert says in refusal(write(**monitor))


@pytest.mark.parametrize(
    "monitor",
    [
        {"store": "postgresql://user:s3cret@host/db"},
        {"store": "postgresql://host/db?user=u&password=s3cret"},
        {"alerts": [{**HOOK, "url": "https://user:s3cret@example.org/"}]},
        {"scenes": {"stac": "https://user:s3cret@example.org/"}},
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_repeated(write: Write, monitor: dict[str, Any]) -> None:
    said = refusal(write(**monitor))
    assert "holds a" in said
    assert "s3cret" not in said


def test_a_file_that_is_none_gets_one_line(write: Write, tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path / "none.yaml")
    assert "not a mapping" in refusal(write("- a\n"))
    assert "given twice" in refusal(write("monitor: {name: a, name: b}"))
    assert "monitor: Field required" in refusal(write("schema_version: 1"))
    assert "schema_version" in refusal(write("schema_version: 2\nmonitor: {name: a, scenes: b, model: c}"))
    assert "cannot be read as YAML" in refusal(write('monitor: !!python/object/apply:os.system ["true"]'))


def test_settings_are_frozen_and_survive_a_round_trip() -> None:
    config = load_monitor(SHIPPED)
    with pytest.raises(ValueError, match="frozen"):
        config.monitor.name = "other"  # type: ignore[misc]
    assert MonitorConfig.model_validate(config.model_dump(mode="json")) == config

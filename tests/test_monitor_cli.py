"""The commands of a monitor: their words, their exit codes, and what they leave alone."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from series import BEGUN, Thing, begun, command, store_of, write_config, write_look

from geoanom.cli.main import main
from geoanom.errors import ExitCode
from geoanom.layer.reading import read_features

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

THING = Thing(row=40, col=24, begin=BEGUN, end=99)
PROPERTIES = {"alert_id", "status", "confidence", "first_detected", "last_detected", "last_observed", "n_detections"} | {
    *("n_valid_observations", "max_score", "score", "area", "scene", "families", "reason", "lon", "lat")
}


def geoanom(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["monitor", *map(str, arguments)])
    told = capsys.readouterr()
    return int(stop.value.code or 0), told.out, told.err


def add_looks(config: Path, numbers: Sequence[int]) -> None:
    for number in numbers:
        write_look(config.parent / "inbox", number, [THING])


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A monitor with one persistent alert."""
    config = begun(tmp_path_factory.mktemp("watched") / "m")
    add_looks(config, [BEGUN, BEGUN + 1])
    with pytest.raises(SystemExit) as stop:
        main(["monitor", "run", str(config), "--exit-code"])
    assert stop.value.code == ExitCode.FOUND
    return config


@pytest.fixture
def copy(watched: Path, tmp_path: Path) -> Path:
    shutil.copytree(watched.parent, tmp_path / "m")
    return tmp_path / "m" / watched.name


def ids_of(config: Path) -> list[str]:
    with store_of(config) as store:
        return list(store.alerts())


def test_status_tells_how_it_stands_to_people_and_machines(watched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = geoanom(capsys, "status", watched, "--json")
    found = json.loads(out)
    assert (code, found["alerts"], found["looks"]) == (0, {"persistent": 1}, {"used": BEGUN + 2})
    assert found["lag_s"] > 0
    assert found["undelivered"] == {"file": 0}
    assert found["drift"]["refit"] is False
    code, out, _ = geoanom(capsys, "status", watched)
    assert code == 0
    for words in ("last success: ", "1 persistent", f"{BEGUN + 2} used", "drift: "):
        assert words in out


def test_status_of_a_monitor_that_never_ran_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = geoanom(capsys, "status", write_config(tmp_path / "m"))
    assert code == ExitCode.REFUSED
    assert "run geoanom monitor run first" in err


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg", ".fgb", ".parquet", ".csv"])
def test_alerts_are_written_in_every_format(watched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str) -> None:
    out = tmp_path / f"alerts{suffix}"
    assert geoanom(capsys, "alerts", watched, "-o", out)[0] == 0
    [feature] = read_features(out).stream()
    assert set(feature.properties) >= PROPERTIES
    assert feature.properties["alert_id"] == ids_of(watched)[0]
    assert feature.properties["status"] == "persistent"
    assert feature.geometry is not None
    code, _, err = geoanom(capsys, "alerts", watched, "-o", out)
    assert (code, "exists already" in err) == (ExitCode.UNWRITTEN, True)


def test_alerts_can_be_chosen_by_status_and_none_make_an_empty_layer(
    watched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "alerts.geojson"
    code, _, err = geoanom(capsys, "alerts", watched, "--status", "resolved", "--status", "new", "-o", out)
    assert (code, "0 alerts" in err) == (0, True)
    assert json.loads(out.read_text())["features"] == []


@pytest.mark.parametrize(("name", "words"), [("a.tif", "raster"), ("a.geojsn", "geojson"), ("a", "layer format")])
def test_a_format_that_cannot_be_is_refused(
    watched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, words: str
) -> None:
    code, _, err = geoanom(capsys, "alerts", watched, "-o", tmp_path / name)
    assert (code, words in err) == (ExitCode.USAGE, True)


def test_a_dismissed_alert_leaves_the_feed_and_a_confirmed_one_comes_back(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    feed, [name] = copy.parent / "alerts.geojson", ids_of(copy)
    code, _, err = geoanom(capsys, "dismiss", copy, name, "0000000000000000")
    assert (code, "0000000000000000: is no alert" in err) == (ExitCode.REFUSED, True)
    assert name in feed.read_text()
    assert geoanom(capsys, "dismiss", copy, name, "--note", "a crane")[0] == 0
    assert name not in feed.read_text()
    add_looks(copy, [BEGUN + 2])
    assert geoanom(capsys, "run", copy, "--exit-code")[0] == 0
    assert name not in feed.read_text()
    assert geoanom(capsys, "confirm", copy, name)[0] == 0
    assert name in feed.read_text()


def test_a_schedule_names_the_settings_by_their_absolute_path(watched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = geoanom(capsys, "schedule", watched, "--every", "12h", "--format", "cron")
    assert (code, out.startswith("0 */12 * * *"), str(watched) in out) == (0, True, True)
    code, out, _ = geoanom(capsys, "schedule", watched)
    assert "geoanom-test.service" in out
    assert f"monitor run {watched}" in out
    code, _, _err = geoanom(capsys, "schedule", watched, "-o", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} >= {"geoanom-test.service", "geoanom-test.timer"}
    assert geoanom(capsys, "schedule", watched, "--every", "often")[0] == ExitCode.USAGE


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scenes": None}, "scenes"),
        ({"rules": {"fdrr": 0.1}}, "monitor.rules.fdr"),
        ({"model": "m", "fit_on_first": 3}, "model, fit_on_first"),
        ({"alerts": [{"type": "webhok"}]}, "webhook"),
    ],
)
def test_a_typo_is_named_with_what_was_meant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, object], words: str
) -> None:
    config = write_config(tmp_path / "m", **changes)
    code, _, err = geoanom(capsys, "run", config)
    assert code == ExitCode.USAGE
    assert words in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("date", ["soon", "2024-13-01"])
def test_a_date_that_is_none_is_refused(watched: Path, capsys: pytest.CaptureFixture[str], date: str) -> None:
    code, _, err = geoanom(capsys, "run", watched, "--since", date)
    assert (code, "--since" in err) == (ExitCode.USAGE, True)


def test_a_pass_tells_what_it_did_as_json(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_looks(copy, [BEGUN + 2])
    (copy.parent / "inbox" / "look_20250101.tif").write_bytes(b"II*\0")
    code, out, _ = geoanom(capsys, "run", copy, "--json")
    found = json.loads(out)
    assert code == ExitCode.PARTIAL
    assert (found["looked"], found["refused"], found["outcome"], found["told"]) == (1, 1, "partial", 0)
    assert len(found["errors"]) == 1


def test_a_pass_without_news_loads_no_networks(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert geoanom(capsys, "run", copy)[0] == 0
    code = """
import sys
from geoanom.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    heavy = {"torch", "pyod", "sklearn", "alembic", "scipy.stats"} & set(sys.modules)
    sys.exit(str(heavy) if heavy else stop.code)
"""
    done = subprocess.run([sys.executable, "-c", code, "monitor", "run", str(copy)], capture_output=True, text=True, check=False)
    assert (done.returncode, "nothing is new" in done.stderr) == (0, True), done.stderr


def test_a_signal_ends_a_pass_after_the_scene_and_the_next_goes_on(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_looks(copy, range(BEGUN + 2, BEGUN + 9))
    process = command("run", copy)
    while n_looks(copy) == BEGUN + 2 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "run again to go on" in errors
    assert BEGUN + 2 < n_looks(copy) < BEGUN + 9
    assert geoanom(capsys, "run", copy)[0] == 0
    assert n_looks(copy) == BEGUN + 9


def n_looks(config: Path) -> int:
    with store_of(config) as store:
        return sum(store.standing().looks.values())


def test_a_store_that_is_gone_or_full_is_one_line(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy.parent / "state.sqlite").write_bytes(b"not a database at all, but long enough to be looked at" * 20)
    code, _, err = geoanom(capsys, "run", copy)
    assert (code, len(err.strip().splitlines())) == (ExitCode.REFUSED, 1)
    config = write_config(copy.parent, store="nowhere/state.sqlite")
    code, _, err = geoanom(capsys, "run", config)
    assert (code, len(err.strip().splitlines())) == (ExitCode.UNWRITTEN, 1)


def test_help_of_every_command_imports_nothing_heavy() -> None:
    code = """
import sys
from geoanom.cli.main import main
try:
    main(["monitor", *sys.argv[1:], "--help"])
except SystemExit:
    heavy = {"torch", "numpy", "sqlalchemy", "pydantic", "rasterio"} & set(sys.modules)
    sys.exit(str(heavy) if heavy else 0)
"""
    for name in ("run", "status", "alerts", "schedule", "dismiss", "confirm"):
        assert subprocess.run([sys.executable, "-c", code, name], capture_output=True, check=False).returncode == 0

"""The command line: what it says, and how it leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from geoanom.cli.main import COMMANDS, SUMMARIES, main

if TYPE_CHECKING:
    from geoanom.config import Config

ROOT = Path(__file__).parent.parent


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the program's own entry point."""
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    assert isinstance(stop.value.code, int)
    return stop.value.code, out, err


def assert_one_line(err: str, *parts: str) -> None:
    assert err.count("\n") == 1, err
    assert err.startswith("geoanom: error: ")
    for part in parts:
        assert part in err


def test_every_command_is_summed_up_and_shows_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(COMMANDS) == set(SUMMARIES)
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for command, summary in SUMMARIES.items():
        assert summary in out
        assert run(capsys, command, "--help")[0] == 0


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([command, "--help"] for command in COMMANDS)], ids=" ".join)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = f"""
import sys
from geoanom.cli.main import main
try: main({arguments!r})
except SystemExit: pass
heavy = {{"torch", "pyod", "numpy", "rasterio", "geopandas", "pydantic"}} & set(sys.modules)
sys.exit(f"imported {{heavy}}" if heavy else 0)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize("config", sorted({path.name for path in (ROOT / "configs").glob("*.yaml")} - {"pretrain.yaml", "monitor.yaml"}))
def test_the_shipped_configs_are_parsed_by_the_real_entry_point(config: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = run(capsys, "detect", tmp_path / "gone.tif", "--config", ROOT / "configs" / config, "-o", tmp_path / "o.geojson")
    assert code == 4
    assert_one_line(err, "gone.tif: does not exist")


def test_unknown_names_are_answered_with_the_nearest_known_one(
    capsys: pytest.CaptureFixture[str], sample_scene: Path, tmp_path: Path
) -> None:
    out = tmp_path / "o.geojson"
    cases: list[tuple[list[str | Path], str]] = [
        (["detct"], "did you mean 'detect'?"),
        (["detect", sample_scene, "-o", out, "--set", "tiles.sise=3"], "did you mean 'tiles.size'?"),
        (["detect", sample_scene, "-o", out, "--set", "embed.training.epoch=3"], "did you mean 'embed.training.epochs'?"),
        (["detect", sample_scene, "-o", out, "--set", "detect.members=[{name: iforrest}]"], "did you mean 'iforest'?"),
        (["detect", sample_scene, "-o", out, "--set", "embed.backbone=resnet81"], "did you mean 'resnet"),
        (["detect", sample_scene, "-o", tmp_path / "o.geojsn"], "did you mean '.geojson'?"),
    ]
    for arguments, hint in cases:
        code, _, err = run(capsys, *arguments)
        assert code == 2, err
        assert_one_line(err, hint)
    assert list(tmp_path.iterdir()) == []


def test_bad_inputs_get_one_line_the_right_code_and_no_file(capsys: pytest.CaptureFixture[str], sample_scene: Path, tmp_path: Path) -> None:
    work = tmp_path / "out"
    work.mkdir()
    (tmp_path / "empty.tif").write_bytes(b"")
    (tmp_path / "text.tif").write_text("this is no raster")
    (tmp_path / "cut.tif").write_bytes(sample_scene.read_bytes()[:400_000])
    (tmp_path / "folder.tif").mkdir()
    os.mkfifo(tmp_path / "fifo.tif")
    from PIL import Image

    Image.new("RGB", (300, 300)).save(tmp_path / "plain.png")
    expected = {
        "empty.tif": "is empty",
        "text.tif": "is not a raster",
        "cut.tif": "truncated",
        "folder.tif": "holds no scene",
        "fifo.tif": "is not a regular file",
        "plain.png": "no coordinate reference system; score it in pixel coordinates with --pixel-space",
        "missing.tif": "does not exist",
    }
    for name, words in expected.items():
        code, out, err = run(capsys, "detect", tmp_path / name, "-o", work / "o.geojson", "--heatmap", work / "h.tif")
        assert code == 4, err
        assert out == ""
        assert_one_line(err, str(tmp_path / name), words)
        assert list(work.iterdir()) == []


def test_outputs_that_cannot_be_written_are_refused_before_any_work(
    capsys: pytest.CaptureFixture[str], sample_scene: Path, tmp_path: Path
) -> None:
    (tmp_path / "old.geojson").write_text("precious")
    code, _, err = run(capsys, "detect", sample_scene, "-o", tmp_path / "old.geojson")
    assert code == 5
    assert_one_line(err, "old.geojson: exists already", "--overwrite")
    assert (tmp_path / "old.geojson").read_text() == "precious"
    code, _, err = run(capsys, "fit", sample_scene, "-o", tmp_path / "no" / "model")
    assert code == 5
    assert_one_line(err, "does not exist")


def test_usage_errors_leave_with_2(capsys: pytest.CaptureFixture[str], sample_scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.geojson"
    for arguments in (
        ["detect", sample_scene],
        ["detect", "-o", out],
        ["detect", sample_scene, "-o", out, "--top", "3", "--fdr", "0.1"],
        ["detect", sample_scene, "-o", out, "--set", "tiles.size"],
        ["detect", sample_scene, "-o", out, "--tile-size", "0"],
        ["detect", sample_scene, "-o", out, "--bands", "1,9"],
        ["detect", sample_scene, sample_scene, "-o", out, "--quicklook", tmp_path / "q.png"],
        ["list", "colours"],
    ):
        code, _, err = run(capsys, *arguments)
        assert code == 2, err
        assert_one_line(err)


def test_info_tells_a_scene_to_people_and_machines(capsys: pytest.CaptureFixture[str], sample_scene: Path) -> None:
    code, out, _ = run(capsys, "info", sample_scene, "--json")
    facts = json.loads(out)
    assert code == 0
    assert (facts["height"], facts["width"], facts["valid_fraction"]) == (1024, 1024, 1.0)
    assert [band["name"] for band in facts["bands"]] == ["B02", "B03", "B04", "B08"]
    assert facts["resolution_m"] == pytest.approx(10, abs=0.01)
    _, out, _ = run(capsys, "info", ROOT / "data/l8_fill_edge_512.tif")
    assert "taken for fill" in out


def test_list_names_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert {"knn", "lof", "iforest", "gmm", "hbos", "mcd", "ocsvm", "ecod", "copod", "rx"} <= set(
        run(capsys, "list", "detectors")[1].split()
    )
    assert {"efficientnet_lite0", "conv_ae", "resnet18"} <= set(json.loads(run(capsys, "list", "backbones", "--json")[1]))


def test_doctor_measures_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "doctor", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["tiles_per_s"] > 0
    assert facts["packages"]["torch"] != "missing"


def test_fit_score_and_info_work_together_and_exit_codes_tell_what_was_found(
    capsys: pytest.CaptureFixture[str], small_scene: Path, quick_config: Config, tmp_path: Path
) -> None:
    from geoanom.config import dump_config

    config = tmp_path / "config.yaml"
    config.write_text(dump_config(quick_config))
    model, out = tmp_path / "model", tmp_path / "o.geojson"
    assert run(capsys, "fit", small_scene, "--config", config, "-o", model)[0] == 0
    assert json.loads(run(capsys, "info", model, "--json")[1])["members"] == ["windows", "knn"]
    code, _, err = run(capsys, "score", small_scene, "-m", model, "-o", out, "--top", "3", "--exit-code")
    assert (code, len(json.loads(out.read_text())["features"])) == (10, 3), err
    code, _, err = run(capsys, "score", small_scene, tmp_path / "gone.tif", "-m", model, "-o", out, "--overwrite", "--top", "3")
    assert code == 3
    assert "gone.tif: does not exist" in err
    code, _, err = run(capsys, "score", small_scene, "-m", model, "-o", out, "--overwrite", "--fdr", "1e-9")
    assert code == 0
    assert "nothing is significant" in err
    assert "--top 20" in err


def test_a_traceback_appears_only_with_vv(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments: list[str | Path] = ["info", tmp_path / "gone.tif"]
    assert "Traceback" not in run(capsys, *arguments, "-v")[2]
    assert "Traceback" in run(capsys, *arguments, "-vv")[2]

"""The notebooks run from top to bottom, and what they promise is there and agrees."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import shutil
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import nbformat
import numpy as np
import pytest
import rasterio
import shapely
from conftest import ROOT
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

    from geoanom.config import Config

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
QUICK_START = ROOT / "notebooks" / "01-quickstart.ipynb"
MONITORING = ROOT / "notebooks" / "02-monitoring.ipynb"


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]  # it ships a mark of types and lacks most of them


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_what_is_committed_has_no_outputs(path: Path) -> None:
    nbformat.validate(read(path))
    assert subprocess.run([sys.executable, "-m", "nbstripout", "--verify", path], check=False).returncode == 0, "run nbstripout on it"


@pytest.fixture(scope="module")
def quick_start(small_scene: Path, quick_config: Config, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """The quick start after it ran in a project of its own, in the folder that it lies in, and the folder of its results."""
    project = tmp_path_factory.mktemp("project")
    for folder in ("data", "notebooks"):
        (project / folder).mkdir()
    shutil.copy(small_scene, project / "data" / "s2_virginia_1024.tif")
    notebook = read(QUICK_START)
    with_parameters(notebook, settings=flat(quick_config.model_dump(mode="json", exclude_defaults=True)))
    execute(notebook, project)
    return notebook, project / "out" / "quickstart"


def execute(notebook: Any, project: Path) -> None:
    """Run a notebook in the folder ``notebooks`` of a project, with nothing of the user's Jupyter."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
            patch.setenv(name, str(project / "jupyter" / name))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("JUPYTER_PLATFORM_DIRS", "1")
        kernel = this_interpreter(project / "jupyter" / "JUPYTER_DATA_DIR")
        NotebookClient(notebook, timeout=300, kernel_name=kernel, resources={"metadata": {"path": str(project / "notebooks")}}).execute()


def with_parameters(notebook: Any, **values: Any) -> None:
    """Add a cell behind the one tagged ``parameters``, as papermill does."""
    (place,) = (i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ()))
    text = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(text))  # type: ignore[no-untyped-call]


def flat(settings: dict[str, Any], above: str = "") -> list[str]:
    """Settings as ``key.path=value``."""
    parts = [flat(v, f"{above}{k}.") if isinstance(v, dict) else [f"{above}{k}={json.dumps(v)}"] for k, v in settings.items()]
    return [setting for part in parts for setting in part]


def this_interpreter(data_dir: Path) -> str:
    """The name of a kernel that is the interpreter of this test, whatever kernels are installed."""
    folder = data_dir / "kernels" / "here"
    folder.mkdir(parents=True)
    spec = {"argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": "here", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(spec))
    return folder.name


def outputs_of(notebook: Any, kind: str) -> list[str]:
    """What the cells show, as far as it is of this MIME type."""
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return [output.data[kind] for output in shown if kind in output.get("data", {})]


def test_the_quick_start_shows_its_pictures_and_no_complaint(quick_start: tuple[Any, Path]) -> None:
    notebook, folder = quick_start
    pictures = [Image.open(io.BytesIO(base64.b64decode(data))) for data in outputs_of(notebook, "image/png")]
    quicklook, tiles, heatmap = (np.asarray(picture.convert("RGB"), float) for picture in pictures)
    with Image.open(folder / "quicklook.png") as written:
        assert np.array_equal(quicklook, np.asarray(written.convert("RGB"), float))
    assert tiles.shape == (200, 800, 3)
    assert all(tiles[:, left : left + 200].std() > 10 for left in range(0, 800, 200))
    assert heatmap.std() > 1
    assert not [output for cell in notebook.cells for output in cell.get("outputs", ()) if output.output_type in ("stream", "error")]


def test_the_files_of_the_quick_start_agree(quick_start: tuple[Any, Path]) -> None:
    notebook, folder = quick_start
    frames = [gpd.read_file(folder / "anomalies.geojson"), gpd.read_file(folder / "anomalies.gpkg", layer="anomalies")]
    first, *others = [frame.sort_values("rank") for frame in [*frames, gpd.read_parquet(folder / "anomalies.parquet")]]
    for frame in others:
        assert frame["anomaly_id"].tolist() == first["anomaly_id"].tolist()
        assert frame["score"].tolist() == first["score"].tolist()
        assert shapely.hausdorff_distance(frame.geometry.array, first.geometry.array).max() < 1e-7
    (table,) = (text for text in outputs_of(notebook, "text/html") if "<table" in text)
    assert len(first) == 5
    assert [reason for reason in re.findall(r"<td>(.*?)</td>", table) if "usual" in reason] == first["reason"].map(html.escape).tolist()
    with rasterio.open(folder / "heatmap.tif") as src:
        assert np.nanmax(src.read(1)) == pytest.approx(first["score"].iloc[0], rel=1e-3)
    page = (folder / "report.html").read_text("utf-8")
    assert all(page.count(f'"{identity}"') for identity in first["anomaly_id"])
    with zipfile.ZipFile(folder / "anomalies.qgz") as project:
        text = project.read(next(name for name in project.namelist() if name.endswith(".qgs"))).decode()
    assert {"anomalies.gpkg", "heatmap.tif", "s2_virginia_1024.tif"} <= set(re.findall(r"[\w-]+\.(?:gpkg|tif)", text))


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """The monitoring notebook after it ran on the six dates with pixels of 20 m, and the folder of its results."""
    project = tmp_path_factory.mktemp("watch")
    (project / "notebooks").mkdir()
    notebook = read(MONITORING)
    with_parameters(notebook, series=str(ROOT / "data" / "naip"), out=str(project / "out"), shrink=2, rules=RULES, model=SMALL)
    execute(notebook, project)
    return notebook, project / "out"


SMALL = {
    "embed": {"backbone": "spectrum", "dim": 4, "head": {"hidden": [8]}, "training": {"epochs": 1}},
    "tiles": {"size": 32},
    "fit": {"min_tiles": 8, "fold_tiles": 2},
}
"""Settings of a fit that is done in a second."""
RULES = {"cell_px": 4, "min_history": 2, "fdr": 0.3}


def test_the_watched_place_is_told_of_once_and_shown(watched: tuple[Any, Path]) -> None:
    notebook, folder = watched
    passes, table = outputs_of(notebook, "text/html")[-3:-1]
    said = [html.unescape(text) for text in re.findall(r"<td>(.*?)</td>", passes)]
    feed = json.loads((folder / "alerts.geojson").read_text("utf-8"))["features"]
    reasons = [html.unescape(text) for text in re.findall(r"<td>([^<]*against[^<]*)</td>", table)]
    told = sum(int(n) for line in said for n in re.findall(r"(\d+) alert\.new", line))
    assert said[-1] == "nothing is new"
    assert told == len(reasons) > 0
    assert {feature["properties"]["reason"] for feature in feed} <= set(reasons), "what is resolved leaves the feed"
    (sheet,) = (Image.open(io.BytesIO(base64.b64decode(data))) for data in outputs_of(notebook, "image/png"))
    shown = np.asarray(sheet.convert("RGB"), float)
    halves = [half for top in range(0, sheet.height, 330) for half in np.split(shown[top : top + 320], [325], axis=1)]
    assert len(halves) == 2 * min(6, told)
    assert all((half == [255, 255, 0]).all(axis=-1).any() and half.std() > 10 for half in halves), "each place is outlined"
    page = (folder / "page.html").read_text("utf-8")
    assert all(page.count(feature["properties"]["alert_id"]) for feature in feed)
    assert not [output for cell in notebook.cells for output in cell.get("outputs", ()) if output.output_type in ("stream", "error")]


def test_a_series_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "notebooks").mkdir()
    notebook = read(MONITORING)
    with_parameters(notebook, series=str(tmp_path / "nowhere"))
    with pytest.raises(CellExecutionError, match="nowhere holds no scenes: set `series` in the first cell"):
        execute(notebook, tmp_path)

"""What many tests stand on: real scenes, and settings for fast runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import rasterio
from hypothesis import HealthCheck, settings
from rasterio.windows import Window

from geoanom.config import load_config

if TYPE_CHECKING:
    from geoanom.config import Config

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"

# Few examples, no clock: the machines of CI are slow and shared. A function's tmp_path may serve all of its examples. The examples are the
# same in every run, so that a run says something of the change it tests; `pytest --hypothesis-profile=search` looks for new ones.
COMMON = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.register_profile("search", COMMON)
settings.register_profile("geoanom", COMMON, derandomize=True)
settings.load_profile("geoanom")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the shared data in {SHARED}, which is not here")
    return SHARED


@pytest.fixture(scope="session")
def sample_scene() -> Path:
    """A Sentinel-2 scene of 1024 x 1024 pixels, bands B02 B03 B04 B08."""
    return ROOT / "data" / "s2_virginia_1024.tif"


@pytest.fixture(scope="session")
def fill_scene() -> Path:
    """A Landsat 8 scene of 512 x 512 pixels with zeros beyond a slanted edge and no nodata tag."""
    return ROOT / "data" / "l8_fill_edge_512.tif"


@pytest.fixture(scope="session")
def small_scene(sample_scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """320 x 320 pixels of the sample scene, 4 bands, with its CRS."""
    path = tmp_path_factory.mktemp("scenes") / "small.tif"
    crop = Window(352, 352, 320, 320)
    with rasterio.open(sample_scene) as src:
        profile = {**src.profile, "height": 320, "width": 320, "transform": src.window_transform(crop)}
        profile |= {"driver": "GTiff", "tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}
        with rasterio.open(path, "w", **profile) as dst:
            dst.write(src.read(window=crop))
    return path


@pytest.fixture(scope="session")
def quick_config() -> Config:
    """Settings for fast runs, whatever the environment says."""
    sets = ["tiles.size=32", "embed.zoom=1", "embed.dim=8", "embed.head.hidden=[32]", "embed.training.epochs=3"]
    return load_config(
        sets=[*sets, "normalize.sample_pixels=20000", "fit.max_tiles=2000", "fit.fold_tiles=4", "threshold.top=5"], environ={}
    )


@pytest.fixture(scope="session")
def plain_config() -> Config:
    """The defaults, whatever the environment says."""
    return load_config(environ={})

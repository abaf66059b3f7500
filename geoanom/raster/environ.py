"""GDAL's environment, locked before GDAL is loaded.

Opening a raster is an attack surface: some drivers and paths make GDAL fetch URLs or other local files.
"""

from __future__ import annotations

import os
import warnings

SKIPPED_DRIVERS = ("VRT", "HTTP", "WMS", "WMTS", "WCS", "GTI", "STACTA", "STACIT", "PLMOSAIC", "EEDAI")

LOCKED = {
    "CPL_VSIL_CURL_ALLOWED_FILENAME": "none",
    "GDAL_PAM_ENABLED": "NO",
    "GTIFF_IGNORE_READ_ERRORS": "NO",
    "GDAL_ENABLE_TIFF_SPLIT": "NO",  # rows of one big strip would pass for blocks, most of them never written
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "YES",  # libjpeg makes up what a truncated file lacks, and only warns
    "PROJ_NETWORK": "OFF",
}
"""Options that the caller's environment cannot loosen."""

TRIES = 3
"""How often a request is sent before it counts as failed."""


def lock_down(*, allow_vrt: bool = False) -> None:
    """Set GDAL's options for this process; works only before rasterio is first imported.

    Args:
        allow_vrt: keep the VRT driver, for a ``.vrt`` that the user has named.
    """
    skipped = [driver for driver in SKIPPED_DRIVERS if not (allow_vrt and driver == "VRT")]
    os.environ.update(LOCKED, GDAL_SKIP=",".join(skipped))
    os.environ.setdefault("GDAL_CACHEMAX", "64")
    # Every source checks the georeference itself and says what is missing; rasterio's warning would only say it again.
    warnings.filterwarnings("ignore", message=".*has no geotransform.*", category=UserWarning)
    # An alpha band counts beside nodata, whatever GDAL's masks say.
    warnings.filterwarnings("ignore", message=".*shadowing the alpha band.*", category=UserWarning)


def remote_options(path: str, timeout_s: float) -> dict[str, str]:
    """GDAL's options for reading one remote file and nothing else.

    They belong into a `rasterio.Env` of a thread other than the main one, whose options would hold for all threads.

    Args:
        path: the file as GDAL names it, such as ``/vsicurl/https://host/scene.tif``.
        timeout_s: longest time for a request, all tries together.
    """
    return {
        "CPL_VSIL_CURL_ALLOWED_FILENAME": path,
        "CPL_VSIL_CURL_NON_CACHED": path,  # what was read of a file before it was replaced must not be served again
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        "GDAL_HTTP_TIMEOUT": f"{timeout_s / TRIES:.3f}",
        "GDAL_HTTP_CONNECTTIMEOUT": f"{timeout_s / TRIES:.3f}",
        "GDAL_HTTP_MAX_RETRY": str(TRIES - 1),
        "GDAL_HTTP_RETRY_DELAY": "0.5",
        "GDAL_HTTP_UNSAFESSL": "NO",
        "GDAL_HTTP_NETRC": "NO",
    }

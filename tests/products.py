"""Small products laid out as the real ones are: names, folders, elements and values by the published specifications, pixels real.

Sentinel-2: Products Specification Document (ESA, S2-PDGS-TAS-DI-PSD, issue 15). Landsat: Level 2 Data Format Control Book (USGS,
LSDS-1328) and Level 2 Science Product Guide (USGS, LSDS-1619).
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.windows import Window

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

SIDE = 240
"""Pixels of 10 m along a side; a multiple of 6, so that those of 60 m fit."""
METRES = {"B01": 60, "B02": 10, "B03": 10, "B04": 10, "B05": 20, "B06": 20, "B07": 20, "B08": 10, "B8A": 20}
METRES |= {"B09": 60, "B10": 60, "B11": 20, "B12": 20}
BAND_IDS = dict(zip(METRES, range(13), strict=True))
STAMP, TILE = "20220805T155901", "T18SVG"


@dataclass(frozen=True)
class Built:
    """A product on disk and what was written into it."""

    path: Path
    counts: Mapping[str, NDArray[Any]]
    """(row, col) by band or class raster."""
    place: Affine
    """Of the finest pixels."""
    crs: str


def real_counts(scene: Path, side: int = SIDE) -> tuple[NDArray[np.uint16], Affine, str]:
    """(band, row, col) from the middle of a scene, with its place."""
    crop = Window(300, 400, side, side)
    with rasterio.open(scene) as src:
        return src.read(window=crop), src.window_transform(crop), src.crs.to_string()


def coarser(counts: NDArray[Any], factor: int) -> NDArray[Any]:
    """Means of squares of pixels, rounded."""
    rows, cols = (n // factor for n in counts.shape)
    squares = counts[: rows * factor, : cols * factor].reshape(rows, factor, cols, factor)
    return np.asarray(np.rint(squares.mean(axis=(1, 3))), counts.dtype)


def write_one(path: Path, counts: NDArray[Any], place: Affine, crs: str, **profile: Any) -> Path:
    """Write (row, col) as a raster of one band."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = {"count": 1, "height": counts.shape[0], "width": counts.shape[1], "dtype": counts.dtype}
    with rasterio.open(path, "w", **shape, transform=place, crs=crs, **profile) as dst:
        dst.write(counts, 1)
    return path


def write_jp2(path: Path, counts: NDArray[Any], place: Affine, crs: str) -> Path:
    """Write (row, col) as lossless JPEG 2000."""
    lossless = {"QUALITY": "100", "REVERSIBLE": "YES", "YCBCR420": "NO", "BLOCKXSIZE": "128", "BLOCKYSIZE": "128"}
    return write_one(path, counts, place, crs, driver="JP2OpenJPEG", **lossless)


def scene_classes(red: NDArray[Any]) -> NDArray[np.uint8]:
    """A classification at 20 m: vegetation (4) and bare soil (5) by brightness, and some of everything that is masked."""
    coarse = coarser(red, 2)
    classes = np.where(coarse > np.median(coarse), 5, 4).astype(np.uint8)
    for i, label in enumerate((0, 1, 3, 8, 9, 10, 11)):
        classes[10 + 14 * i : 16 + 14 * i, 30:50] = label
    return classes


def write_safe(
    folder: Path, scene: Path, *, level: str = "L2A", baseline: str = "04.00", offsets: Mapping[str, int] | None = None, n_empty: int = 12
) -> Built:
    """A SAFE folder with all bands of its level and, at level 2A, the scene classification.

    Args:
        folder: where to put it.
        scene: Sentinel-2 counts of B02, B03, B04, B08 at 10 m.
        level: L1C or L2A.
        baseline: of the processing.
        offsets: by band; none when None.
        n_empty: columns without data (DN 0) at the left edge of the image.
    """
    real, place, crs = real_counts(scene)
    real = np.maximum(real, 1)
    real[:, :, :n_empty] = 0
    fine = dict(zip(("B02", "B03", "B04", "B08"), real, strict=True))
    name = f"S2A_MSI{level}_{STAMP}_N{baseline.replace('.', '')}_R097_{TILE}_20220805T234405.SAFE"
    granule = f"GRANULE/{level}_{TILE}_A037189_{STAMP}"
    root, images, counts = folder / name, [], {}
    for i, (band, metres) in enumerate(METRES.items()):
        if level == "L2A" and band == "B10":  # the cirrus band does not see the ground
            continue
        counts[band] = fine[band] if band in fine else coarser(real[i % 4], metres // 10)
        images += [_image(root, granule, band, m, level, (counts[band], metres), (place, crs)) for m in _resolutions(metres, level)]
    if level == "L2A":
        counts["SCL"] = scene_classes(fine["B04"])
        images.append(_image(root, granule, "SCL", 20, level, (counts["SCL"], 20), (place, crs)))
    (root / f"MTD_MSI{level}.xml").write_text(_safe_metadata(name, images, level, baseline, offsets))
    write_manifest(root)
    return Built(root, counts, place, crs)


def write_manifest(root: Path) -> None:
    """The list of all files with their checksums."""
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and path.name != "manifest.safe"]
    rows = [
        f'<dataObject ID="F{i}"><byteStream mimeType="application/octet-stream" size="{path.stat().st_size}">'
        f'<fileLocation locatorType="URL" href="./{path.relative_to(root)}"/>'
        f'<checksum checksumName="SHA3-256">{hashlib.sha3_256(path.read_bytes()).hexdigest()}</checksum></byteStream></dataObject>'
        for i, path in enumerate(files)
    ]
    start = '<xfdu:XFDU xmlns:xfdu="urn:ccsds:schema:xfdu:1" version="esa/safe/sentinel/1.1/sentinel-2/msi/archive_l2a_user_product">'
    (root / "manifest.safe").write_text(f"{start}<dataObjectSection>{''.join(rows)}</dataObjectSection></xfdu:XFDU>\n")


def _resolutions(metres: int, level: str) -> list[int]:
    """The native one, and at level 2A a coarser one besides."""
    return [metres, 60] if level == "L2A" and metres == 20 else [metres]


def _image(
    root: Path, granule: str, what: str, metres: int, level: str, counts: tuple[NDArray[Any], int], where: tuple[Affine, str]
) -> str:
    """Write an image and give its entry in the metadata, which has no suffix."""
    values, native = counts
    stem = (
        f"{granule}/IMG_DATA/{TILE}_{STAMP}_{what}" if level == "L1C" else f"{granule}/IMG_DATA/R{metres}m/{TILE}_{STAMP}_{what}_{metres}m"
    )
    resampled = values if metres == native else coarser(values, metres // native)
    write_jp2(root / f"{stem}.jp2", resampled, where[0] @ Affine.scale(metres / 10), where[1])
    return stem


def _safe_metadata(name: str, images: list[str], level: str, baseline: str, offsets: Mapping[str, int] | None) -> str:
    files = "\n".join(f"<IMAGE_FILE>{image}</IMAGE_FILE>" for image in images)
    prefix = "BOA" if level == "L2A" else "RADIO"
    outer = "BOA_ADD_OFFSET_VALUES_LIST" if level == "L2A" else "Radiometric_Offset_List"
    rows = [f'<{prefix}_ADD_OFFSET band_id="{BAND_IDS[b]}">{value}</{prefix}_ADD_OFFSET>' for b, value in (offsets or {}).items()]
    listed = f"<{outer}>{''.join(rows)}</{outer}>" if rows else ""
    l2a = '<QUANTIFICATION_VALUES_LIST><BOA_QUANTIFICATION_VALUE unit="none">10000</BOA_QUANTIFICATION_VALUE>'
    l2a += '<AOT_QUANTIFICATION_VALUE unit="none">1000.0</AOT_QUANTIFICATION_VALUE></QUANTIFICATION_VALUES_LIST>'
    quantification = l2a if level == "L2A" else '<QUANTIFICATION_VALUE unit="none">10000</QUANTIFICATION_VALUE>'
    schema = f"https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-{level[1:]}.xsd"
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-{level[1:]}_User_Product xmlns:n1="{schema}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <n1:General_Info>
    <Product_Info>
      <PRODUCT_START_TIME>2022-08-05T15:59:01.024Z</PRODUCT_START_TIME>
      <PRODUCT_STOP_TIME>2022-08-05T15:59:01.024Z</PRODUCT_STOP_TIME>
      <PRODUCT_URI>{name}</PRODUCT_URI>
      <PROCESSING_LEVEL>Level-{level[1:]}</PROCESSING_LEVEL>
      <PRODUCT_TYPE>S2MSI{level[1:]}</PRODUCT_TYPE>
      <PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE>
      <GENERATION_TIME>2022-08-05T23:44:05.000000Z</GENERATION_TIME>
      <Datatake datatakeIdentifier="GS2A_{STAMP}_037189_N{baseline}">
        <SPACECRAFT_NAME>Sentinel-2A</SPACECRAFT_NAME>
        <DATATAKE_TYPE>INS-NOBS</DATATAKE_TYPE>
        <DATATAKE_SENSING_START>2022-08-05T15:59:01.024Z</DATATAKE_SENSING_START>
        <SENSING_ORBIT_NUMBER>97</SENSING_ORBIT_NUMBER>
        <SENSING_ORBIT_DIRECTION>DESCENDING</SENSING_ORBIT_DIRECTION>
      </Datatake>
      <Query_Options completeSingleTile="true"><PRODUCT_FORMAT>SAFE_COMPACT</PRODUCT_FORMAT></Query_Options>
      <Product_Organisation>
        <Granule_List>
          <Granule datastripIdentifier="S2A_OPER_MSI_{level}_DS" granuleIdentifier="S2A_OPER_MSI_{level}_TL" imageFormat="JPEG2000">
{files}
          </Granule>
        </Granule_List>
      </Product_Organisation>
    </Product_Info>
    <Product_Image_Characteristics>
      <Special_Values><SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT><SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX></Special_Values>
      <Special_Values><SPECIAL_VALUE_TEXT>SATURATED</SPECIAL_VALUE_TEXT><SPECIAL_VALUE_INDEX>65535</SPECIAL_VALUE_INDEX></Special_Values>
      {quantification}
      {listed}
    </Product_Image_Characteristics>
  </n1:General_Info>
  <n1:Quality_Indicators_Info/>
</n1:Level-{level[1:]}_User_Product>
"""


def zipped(root: Path, target: Path, *, compress: int = zipfile.ZIP_DEFLATED) -> Path:
    """A folder as the one folder in a zip."""
    with zipfile.ZipFile(target, "w", compress) as archive:
        for path in sorted(root.rglob("*")):
            if path.is_file():
                archive.write(path, f"{root.name}/{path.relative_to(root)}")
    return target


L8_ID = "LC08_{level}_224078_20200518_20200820_02_T1"
REFLECTANCE = {"L2SP": (2.75e-05, -0.2), "L1TP": (2.0e-05, -0.1)}


def write_landsat(
    folder: Path, scene: Path, *, level: str = "L2SP", kinds: tuple[str, ...] = ("txt", "json"), sensor: str = "OLI_TIRS"
) -> Built:
    """A Landsat Collection 2 folder: bands 1 to 7, thermal 10, at level 1 panchromatic 8, QA_PIXEL, and the metadata.

    Args:
        folder: where to put it.
        scene: Landsat counts with zeros as fill beyond a slanted edge, 30 m.
        level: L2SP or L1TP.
        kinds: of the metadata files.
        sensor: SENSOR_ID.
    """
    with rasterio.open(scene) as src:
        crop = Window(120, 100, 200, 200)
        real, place, crs = src.read(window=crop), src.window_transform(crop), src.crs.to_string()
    product = L8_ID.format(level=level)
    root, counts, keys = folder / product, {}, {}
    for number in range(1, 8):
        name = f"SR_B{number}" if level == "L2SP" else f"B{number}"
        counts[name], keys[name] = real[number % 3], str(number)
    name, keys_of = ("ST_B10", "ST_B10") if level == "L2SP" else ("B10", "10")
    counts[name], keys[name] = real[0] // 2 + (real[0] > 0), keys_of
    if level == "L1TP":
        counts["B8"], keys["B8"] = real[1].repeat(2, axis=0).repeat(2, axis=1), "8"
    counts["QA_PIXEL"] = pixel_flags(real)
    for name, values in counts.items():
        # pixels of 15 m have their centres, not their corners, on those of 30 m
        where = place @ Affine.translation(0.25, 0.25) @ Affine.scale(0.5) if name == "B8" else place
        nodata = 1 if name == "QA_PIXEL" else 0
        write_one(root / f"{product}_{name}.TIF", values, where, crs, driver="GTiff", nodata=nodata, tiled=True, compress="deflate")
    groups = _landsat_metadata(product, keys, level, sensor)
    for kind in kinds:
        text = json.dumps({"LANDSAT_METADATA_FILE": groups}) if kind == "json" else _as_odl(groups)
        (root / f"{product}_MTL.{kind}").write_text(text)
    return Built(root, counts, place, crs)


def pixel_flags(real: NDArray[Any]) -> NDArray[np.uint16]:
    """QA_PIXEL: fill (1), clear (21824), and stripes of dilated cloud, cirrus, cloud and cloud shadow as LSDS-1619 codes them."""
    flags = np.where((real == 0).all(axis=0), 1, 21824).astype(np.uint16)
    for i, code in enumerate((21826, 54596, 22280, 23888)):
        rows = flags[150 + 8 * i : 154 + 8 * i]
        rows[rows != 1] = code
    return flags


def _landsat_metadata(product: str, keys: Mapping[str, str], level: str, sensor: str) -> dict[str, dict[str, str]]:
    """The groups; those of the level 1 ancestor repeat the names of level 2 with other values, as they do in real files."""
    level1 = {
        "LEVEL1_PROCESSING_RECORD": {f"FILE_NAME_BAND_{n}": f"{L8_ID.format(level='L1TP')}_B{n}.TIF" for n in range(1, 12)},
        "LEVEL1_RADIOMETRIC_RESCALING": {
            **{f"RADIANCE_MULT_BAND_{n}": "3.3420E-04" for n in range(1, 12)},
            **{f"RADIANCE_ADD_BAND_{n}": "0.10000" for n in range(1, 12)},
            **{f"REFLECTANCE_MULT_BAND_{n}": "2.0000E-05" for n in range(1, 10)},
            **{f"REFLECTANCE_ADD_BAND_{n}": "-0.100000" for n in range(1, 10)},
        },
    }
    level2 = {
        "LEVEL2_SURFACE_REFLECTANCE_PARAMETERS": {
            **{f"REFLECTANCE_MULT_BAND_{n}": "2.75e-05" for n in range(1, 8)},
            **{f"REFLECTANCE_ADD_BAND_{n}": "-0.2" for n in range(1, 8)},
        },
        "LEVEL2_SURFACE_TEMPERATURE_PARAMETERS": {"TEMPERATURE_MULT_BAND_ST_B10": "0.00341802", "TEMPERATURE_ADD_BAND_ST_B10": "149.0"},
    }
    return {
        "PRODUCT_CONTENTS": {
            "ORIGIN": "Image courtesy of the U.S. Geological Survey",
            "LANDSAT_PRODUCT_ID": product,
            "PROCESSING_LEVEL": level,
            "COLLECTION_NUMBER": "02",
            "COLLECTION_CATEGORY": "T1",
            "OUTPUT_FORMAT": "GEOTIFF",
            **{f"FILE_NAME_BAND_{key}": f"{product}_{name}.TIF" for name, key in keys.items()},
            "FILE_NAME_QUALITY_L1_PIXEL": f"{product}_QA_PIXEL.TIF",
            "FILE_NAME_METADATA_ODL": f"{product}_MTL.txt",
        },
        "IMAGE_ATTRIBUTES": {
            "SPACECRAFT_ID": "LANDSAT_8",
            "SENSOR_ID": sensor,
            "DATE_ACQUIRED": "2020-05-18",
            "SCENE_CENTER_TIME": "13:40:43.2810930Z",
            "SUN_ELEVATION": "36.63283536",
        },
        **(level2 if level == "L2SP" else {}),
        **level1,
    }


def _as_odl(groups: Mapping[str, Mapping[str, str]]) -> str:
    """The form of *_MTL.txt: what is no number and no date stands in quotes."""
    lines = ["GROUP = LANDSAT_METADATA_FILE"]
    for group, values in groups.items():
        bare = ("DATE_ACQUIRED", "MULT_BAND", "ADD_BAND", "COLLECTION_NUMBER", "SUN_")
        rows = [f"    {key} = {value}" if any(b in key for b in bare) else f'    {key} = "{value}"' for key, value in values.items()]
        lines += [f"  GROUP = {group}", *rows, f"  END_GROUP = {group}"]
    return "\n".join([*lines, "END_GROUP = LANDSAT_METADATA_FILE", "END", ""])

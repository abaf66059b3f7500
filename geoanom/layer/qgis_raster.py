"""How rasters look in QGIS and on servers: the heatmap by score, a scene by the roles of its bands."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from geoanom.layer.qgis_xml import VERSION, document, element

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree.ElementTree import Element

RAMP = ((0.0, "#ffffb2", 0), (0.2, "#ffffb2", 0), (0.3, "#fed976", 120), (0.6, "#fd8d3c", 200), (1.0, "#bd0026", 240))
"""Score, colour, opacity of 255; nothing shows where p is above 0.01, and corners lie at the least scores of the levels."""
OPACITY = 0.75

Stretch = tuple[int, float, float]
"""1-based number of a band in its file, and the values that become black and white."""


def qml() -> str:
    """The heatmap's style as QGIS keeps it beside a file."""
    return document(element("qgis", {"version": VERSION, "styleCategories": "Symbology"}, *heat_style()))


def sld(name: str) -> str:
    """The heatmap's style by the Styled Layer Descriptor 1.0.0 standard (OGC 02-070)."""
    entries = "".join(
        f'<ColorMapEntry color="{colour}" quantity="{score:g}" label="{score:g}" opacity="{alpha / 255:.3f}"/>'
        for score, colour, alpha in RAMP
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<StyledLayerDescriptor version="1.0.0" xmlns="http://www.opengis.net/sld" '
        f'xmlns:ogc="http://www.opengis.net/ogc"><NamedLayer><Name>{escape(name)}</Name><UserStyle><Title>geoanom</Title>'
        f"<FeatureTypeStyle><Rule><RasterSymbolizer><Opacity>{OPACITY}</Opacity><ChannelSelection><GrayChannel>"
        f'<SourceChannelName>1</SourceChannelName></GrayChannel></ChannelSelection><ColorMap type="ramp">{entries}</ColorMap>'
        "</RasterSymbolizer></Rule></FeatureTypeStyle></UserStyle></NamedLayer></StyledLayerDescriptor>\n"
    )


def heat_style() -> list[Element]:
    """Pseudocolours of the first band, transparent where it is low."""
    items = [element("item", {"value": s, "color": colour, "alpha": alpha, "label": f"{s:g}"}) for s, colour, alpha in RAMP]
    how = {"colorRampType": "INTERPOLATED", "classificationMode": 1, "clip": 0, "minimumValue": RAMP[0][0], "maximumValue": RAMP[-1][0]}
    shader = element("rastershader", {}, element("colorrampshader", how, *items))
    renderer = {"type": "singlebandpseudocolor", "band": 1, "opacity": OPACITY, "alphaBand": -1, "nodataColor": ""}
    limits = {"classificationMin": RAMP[0][0], "classificationMax": RAMP[-1][0]}
    return _pipe(element("rasterrenderer", {**renderer, **limits}, _origin(), shader))


def scene_style(bands: Sequence[Stretch], alpha_band: int | None) -> list[Element]:
    """Red, green and blue where three bands are given, else one in grey, each between its two values."""
    shared = {"opacity": 1, "alphaBand": alpha_band or -1, "nodataColor": ""}
    if len(bands) == 1:
        grey = {"type": "singlebandgray", "grayBand": bands[0][0], "gradient": "BlackToWhite"}
        return _pipe(element("rasterrenderer", {**grey, **shared}, _origin(), _stretch("contrastEnhancement", bands[0])))
    colours = dict(zip(("red", "green", "blue"), bands, strict=True))
    numbers = {f"{colour}Band": band[0] for colour, band in colours.items()}
    stretches = [_stretch(f"{colour}ContrastEnhancement", band) for colour, band in colours.items()]
    return _pipe(element("rasterrenderer", {"type": "multibandcolor", **numbers, **shared}, _origin(), *stretches))


def _origin() -> Element:
    """The limits are the user's, so QGIS does not look for others."""
    return element("minMaxOrigin", {}, element("limits", text="None"), element("extent", text="WholeRaster"))


def _stretch(tag: str, band: Stretch) -> Element:
    _, low, high = band
    limits = [element("minValue", text=f"{low:.9g}"), element("maxValue", text=f"{high:.9g}")]
    return element(tag, {}, *limits, element("algorithm", text="StretchToMinimumMaximum"))


def _pipe(renderer: Element) -> list[Element]:
    nearest = {"enabled": "false", "zoomedInResamplingMethod": "nearestNeighbour", "zoomedOutResamplingMethod": "nearestNeighbour"}
    provider = element("provider", {}, element("resampling", {**nearest, "maxOversampling": 2}))
    after = [
        element("brightnesscontrast", {"brightness": 0, "contrast": 0, "gamma": 1}),
        element("rasterresampler", {"maxOversampling": 2}),
    ]
    return [element("pipe", {}, provider, renderer, *after), element("blendMode", text="0")]

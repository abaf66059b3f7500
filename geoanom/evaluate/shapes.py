"""Shapes of plants: smooth random blobs, and the outlines of small man-made things with soft edges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from shapely import Polygon, box, contains_xy, unary_union
from shapely.affinity import rotate, scale, translate

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from shapely.geometry.base import BaseGeometry

SUBPIXELS = 4
"""Samples a pixel and axis from which soft edges are made."""
N_WAVES = 4


def blob(size: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A smooth random blob (size, size) that reaches the frame in its widest direction."""
    angle = np.linspace(0, 2 * np.pi, 181)[:-1]
    waves = np.arange(2, 2 + N_WAVES)
    size_of, phase = rng.normal(0, 0.4, N_WAVES) / waves, rng.uniform(0, 2 * np.pi, N_WAVES)
    radius = np.exp((size_of * np.cos(np.outer(angle, waves) + phase)).sum(axis=1))
    outline = Polygon(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1))
    return coverage(fitted(outline, size), size) >= 0.5


def coverage(shape: BaseGeometry, size: int) -> NDArray[np.float64]:
    """Share (size, size) of each pixel that a shape in pixel corners (col, row) covers, in steps of 1 / SUBPIXELS²."""
    centers = (np.arange(size * SUBPIXELS) + 0.5) / SUBPIXELS
    inside = contains_xy(shape, *np.meshgrid(centers, centers))
    shares: NDArray[np.float64] = inside.reshape(size, SUBPIXELS, size, SUBPIXELS).mean(axis=(1, 3))
    return shares


def fitted(shape: BaseGeometry, size: int) -> BaseGeometry:
    """A shape scaled and moved so that its longer side fills a frame of this side, and its middle is the frame's."""
    left, top, right, bottom = shape.bounds
    factor = size / max(right - left, bottom - top)
    grown = scale(shape, factor, factor, origin=((left + right) / 2, (top + bottom) / 2))
    return translate(grown, (size - left - right) / 2, (size - top - bottom) / 2)


def drawn_shape(size: int, rng: np.random.Generator) -> BaseGeometry:
    """A building, a ship, a plane or a group of small things, turned by any angle, in pixel corners (col, row)."""
    build = (_building, _ship, _plane, _group)[int(rng.integers(4))]
    return fitted(rotate(build(rng), float(rng.uniform(0, 360)), origin=(0, 0)), size)


def _building(rng: np.random.Generator) -> BaseGeometry:
    """A rectangle, half of the time with a wing."""
    main = box(-1, 0, 1, rng.uniform(0.5, 1.4))
    wing = box(-1, -rng.uniform(0.4, 1.0), rng.uniform(-0.5, 0.2), 0.1)
    return unary_union([main, wing]) if rng.random() < 0.5 else main


def _ship(rng: np.random.Generator) -> BaseGeometry:
    """A hull with a pointed bow."""
    beam = rng.uniform(0.16, 0.28)
    return Polygon([(-1, -0.8 * beam), (0.45, -beam), (0.8, -0.6 * beam), (1, 0), (0.8, 0.6 * beam), (0.45, beam), (-1, 0.8 * beam)])


def _plane(rng: np.random.Generator) -> BaseGeometry:
    """A fuselage with swept wings and a tail."""
    sweep, span = rng.uniform(0.15, 0.45), rng.uniform(0.75, 1.0)
    fuselage = Polygon([(-1, -0.1), (0.8, -0.13), (1, 0), (0.8, 0.13), (-1, 0.1)])
    wings = Polygon([(0.3, 0), (0.1 - sweep, span), (-0.15 - sweep, span), (-0.2, 0), (-0.15 - sweep, -span), (0.1 - sweep, -span)])
    tail = Polygon([(-0.7, 0), (-0.95, 0.4), (-1.1, 0.4), (-1, 0), (-1.1, -0.4), (-0.95, -0.4)])
    return unary_union([fuselage, wings, tail])


def _group(rng: np.random.Generator) -> BaseGeometry:
    """Three to six things beside one another."""
    places = rng.permutation([(x, y) for x in (-1.0, 0.0, 1.0) for y in (-1.0, 0.0, 1.0)])[: int(rng.integers(3, 7))]
    halves = rng.uniform(0.22, 0.42, (len(places), 2))
    return unary_union([box(x - w, y - h, x + w, y + h) for (x, y), (w, h) in zip(places.tolist(), halves.tolist(), strict=True)])

"""The regions of an image, which take the place of the columns of a table."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Regions along each side of an image.
GRID = 4


class Regions:
    """A grid of rectangles on the images that a model reads."""

    def __init__(self, encoder: Any) -> None:
        self.layout: str = encoder.layout_
        sizes = {"h": encoder.height_, "w": encoder.width_}
        edges = {
            axis: np.unique(np.linspace(0, size, min(GRID, size) + 1).astype(int))
            for axis, size in sizes.items()
        }
        parts = {
            axis: list(zip(each[:-1].tolist(), each[1:].tolist(), strict=True))
            for axis, each in edges.items()
        }
        self.parts = [{"h": rows, "w": columns} for rows in parts["h"] for columns in parts["w"]]
        self.names = [
            f"rows {part['h'][0]}-{part['h'][1] - 1}, columns {part['w'][0]}-{part['w'][1] - 1}"
            for part in self.parts
        ]

    def select(self, images: Array, region: int) -> tuple[slice, ...]:
        """Index one region of all images."""
        part = self.parts[region]
        return (
            slice(None),
            *(slice(*part[axis]) if axis in part else slice(None) for axis in self.layout),
        )

    def pool(self, maps: Array) -> Array:
        """Sum maps `(n, height, width)` over each region."""
        each = [
            maps[:, slice(*part["h"]), slice(*part["w"])].sum(axis=(1, 2)) for part in self.parts
        ]
        return np.stack(each, axis=1)


class ShuffledImages:
    """Images, given out with one region shuffled."""

    def __init__(self, images: Array, regions: Regions) -> None:
        self.X = images
        self.regions = regions
        self.names = regions.names

    def shuffled(self, region: int, order: Array) -> Array:
        """Return a copy of the images in which one region comes from other images."""
        images = self.X.copy()
        place = self.regions.select(images, region)
        images[place] = images[place][order]
        return images

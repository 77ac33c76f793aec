"""Finds what is drawn in a picture, and brings it to one size, place and polarity.

    background   the smooth surface that the picture's rim suggests: a quadratic in x and y for each
                 colour, fitted by iteratively reweighted least squares, so that ink does not pull it
    ink          each pixel's difference from it along the one colour axis that differs most, the sign
                 chosen so that the rare far tail is positive: dark on light and light on dark look alike
    drawing      the heaviest connected piece, and the pieces near it that are not specks

The search runs again on the piece cut out, so that a small digit in a large photograph is seen sharp.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

SIDE = 32  # pixels of the square that comes out
DRAWN = 24  # pixels of the drawing's longer side in it
_WORK = 96  # pixels of the longer side while searching
_LEAST_CONTRAST = 0.02  # of full scale; less is an even surface


class NothingDrawn(Exception):
    """The picture is one even surface."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What one search saw."""

    ink: Array  # [h, w], 0 for background, 1 for full ink; other pieces are taken out
    box: tuple[int, int, int, int]  # left, top, right, bottom of the drawing, in `ink`
    scale: float  # pixels of the picture a pixel of `ink`


def normalised_ink(picture: Image.Image) -> Array:
    """The drawing in `picture` (RGB): float32 [32, 32], 0 for background, 1 for ink, centred.

    Raises:
        NothingDrawn: the picture is one even surface.
    """
    look = _look(picture)
    for _ in range(2):
        left, top, right, bottom = look.box
        margin = 0.35 * max(right - left, bottom - top)
        crop = (
            max(0, int((left - margin) * look.scale)),
            max(0, int((top - margin) * look.scale)),
            min(picture.width, int((right + margin) * look.scale) + 1),
            min(picture.height, int((bottom + margin) * look.scale) + 1),
        )
        if max(crop[2] - crop[0], crop[3] - crop[1]) > 0.6 * max(picture.size):
            break
        picture = picture.crop(crop)
        try:
            look = _look(picture)
        except NothingDrawn:
            break
    return _centred(look)


def _look(picture: Image.Image) -> _Look:
    scale = max(picture.size) / _WORK
    size = [max(8, round(side / scale)) for side in picture.size]
    small = picture.resize((size[0], size[1]), Image.Resampling.BICUBIC)
    pixels = np.asarray(small.filter(ImageFilter.GaussianBlur(0.8)), np.float32) / np.float32(
        255
    )  # [h, w, 3]
    ink = _difference(pixels)
    noise = 1.4826 * float(np.median(np.abs(ink - np.median(ink))))
    peak = float(np.quantile(ink, 0.998))
    if peak < _LEAST_CONTRAST:
        raise NothingDrawn
    floor = min(3 * noise, 0.5 * peak)
    strong = ink[ink > max(floor, 0.35 * peak)]
    full = float(np.quantile(strong, 0.7))
    mask, box = _drawing(ink, ink > max(floor, 0.42 * full))
    clean = np.clip((ink - 0.5 * floor) / max(full - 0.5 * floor, 1e-6), 0, 1)
    return _Look(np.where(_grown(mask, 2), clean, 0).astype(np.float32), box, scale)


def _difference(pixels: Array) -> Array:
    """How far each pixel is from the background, along the axis on which the picture differs most."""
    height, width, _ = pixels.shape
    coarse = pixels[::2, ::2]  # a smooth surface needs no more
    away = (pixels - _background(coarse, height, width)).reshape(-1, 3)
    axis = np.linalg.eigh(away.T @ away)[1][:, -1]
    along = away @ axis
    ink: Array = along * np.sign((along**3).sum() or 1.0)
    return ink.reshape(height, width).astype(np.float32)


def _background(coarse: Array, height: int, width: int) -> Array:
    """The surface fitted to `coarse`, on a grid of [height, width]: [height, width, 3]."""
    colours = coarse.reshape(-1, 3)
    basis, rim = _basis(coarse.shape[0], coarse.shape[1])
    # The rim is background more often than the middle is.
    prior = np.where(rim > 0.85, 1.0, 0.15).astype(np.float32)
    ground = np.median(colours[rim > 0.85], axis=0)[None, :]
    for terms, tolerance in ((1, 0.25), (3, 0.25), (3, 0.12), (6, 0.08), (6, 0.06), (6, 0.06)):
        square = ((colours - ground) ** 2).sum(1)
        weight = prior / (1 + square / tolerance**2) ** 2
        design = basis[:, :terms]
        normal = (design * weight[:, None]).T @ design
        # Keeps the surface flat where little of it is seen.
        normal[np.arange(1, terms), np.arange(1, terms)] += 1e-3 * weight.sum()
        factors = np.linalg.solve(normal, (design * weight[:, None]).T @ colours)
        ground = design @ factors
    surface: Array = (_basis(height, width)[0] @ factors).reshape(height, width, 3)
    return surface


def _basis(height: int, width: int) -> tuple[Array, Array]:
    """1, x, y, x², xy, y² at each pixel, x and y from -1 to 1: [h*w, 6]; and max(|x|, |y|): [h*w]."""
    y, x = np.meshgrid(
        np.linspace(-1, 1, height, dtype=np.float32),
        np.linspace(-1, 1, width, dtype=np.float32),
        indexing="ij",
    )
    basis = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1)
    return basis.reshape(-1, 6), np.maximum(np.abs(x), np.abs(y)).ravel()


def _drawing(ink: Array, mask: Mask) -> tuple[Mask, tuple[int, int, int, int]]:
    """The pieces of `mask` that make the drawing, and the box around them."""
    labels, count = _pieces(mask)
    height, width = mask.shape
    weights = np.bincount(labels.ravel(), ink.ravel(), count + 1)[1:]
    boxes = _boxes(labels, count)
    at_rim = (boxes[:, :2] == 0).any(1) | (boxes[:, 2] == width) | (boxes[:, 3] == height)
    # What runs off the picture is less likely the digit: a shadow, the edge of the paper.
    main = int(np.argmax(weights * np.where(at_rim, 0.25, 1.0)))
    left, top, right, bottom = boxes[main]
    reach = 0.3 * max(right - left, bottom - top)
    near = (
        (boxes[:, 0] < right + reach)
        & (boxes[:, 2] > left - reach)
        & (boxes[:, 1] < bottom + reach)
        & (boxes[:, 3] > top - reach)
    )
    kept = near & (weights >= 0.06 * weights[main]) & (~at_rim | at_rim[main])
    kept[main] = True
    chosen = np.concatenate([[False], kept])[labels]
    left, top, right, bottom = _boxes(chosen.astype(np.int64), 1)[0].tolist()
    return chosen, (left, top, right, bottom)


def _boxes(labels: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Left, top, right, bottom of each piece: int64 [count, 4]."""
    rows, columns = np.nonzero(labels)
    piece = labels[rows, columns] - 1
    boxes = np.repeat(np.array([[max(labels.shape), max(labels.shape), 0, 0]]), count, axis=0)
    np.minimum.at(boxes[:, 0], piece, columns)
    np.minimum.at(boxes[:, 1], piece, rows)
    np.maximum.at(boxes[:, 2], piece, columns + 1)
    np.maximum.at(boxes[:, 3], piece, rows + 1)
    return boxes


def _pieces(mask: Mask) -> tuple[NDArray[np.int64], int]:
    """Labels the 8-connected pieces of `mask` from 1 and counts them: the smallest index spreads.

    Each round takes the least label among a pixel's neighbours, then the label of that label
    (pointer jumping), so that long strokes need few rounds.
    """
    height, width = mask.shape
    outside = height * width
    labels = np.full((height + 2, width + 2), outside)
    inner = labels[1:-1, 1:-1]
    inner[mask] = np.arange(outside).reshape(height, width)[mask]
    while True:
        before = inner.copy()
        rows = np.minimum(np.minimum(labels[:-2], labels[1:-1]), labels[2:])
        least = np.minimum(np.minimum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])
        inner[mask] = least[mask]
        inner[mask] = np.append(inner.ravel(), outside)[inner[mask]]
        if np.array_equal(before, inner):
            break
    roots = np.unique(inner[mask])
    numbered = np.zeros(mask.shape, np.int64)
    numbered[mask] = np.searchsorted(roots, inner[mask]) + 1
    return numbered, len(roots)


def _grown(mask: Mask, steps: int) -> Mask:
    """`mask` and all that lies within `steps` pixels of it."""
    image = Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.MaxFilter(2 * steps + 1))
    return np.asarray(image) > 0


def _centred(look: _Look) -> Array:
    left, top, right, bottom = look.box
    scale = DRAWN / max(right - left, bottom - top)
    size = (max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale)))
    # One pixel more around the box, so that soft edges are not cut.
    pad = 1 / scale
    source = Image.fromarray(np.pad(look.ink, 4))
    box = (left + 4 - pad, top + 4 - pad, right + 4 + pad, bottom + 4 + pad)
    drawn = source.resize((size[0] + 2, size[1] + 2), Image.Resampling.BILINEAR, box=box)
    out = np.zeros((SIDE, SIDE), np.float32)
    x, y = (SIDE - drawn.width) // 2, (SIDE - drawn.height) // 2
    out[y : y + drawn.height, x : x + drawn.width] = np.asarray(drawn)
    return out

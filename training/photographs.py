"""Draws 8x8 digits as somebody would photograph them.

Stroke thickness, slant, rotation, perspective, place and size in the picture, colours, polarity,
uneven light, blur, noise, specks and JPEG: each drawn from `numpy.random.Generator`, so that a seed
gives the same pictures again.
"""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Array = NDArray[np.float32]

_GLYPH = 96  # pixels of the square in which a digit is drawn before it is placed


def clean(digit: Array, side: int, *, dark_on_light: bool) -> Image.Image:
    """The digit as it is, 0 to 16, scaled to `side` pixels, black on white or white on black."""
    grey = np.asarray(Image.fromarray(digit.astype(np.float32) / 16).resize((side, side), 3))
    grey = np.clip(grey, 0, 1)
    return Image.fromarray(((1 - grey if dark_on_light else grey) * 255).astype(np.uint8))


def photograph(
    digit: Array, random: np.random.Generator, *, dark_on_light: bool, sides: tuple[int, int]
) -> Image.Image:
    """The digit, 0 to 16, photographed: RGB, its sides between those given."""
    low, high = np.log(sides[0]), np.log(sides[1])
    height = int(np.exp(random.uniform(low, high)))
    width = int(np.clip(height * np.exp(random.uniform(-0.5, 0.5)), *sides))
    ink = _placed(_glyph(digit, random), width, height, random)
    paper, pen = _colours(random, dark_on_light)
    picture = paper + (pen - paper) * ink[..., None]
    picture *= _light(width, height, random)[..., None]
    picture = _specks(picture, random)
    image = Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8))
    if random.random() < 0.6:
        image = image.filter(ImageFilter.GaussianBlur(random.uniform(0, 0.012) * min(width, height)))
    noise = random.normal(0, random.choice([0.0, 0.01, 0.03, 0.06]), (height, width, 1))
    noise = noise + random.normal(0, random.choice([0.0, 0.02]), (height, width, 3))
    image = Image.fromarray((np.clip(np.asarray(image) / 255 + noise, 0, 1) * 255).astype(np.uint8))
    if random.random() < 0.3:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=int(random.integers(35, 95)))
        image = Image.open(file).convert("RGB")
    return image


def _glyph(digit: Array, random: np.random.Generator) -> Array:
    """Ink from 0 to 1 on [96, 96], in strokes of some thickness."""
    padded = np.pad(digit.astype(np.float32) / 16, 2)
    smooth = Image.fromarray(padded).resize((_GLYPH, _GLYPH), Image.Resampling.BICUBIC)
    ink = np.clip(np.asarray(smooth), 0, 1)
    # Dividing by the nearby peak makes faint strokes as thick as strong ones.
    near = Image.fromarray((ink * 255).astype(np.uint8)).filter(ImageFilter.MaxFilter(13))
    peak = np.asarray(near.filter(ImageFilter.GaussianBlur(5)), np.float32) / 255
    ink = ink / np.maximum(peak, 0.25) ** random.uniform(0, 0.8)
    level, softness = random.uniform(0.3, 0.72), random.uniform(0.02, 0.12)
    stroke = 1 / (1 + np.exp(-(ink - level) / softness))
    return np.asarray(stroke if random.random() < 0.8 else np.clip(ink, 0, 1), np.float32)


def _placed(glyph: Array, width: int, height: int, random: np.random.Generator) -> Array:
    """The glyph turned, slanted, seen at an angle, somewhere in a picture of this size: [height, width]."""
    # The grid of the picture is taken back to glyph coordinates, -1 to 1 over the 8 x 8 cells.
    largest = min(width, height) / 2
    scale = largest * random.uniform(0.25, 1.0)
    stretch = np.exp(random.uniform(-0.15, 0.15))
    room_x, room_y = max(0.0, width / 2 - scale), max(0.0, height / 2 - scale)
    x0 = width / 2 + random.uniform(-1, 1) * room_x
    y0 = height / 2 + random.uniform(-1, 1) * room_y
    y, x = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")
    u, v = (x - x0) / scale * stretch, (y - y0) / scale
    turn = math.radians(random.uniform(-15, 15))
    u, v = u * math.cos(turn) + v * math.sin(turn), v * math.cos(turn) - u * math.sin(turn)
    u = u + random.uniform(-0.15, 0.15) * v
    tilt_u, tilt_v = random.uniform(-0.12, 0.12, 2)
    depth = 1 + tilt_u * np.clip(u, -2, 2) + tilt_v * np.clip(v, -2, 2)
    u, v = u / depth, v / depth
    bend, phase = random.uniform(-0.08, 0.08, 2), random.uniform(0, 2 * math.pi, 2)
    u, v = u + bend[0] * np.sin(2.5 * v + phase[0]), v + bend[1] * np.sin(2.5 * u + phase[1])
    # 8 of the glyph's 12 cells are the digit's.
    return _sampled(glyph, (u * 2 / 3 + 1) * _GLYPH / 2 - 0.5, (v * 2 / 3 + 1) * _GLYPH / 2 - 0.5)


def _sampled(glyph: Array, x: NDArray[np.float64], y: NDArray[np.float64]) -> Array:
    """Bilinear samples of the glyph; 0 outside it."""
    inside = (x >= 0) & (x < _GLYPH - 1) & (y >= 0) & (y < _GLYPH - 1)
    x, y = np.clip(x, 0, _GLYPH - 1.001), np.clip(y, 0, _GLYPH - 1.001)
    column, row = x.astype(int), y.astype(int)
    right, down = (x - column).astype(np.float32), (y - row).astype(np.float32)
    top = glyph[row, column] * (1 - right) + glyph[row, column + 1] * right
    bottom = glyph[row + 1, column] * (1 - right) + glyph[row + 1, column + 1] * right
    return np.where(inside, top * (1 - down) + bottom * down, 0).astype(np.float32)


def _colours(random: np.random.Generator, dark_on_light: bool) -> tuple[Array, Array]:
    """Paper and pen, RGB from 0 to 1, at least 0.3 apart in brightness."""
    while True:
        grey = random.random() < 0.4
        pair = random.uniform(0, 1, (2, 1 if grey else 3)).astype(np.float32) * np.ones(3, np.float32)
        paper, pen = pair
        if (paper.mean() - pen.mean()) * (1 if dark_on_light else -1) > 0.3:
            return paper, pen


def _light(width: int, height: int, random: np.random.Generator) -> Array:
    """Brightness over the picture, at most 1: a lamp to one side, darker corners."""
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    side = random.uniform(0, 2 * math.pi)
    lamp = random.uniform(0, 0.25) * (x * math.cos(side) + y * math.sin(side))
    corners = random.uniform(0, 0.15) * (x * x + y * y)
    light = 1 + lamp - corners
    return (light / light.max()).astype(np.float32)


def _specks(picture: Array, random: np.random.Generator) -> Array:
    """A few spots of dust, each far smaller than a stroke."""
    height, width, _ = picture.shape
    for _ in range(int(random.choice([0, 0, 1, 3]))):
        radius = max(1, int(0.008 * min(width, height)))
        x, y = int(random.integers(0, width)), int(random.integers(0, height))
        spot = picture[max(0, y - radius) : y + radius, max(0, x - radius) : x + radius]
        spot *= random.uniform(0.5, 1)
    return picture

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageDraw, ImageOps

from services.vision.tasks.ink import DRAWN, SIDE, Array, NothingDrawn, normalised_ink


def ring(size: tuple[int, int], box: tuple[int, int, int, int], pen: str, paper: str) -> Image.Image:
    image = Image.new("RGB", size, paper)
    ImageDraw.Draw(image).ellipse(box, outline=pen, width=max(2, (box[2] - box[0]) // 6))
    return image


def alike(one: Array, other: Array) -> bool:
    return float(np.abs(one - other).mean()) < 0.03


PLAIN = ring((100, 100), (30, 20, 70, 80), "black", "white")


def test_the_drawing_is_centred_and_of_one_size() -> None:
    ink = normalised_ink(PLAIN)
    assert (ink.shape, ink.dtype) == ((SIDE, SIDE), np.float32)
    rows = np.flatnonzero((ink > 0.5).any(1))
    assert abs(len(rows) - DRAWN) <= 2
    assert abs(rows.mean() - (SIDE - 1) / 2) <= 1
    assert ink[SIDE // 2, SIDE // 2] < 0.1 < 0.9 < ink.max() <= 1


def test_polarity_makes_no_difference() -> None:
    assert alike(normalised_ink(PLAIN), normalised_ink(ImageOps.invert(PLAIN)))


@pytest.mark.parametrize("side", [60, 300, 1000])
def test_size_makes_no_difference(side: int) -> None:
    assert alike(normalised_ink(PLAIN), normalised_ink(PLAIN.resize((side, side))))


def test_place_and_shape_of_the_picture_make_no_difference() -> None:
    corner = ring((900, 400), (810, 20, 850, 80), "black", "white")
    assert alike(normalised_ink(PLAIN), normalised_ink(corner))


def test_colours_of_one_brightness_are_told_apart() -> None:
    assert alike(
        normalised_ink(PLAIN), normalised_ink(ring((100, 100), (30, 20, 70, 80), "#ff0000", "#008200"))
    )


def test_light_from_one_side_is_taken_off() -> None:
    lit = np.asarray(PLAIN) * np.linspace(0.45, 1, 100)[None, :, None]
    assert alike(normalised_ink(PLAIN), normalised_ink(Image.fromarray(lit.astype(np.uint8))))


def test_specks_are_left_out() -> None:
    dusty = PLAIN.copy()
    for x, y in ((5, 5), (90, 12), (8, 95), (50, 50)):
        ImageDraw.Draw(dusty).point((x, y), fill="black")
    assert alike(normalised_ink(PLAIN), normalised_ink(dusty))


@pytest.mark.parametrize("shade", [0, 127, 255])
@pytest.mark.parametrize("size", [(1, 1), (50, 20), (1, 400)])
def test_an_even_surface_shows_nothing(shade: int, size: tuple[int, int]) -> None:
    with pytest.raises(NothingDrawn):
        normalised_ink(Image.new("RGB", size, (shade, shade, shade)))


@settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(
        np.uint8,
        st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3)),
        elements=st.integers(0, 255),
    )
)
def test_any_picture_gives_ink_in_range_or_nothing(pixels: np.ndarray) -> None:
    try:
        ink = normalised_ink(Image.fromarray(pixels))
    except NothingDrawn:
        return
    assert ink.shape == (SIDE, SIDE)
    assert ink.min() >= 0
    assert ink.max() <= 1

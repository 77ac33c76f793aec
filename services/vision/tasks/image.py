"""Decoding of images that strangers send.

Only PNG, JPEG, WebP and BMP are tried, the size is checked before a pixel is decoded, and whatever
is wrong with the bytes is an InvalidArgument that says what to send instead.

A JPEG is decoded at 1/2, 1/4 or 1/8 where that leaves at least `REDUCING_GAP` times the pixels, a
side, of what is asked for. Resampled from there, photographs differ from those decoded whole by less
than 1 of 255 levels in the mean, and by 5 at the 99th percentile.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable

import numpy as np

# Imported one by one: this registers them, so that Pillow does not import its other forty formats.
from PIL import (
    BmpImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)

from meshwork.errors import InvalidArgument

log = logging.getLogger(__name__)

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
MAX_PIXELS = 50_000_000
MAX_RESIZED_PIXELS = 8_000_000  # of what a network is given
REDUCING_GAP = 2.0

_BROKEN = "is broken or incomplete; check that the whole file was sent, or save it again as PNG"
_UNKNOWN = "is not an image in PNG, JPEG, WebP or BMP; convert it to one of these"

_ORIENTATION = 0x0112  # EXIF
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_QUARTER_TURNS = {_TURNS[orientation] for orientation in (5, 6, 7, 8)}

# The bound is `_check_size`'s, an error below it too; Pillow's own would only warn up to twice its limit.
Image.MAX_IMAGE_PIXELS = None
# What Pillow would say about a stranger's file is no news of this process.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def decode(content: bytes, *, field: str, longest_px: int = MAX_PIXELS) -> Image.Image:
    """The image as RGB, upright, its first frame if it has several, on a ground of one colour.

    Args:
        content: the encoded file.
        field: path of the request's field, for errors.
        longest_px: the longer side that the caller needs; a larger image is made this small. As it is
            by default.

    Raises:
        InvalidArgument: the bytes are no image of a known format, are broken, or decode to too much.
    """
    image = _opened(content, field)
    try:
        image.draft("RGB", (longest_px, longest_px))
        image.load()
        return _small_rgb(_turned(image, _turn(image)), longest_px)
    except Exception as error:
        raise InvalidArgument(_BROKEN, field=field) from error


def decode_resized(
    content: bytes,
    *,
    field: str,
    size_for: Callable[[int, int], tuple[int, int]],
    resample: int = Image.Resampling.BILINEAR,
    exact: bool = False,
) -> tuple[Image.Image, tuple[int, int]]:
    """The image as `decode` gives it, resampled to the size that a network wants.

    Args:
        content: the encoded file.
        field: path of the request's field, for errors.
        size_for: width and height to make of an upright image's width and height.
        resample: one of `Image.Resampling`.
        exact: True never to decode a JPEG at reduced size.

    Returns:
        The image, and the width and height of the upright image before.

    Raises:
        InvalidArgument: as `decode`; or the image is so thin that `size_for` makes nothing, or more
            than `MAX_RESIZED_PIXELS`, of it.
    """
    image = _opened(content, field)
    try:
        if image.format != "JPEG":
            image.load()  # some formats hold the orientation behind the pixels
        turn = _turn(image)
        size = image.size[::-1] if turn in _QUARTER_TURNS else image.size
        target = size_for(*size)
        _check_resized(size, target, field)
        # The same before it is turned.
        lying = target[::-1] if turn in _QUARTER_TURNS else target
        reduced = None
        if not exact:
            reduced = image.draft("RGB", (int(lying[0] * REDUCING_GAP), int(lying[1] * REDUCING_GAP)))
        image.load()
        if reduced is not None and max(reduced[1][2:]) < max(size):
            # The box leaves out what rounding up added at the right and the bottom.
            return _turned(_resized(image, lying, resample, reduced[1]), turn), size
        return _resized(_turned(image, turn), target, resample), size
    except InvalidArgument:
        raise
    except Exception as error:
        raise InvalidArgument(_BROKEN, field=field) from error


def _opened(content: bytes, field: str) -> Image.Image:
    """The image, its pixels not yet decoded."""
    _check_webp_canvas(content, field)
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except Exception as error:  # on hostile bytes Pillow's parsers raise nearly anything
        raise InvalidArgument(_BROKEN if _known(content) else _UNKNOWN, field=field) from error
    _check_size(*image.size, field)
    return image


def _known(content: bytes) -> bool:
    """True if the file begins as one of the formats does."""
    starts = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM")
    return content.startswith(starts) or (content[:4] == b"RIFF" and content[8:12] == b"WEBP")


def _check_size(width: int, height: int, field: str) -> None:
    if width * height > MAX_PIXELS:
        raise InvalidArgument(
            f"has {width} x {height} pixels; the limit is {MAX_PIXELS // 1_000_000} million, scale it down",
            field=field,
        )


def _check_resized(size: tuple[int, int], target: tuple[int, int], field: str) -> None:
    if min(target) < 1 or target[0] * target[1] > MAX_RESIZED_PIXELS:
        raise InvalidArgument(
            f"has {size[0]} x {size[1]} pixels, of which the model would make {target[0]} x {target[1]}; "
            "cut out a part that is nearer to a square",
            field=field,
        )


def _check_webp_canvas(content: bytes, field: str) -> None:
    """Checks the size of an extended WebP, whose whole canvas libwebp allocates on opening."""
    if content[:4] == b"RIFF" and content[8:16] == b"WEBPVP8X" and len(content) >= 30:
        width = int.from_bytes(content[24:27], "little") + 1
        height = int.from_bytes(content[27:30], "little") + 1
        _check_size(width, height, field)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What makes the image upright, as its EXIF says; None for nothing."""
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception as error:
        # Broken metadata does not make the picture unreadable.
        log.debug("EXIF not read: %r", error)
        return None


def _turned(image: Image.Image, turn: Image.Transpose | None) -> Image.Image:
    return image if turn is None else image.transpose(turn)


def _plain(image: Image.Image) -> Image.Image:
    """The image as L, RGB or RGBA, 8 bits a channel."""
    if image.mode.startswith("I"):  # 16 bits of grey; Pillow's convert would clip them
        grey = np.asarray(image).astype(np.int64)
        image = Image.fromarray((np.clip(grey, 0, 65535) >> 8).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        return image.convert("RGBA")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _rgb(image: Image.Image) -> Image.Image:
    return _flat(image) if image.mode == "RGBA" else image.convert("RGB")


def _resized(
    image: Image.Image,
    size: tuple[int, int],
    resample: int,
    box: tuple[float, float, float, float] | None = None,
) -> Image.Image:
    return _rgb(_plain(image).resize(size, resample, box))


def _small_rgb(image: Image.Image, longest_px: int) -> Image.Image:
    return _rgb(_small(_plain(image), longest_px))


def _small(image: Image.Image, longest_px: int) -> Image.Image:
    scale = longest_px / max(image.size)
    if scale >= 1:
        return image
    size = tuple(max(1, round(side * scale)) for side in image.size)
    return image.resize((size[0], size[1]), Image.Resampling.BOX, reducing_gap=2.0)


def _flat(image: Image.Image) -> Image.Image:
    """RGBA on white or black, whichever shows more of what is drawn on it."""
    pixels = np.asarray(image, np.float32)  # [h, w, 4]
    alpha = pixels[..., 3:] / 255
    drawn = float((pixels[..., :3].mean(-1, keepdims=True) * alpha).sum() / max(float(alpha.sum()), 1e-6))
    ground = 255.0 if drawn < 128 else 0.0
    return Image.fromarray((pixels[..., :3] * alpha + ground * (1 - alpha)).astype(np.uint8))

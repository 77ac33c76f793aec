"""Decoding of images that strangers send.

Only PNG, JPEG, WebP and BMP are tried, the size is checked before a pixel is decoded, and whatever
is wrong with the bytes is an InvalidArgument that says what to send instead.
"""

from __future__ import annotations

import io
import logging
import warnings

import numpy as np

# Imported one by one: this registers them, so that Pillow does not import its other forty formats.
from PIL import (
    BmpImagePlugin,  # noqa: F401
    Image,
    ImageOps,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)

from meshwork.errors import InvalidArgument

log = logging.getLogger(__name__)

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
MAX_PIXELS = 50_000_000

_BROKEN = "is broken or incomplete; check that the whole file was sent, or save it again as PNG"
_UNKNOWN = "is not an image in PNG, JPEG, WebP or BMP; convert it to one of these"

# The bound is `_check_size`'s, an error below it too; Pillow's own would only warn up to twice its limit.
Image.MAX_IMAGE_PIXELS = None
# What Pillow would say about a stranger's file is no news of this process.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def decode(content: bytes, *, field: str, longest_px: int) -> Image.Image:
    """The image as RGB, upright, its first frame if it has several, on a ground of one colour.

    Args:
        content: the encoded file.
        field: path of the request's field, for errors.
        longest_px: the longer side that the caller needs; a larger image is made this small.

    Raises:
        InvalidArgument: the bytes are no image of a known format, are broken, or decode to too much.
    """
    _check_webp_canvas(content, field)
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except Exception as error:  # on hostile bytes Pillow's parsers raise nearly anything
        raise InvalidArgument(_BROKEN if _known(content) else _UNKNOWN, field=field) from error
    _check_size(*image.size, field)
    try:
        image.draft("RGB", (longest_px, longest_px))  # lets JPEG decode at 1/2, 1/4 or 1/8
        image.load()
        return _small_rgb(_upright(image), longest_px)
    except Exception as error:
        raise InvalidArgument(_BROKEN, field=field) from error


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


def _check_webp_canvas(content: bytes, field: str) -> None:
    """Checks the size of an extended WebP, whose whole canvas libwebp allocates on opening."""
    if content[:4] == b"RIFF" and content[8:16] == b"WEBPVP8X" and len(content) >= 30:
        width = int.from_bytes(content[24:27], "little") + 1
        height = int.from_bytes(content[27:30], "little") + 1
        _check_size(width, height, field)


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:
        # Broken metadata does not make the picture unreadable.
        log.debug("EXIF not read: %r", error)
        return image


def _small_rgb(image: Image.Image, longest_px: int) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits of grey; Pillow's convert would clip them
        grey = np.asarray(image).astype(np.int64)
        image = Image.fromarray((np.clip(grey, 0, 65535) >> 8).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        return _flat(_small(image.convert("RGBA"), longest_px))
    return _small(image if image.mode in ("L", "RGB") else image.convert("RGB"), longest_px).convert("RGB")


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

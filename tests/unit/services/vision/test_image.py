import contextlib
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_image

from meshwork.errors import InvalidArgument
from services.vision.tasks.image import decode, decode_resized

PNG_START = b"\x89PNG\r\n\x1a\n"


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decoded(content: bytes, longest_px: int = 1024) -> Image.Image:
    return decode(content, field="image.content", longest_px=longest_px)


def refusal(content: bytes) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        decoded(content)
    assert caught.value.field == "image.content"
    return caught.value


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def webp_of_size(width: int, height: int) -> bytes:
    """An extended WebP that claims a canvas and holds no frame."""
    canvas = b"\x00" * 4 + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", len(canvas)) + canvas
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("JPEG", {"quality": 95}), ("WEBP", {"lossless": True}), ("BMP", {})]
)
def test_the_four_formats_decode(one: Image.Image, kind: str, options: dict[str, Any]) -> None:
    image = decoded(encoded(one, kind, **options))
    assert (image.mode, image.size) == ("RGB", one.size)
    assert np.abs(np.asarray(image).astype(int) - np.asarray(one)).mean() < 2


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PPM", "ICO", "PDF"])
def test_other_formats_are_refused_by_what_to_send(one: Image.Image, kind: str) -> None:
    assert "PNG, JPEG, WebP or BMP" in refusal(encoded(one, kind)).remedy


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_a_file_cut_short_is_refused_wherever_the_cut(one: Image.Image, kind: str) -> None:
    content = encoded(one, kind)
    for kept in (1, 2, 9, 20, len(content) // 3, len(content) // 2, len(content) * 9 // 10):
        refusal(content[:kept])


@pytest.mark.parametrize(
    "content",
    [
        b"\x00",
        b"\xff" * 100,
        b"<svg/>",
        "сім".encode(),
        b"BM",
        b"RIFF\x00\x00\x00\x00WEBP",
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_bytes_that_are_no_image_are_refused(content: bytes) -> None:
    refusal(content)


@pytest.mark.parametrize(
    "content",
    [png_of_size(20_000, 20_000), png_of_size(2**31 - 1, 2**31 - 1), webp_of_size(16_383, 16_383)],
    ids=["png", "largest png", "webp"],
)
def test_a_huge_image_is_refused_before_it_is_decoded(content: bytes) -> None:
    error = refusal(content)
    assert "50 million" in error.remedy
    assert "scale it down" in error.remedy


def test_an_image_at_the_limit_is_made_small(one: Image.Image) -> None:
    large = Image.new("1", (10_000, 5_000), 1)
    assert decoded(encoded(large, "PNG")).size == (1024, 512)


def test_a_jpeg_is_turned_as_its_exif_says(one: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter to the left
    image = decoded(encoded(one, "JPEG", exif=exif))
    assert image.size == (one.height, one.width)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF:UserWarning")  # as services.vision.tasks.image does
def test_broken_exif_is_overlooked(one: Image.Image) -> None:
    image = decoded(encoded(one, "JPEG", exif=b"Exif\x00\x00MM\x00*\x00\x00\xff\xff\x00\x00garbage"))
    assert image.size == one.size


def test_sixteen_bit_grey_keeps_its_shades() -> None:
    grey = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    image = np.asarray(decoded(encoded(Image.fromarray(grey), "PNG")))
    assert np.abs(image[..., 0].astype(int) - (grey >> 8)).max() <= 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_every_mode_becomes_rgb(one: Image.Image, mode: str) -> None:
    image = decoded(encoded(one.convert(mode), "JPEG" if mode == "CMYK" else "PNG"))
    assert image.mode == "RGB"
    middle, corner = image.getpixel((44, 60)), image.getpixel((2, 2))
    assert sum(middle) < 100 < 600 < sum(corner)  # type: ignore[arg-type]


@pytest.mark.parametrize(("pen", "ground"), [(0, 255), (255, 0)])
def test_what_is_drawn_on_nothing_is_seen(pen: int, ground: int) -> None:
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[10:30, 18:22] = (pen, pen, pen, 255)
    image = np.asarray(decoded(encoded(Image.fromarray(pixels), "PNG")))
    assert image[20, 20].tolist() == [pen] * 3
    assert image[2, 2].tolist() == [ground] * 3


def test_a_transparent_palette_is_seen_too(one: Image.Image) -> None:
    image = decoded(encoded(one.quantize(4), "PNG", transparency=0))
    assert len(set(np.asarray(image).reshape(-1, 3).sum(1).tolist())) > 1


def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "lime", "blue")]
    content = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert decoded(content).getpixel((5, 5)) == (255, 0, 0)


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1)])
def test_the_thinnest_images_decode(size: tuple[int, int]) -> None:
    image = decoded(encoded(Image.new("L", size, 7), "PNG"))
    assert min(image.size) == 1
    assert max(image.size) <= 1024


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=150, deadline=None)
@given(
    head=st.sampled_from(
        [b"", b"BM", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\x40\x00\x00\x00WEBPVP8X"]
    ),
    body=st.binary(max_size=200),
)
def test_random_bytes_are_refused_or_decoded_and_nothing_else(head: bytes, body: bytes) -> None:
    with contextlib.suppress(InvalidArgument):
        assert decoded(head + body).mode == "RGB"


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_decoded_and_nothing_else(one: Image.Image, data: st.DataObject) -> None:
    content = bytearray(encoded(one, data.draw(st.sampled_from(["PNG", "JPEG", "WEBP", "BMP"]))))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InvalidArgument):
        assert decoded(bytes(content)).mode == "RGB"


def halved(width: int, height: int) -> tuple[int, int]:
    return max(1, width // 2), max(1, height // 2)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_resized_image_is_upright_and_its_size_told(orientation: int) -> None:
    upright = Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    stored = upright if orientation == 1 else upright.transpose(turned_back(orientation))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image, size = decode_resized(encoded(stored, "PNG", exif=exif), field="image.content", size_for=halved)
    assert size == (60, 40)
    wanted = upright.resize((30, 20), Image.Resampling.BILINEAR)
    assert np.array_equal(np.asarray(image), np.asarray(wanted))


def turned_back(orientation: int) -> Image.Transpose:
    """What makes of an upright image the one that is stored under `orientation`."""
    turn = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    return Image.Transpose(turn)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
def test_a_large_jpeg_decoded_at_reduced_size_looks_the_same(name: str, orientation: int) -> None:
    photograph = Image.fromarray(load_sample_image(name)).crop((0, 0, 635, 421))  # no multiples of 8
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(photograph, "JPEG", quality=92, exif=exif)
    pictures = [
        np.asarray(
            decode_resized(
                content,
                field="image.content",
                size_for=lambda width, height: (width // 9, height // 9),
                exact=exact,
            )[0]
        ).astype(int)
        for exact in (True, False)
    ]
    apart = np.abs(pictures[0] - pictures[1])
    assert 0 < apart.mean() < 1  # of 255 levels; more than 0: it was decoded at reduced size
    assert np.quantile(apart, 0.99) <= 5


def test_a_small_jpeg_is_decoded_whole(one: Image.Image) -> None:
    content = encoded(one, "JPEG", quality=90)
    image, _ = decode_resized(content, field="image.content", size_for=halved)
    whole = Image.open(io.BytesIO(content)).resize(halved(*one.size), Image.Resampling.BILINEAR)
    assert np.array_equal(np.asarray(image), np.asarray(whole))


@pytest.mark.parametrize("size", [(0, 224), (3000, 3000)])
def test_what_would_be_nothing_or_too_much_is_refused(one: Image.Image, size: tuple[int, int]) -> None:
    with pytest.raises(InvalidArgument, match="nearer to a square"):
        decode_resized(encoded(one, "PNG"), field="image.content", size_for=lambda *_: size)

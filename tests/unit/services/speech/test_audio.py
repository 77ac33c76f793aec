"""Bytes become samples, or an error that names the field."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshwork.errors import InvalidArgument
from services.speech.tasks.audio import LONGEST_S, RATE_HZ, AudioInput, decode

TONE = (0.5 * np.sin(np.arange(RATE_HZ // 2) * 0.1)).astype(np.float32)
FILES = [
    ("WAV", "PCM_U8"),
    ("WAV", "PCM_16"),
    ("WAV", "PCM_24"),
    ("WAV", "PCM_32"),
    ("WAV", "FLOAT"),
    ("WAV", "DOUBLE"),
    ("WAV", "ULAW"),
    ("WAVEX", "PCM_16"),
    ("RF64", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("FLAC", "PCM_24"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
]


def raw(samples: np.ndarray) -> bytes:
    return (samples * 32767).astype("<i2").tobytes()


def wav_header(
    *, frames: int, rate: int = RATE_HZ, channels: int = 1, bits: int = 16, kind: int = 1
) -> bytes:
    size = frames * channels * bits // 8 & 0xFFFFFFFF
    block = channels * bits // 8
    return (
        b"RIFF" + struct.pack("<I", (size + 36) & 0xFFFFFFFF) + b"WAVEfmt "
        + struct.pack("<IHHIIHH", 16, kind, channels, rate, (rate * block) & 0xFFFFFFFF, block, bits)
        + b"data" + struct.pack("<I", size)
    )  # fmt: skip


@pytest.mark.parametrize(("kind", "subtype"), FILES)
def test_every_kind_of_file_gives_the_same_samples(encoded, kind, subtype):
    samples = decode(AudioInput(content=encoded(TONE, kind=kind, subtype=subtype)))
    assert abs(len(samples) - len(TONE)) <= RATE_HZ // 50
    assert np.abs(samples[1000:7000] - TONE[1000:7000]).max() < 0.1


def test_raw_samples_give_the_same_as_a_file(encoded):
    from_raw = decode(AudioInput(content=raw(TONE), raw=True, sample_rate_hz=RATE_HZ))
    assert np.abs(from_raw - decode(AudioInput(content=encoded(TONE)))).max() < 1e-4


def test_channels_are_mixed_down():
    both = np.stack([TONE, -TONE], axis=1)
    samples = decode(AudioInput(content=raw(both), raw=True, sample_rate_hz=RATE_HZ, channels=2))
    assert np.abs(samples).max() < 1e-3


@pytest.mark.parametrize("rate", [4_000, 8_000, 11_025, 44_100, 48_000, 192_000])
def test_any_rate_becomes_16_khz(encoded, rate):
    samples = decode(AudioInput(content=encoded(np.zeros(rate, np.float32), rate)))
    assert abs(len(samples) - RATE_HZ) <= 2


def test_samples_beyond_full_scale_are_clipped(encoded):
    samples = decode(AudioInput(content=encoded(TONE * 1e30, subtype="FLOAT")))
    assert np.abs(samples).max() <= 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\0", "WAV, FLAC or OGG"),
        (b"ID3\x04" + bytes(100), "WAV, FLAC or OGG"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "WAV, FLAC or OGG"),
        (b"FORM\0\0\0\0AIFF" + bytes(100), "WAV, FLAC or OGG"),
        (b"RIFF\0\0\0\0AVI " + bytes(100), "WAV, FLAC or OGG"),
        (b"RIFF\0\0\0\0WAVE", "damaged"),
        (b"RIFF\xff\xff\xff\xffWAVEfmt \xff\xff\xff\xff", "damaged"),
        (b"fLaC" + bytes(100), "damaged"),
        (b"OggS" + bytes(100), "damaged"),
        (wav_header(frames=0), "no samples"),
        (wav_header(frames=0x7FFFFFF0), "no samples"),
        (wav_header(frames=100, rate=3) + bytes(200), "samples a second"),
        (wav_header(frames=100, rate=0) + bytes(200), "."),
        (wav_header(frames=100, rate=2**31 - 1) + bytes(200), "samples a second"),
        (wav_header(frames=10, channels=9) + bytes(180), "channels"),
        (wav_header(frames=10, channels=0) + bytes(180), "."),
        (wav_header(frames=10, kind=0x7777) + bytes(20), "damaged"),
    ],
)
def test_what_is_no_recording_is_refused_by_field(content, says):
    with pytest.raises(InvalidArgument, match=says) as caught:
        decode(AudioInput(content=content, field="audio.uri"))
    assert caught.value.field == "audio.uri"


def test_a_header_that_promises_more_than_there_is_reads_what_is_there():
    samples = decode(AudioInput(content=wav_header(frames=2**31 - 1) + raw(TONE)))
    assert len(samples) == len(TONE)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_numbers_are_refused(encoded, value):
    spoiled = TONE.copy()
    spoiled[100] = value
    with pytest.raises(InvalidArgument, match="not numbers"):
        decode(AudioInput(content=encoded(spoiled, subtype="FLOAT")))


def test_eleven_minutes_are_refused_even_if_they_pack_small(encoded):
    minutes = encoded(np.zeros((4_000 * (LONGEST_S + 1), 8), np.float32), 4_000, "FLAC")
    with pytest.raises(InvalidArgument, match="10 minutes"):
        decode(AudioInput(content=minutes))


def test_raw_samples_must_be_whole_frames():
    with pytest.raises(InvalidArgument, match="whole frames of 4 bytes"):
        decode(AudioInput(content=bytes(6), raw=True, sample_rate_hz=8000, channels=2))


def refused_or_sound(content: bytes) -> None:
    """What any bytes may lead to: an error that names field and remedy, or samples within bounds."""
    problem = None
    try:
        samples = decode(AudioInput(content=content))
    except InvalidArgument as error:
        problem = error
    if problem:
        assert problem.field == "audio.content"
        assert problem.remedy
        return
    assert 0 < len(samples) <= LONGEST_S * RATE_HZ
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() <= 1


@settings(max_examples=150, deadline=None)
@given(
    which=st.sampled_from([("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_16"), ("OGG", "VORBIS")]),
    length=st.floats(0, 1),
    damage=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=8),
)
def test_damage_never_does_more_than_fail(encoded, which, length, damage):
    kind, subtype = which
    content = bytearray(encoded(TONE, kind=kind, subtype=subtype))
    del content[max(1, int(length * len(content))) :]
    for at, value in damage:
        content[at % len(content)] = value
    refused_or_sound(bytes(content))


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=1, max_size=400), st.sampled_from([b"", b"RIFF\0\0\0\0WAVE", b"fLaC", b"OggS\0\2"]))
def test_random_bytes_never_do_more_than_fail(body, magic):
    refused_or_sound(magic + body)

"""Recordings as bytes -> samples: WAV, FLAC and OGG files and raw PCM, mixed down, at 16 kHz.

Everything is read, mixed and resampled block by block, and stops at the longest allowed recording, so
that memory follows what is really there and never what a header claims.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from meshwork.errors import InvalidArgument

Samples = npt.NDArray[np.float32]

RATE_HZ = 16_000  # of what `decode` gives
LONGEST_S = 600
LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 4_000, 192_000
MOST_CHANNELS = 8
_BLOCK = 65_536  # frames
_KINDS = "a WAV, FLAC or OGG file"


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioInput:
    """A recording as the caller sent it."""

    content: bytes
    raw: bool = False  # signed 16-bit little-endian samples without a header
    sample_rate_hz: int = 0  # of raw samples
    channels: int = 1  # of raw samples, interleaved
    field: str = "audio.content"  # which field of the request held it
    language: str = ""  # BCP-47, that is spoken; "" if the caller does not say


def decode(audio: AudioInput) -> Samples:
    """The recording as one channel at 16 kHz, [n_samples], within -1 and 1.

    Raises:
        InvalidArgument: it is no such recording, is empty, damaged, or longer than 10 minutes.
    """
    if audio.raw:
        rate = checked("audio.sample_rate_hertz", audio.sample_rate_hz, LOWEST_RATE_HZ, HIGHEST_RATE_HZ)
        channels = checked("audio.channel_count", audio.channels, 1, MOST_CHANNELS)
        return _gather(_pcm_blocks(audio, channels), rate, audio.field)
    try:
        with _open(audio) as file:
            rate = checked(audio.field, file.samplerate, LOWEST_RATE_HZ, HIGHEST_RATE_HZ, " samples a second")
            checked(audio.field, file.channels, 1, MOST_CHANNELS, " channels")
            return _gather(_file_blocks(file, audio.field), rate, audio.field)
    except soundfile.SoundFileError as error:
        raise InvalidArgument(f"is damaged or not {_KINDS}: {error}", field=audio.field) from error


def checked(field: str, value: int, low: int, high: int, what: str = "") -> int:
    """`value` if it is from `low` to `high`; `what` is the value's unit, for the message.

    Raises:
        InvalidArgument: it is not.
    """
    if not low <= value <= high:
        raise InvalidArgument(f"should be from {low} to {high}{what}, not {value}", field=field)
    return value


def _open(audio: AudioInput) -> soundfile.SoundFile:
    content = audio.content
    # libsndfile would try its many other formats too: only these three are asked for and tested.
    wav = content[:4] in (b"RIFF", b"RIFX", b"RF64") and content[8:12] == b"WAVE"
    if not (wav or content[:4] in (b"fLaC", b"OggS")):
        raise InvalidArgument(
            f"should be {_KINDS}; for raw 16-bit samples set audio.encoding to LINEAR16 "
            "and audio.sample_rate_hertz",
            field=audio.field,
        )
    return soundfile.SoundFile(io.BytesIO(content))


def _file_blocks(file: soundfile.SoundFile, field: str) -> Iterator[Samples]:
    while True:
        block = file.read(_BLOCK, dtype="float32", always_2d=True)  # [frames, channels]
        if not len(block):
            return
        if not np.isfinite(block).all():
            raise InvalidArgument("holds samples that are not numbers (NaN or infinite)", field=field)
        yield np.clip(block, -1, 1).mean(axis=1, dtype=np.float32)  # [frames]


def _pcm_blocks(audio: AudioInput, channels: int) -> Iterator[Samples]:
    frame_bytes = 2 * channels
    if len(audio.content) % frame_bytes:
        raise InvalidArgument(
            f"should hold whole frames of {frame_bytes} bytes ({channels} channels of 16 bits), "
            f"and has {len(audio.content)} bytes",
            field=audio.field,
        )
    step = _BLOCK * frame_bytes
    for start in range(0, len(audio.content), step):
        block = np.frombuffer(audio.content[start : start + step], "<i2").reshape(-1, channels)
        yield block.mean(axis=1, dtype=np.float32) / np.float32(32768)


def _gather(blocks: Iterator[Samples], rate: int, field: str) -> Samples:
    resampler = soxr.ResampleStream(rate, RATE_HZ, 1, dtype="float32") if rate != RATE_HZ else None
    frames = 0
    gathered: list[Samples] = []
    for block in blocks:
        frames += len(block)
        if frames > LONGEST_S * rate:
            raise InvalidArgument(
                f"should be at most {LONGEST_S // 60} minutes long; cut it into shorter recordings",
                field=field,
            )
        gathered.append(resampler.resample_chunk(block) if resampler else block)
    if not frames:
        raise InvalidArgument("holds no samples", field=field)
    if resampler:
        gathered.append(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    return np.clip(np.concatenate(gathered), -1, 1)

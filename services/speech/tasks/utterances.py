"""Cuts a recording at its silences into utterances short enough to decode one by one.

Frames of 30 ms are voiced or not (WebRTC's detector, as pocketsphinx carries it). Voiced runs that lie
closer than `_JOIN_S` are one; what is left is widened by `_MARGIN_S`, gathered into utterances of at most
`LONGEST_S`, and cut at the quietest frame of its second half if it is longer by itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pocketsphinx import Vad

from services.speech.tasks.audio import RATE_HZ

LONGEST_S = 12.0
FRAME_S = 0.03
_JOIN_S = 0.3
_SHORTEST_S = 0.06
_MARGIN_S = 0.25
_APART_S = 1.0  # silence after which a new utterance begins

Span = tuple[int, int]  # [from, to)


def utterances(pcm: npt.NDArray[np.int16]) -> list[Span]:
    """Where something is said in `pcm` [n_samples at 16 kHz], as spans of samples in order."""
    size = int(FRAME_S * RATE_HZ)
    frames = pcm[: len(pcm) // size * size].reshape(-1, size)  # [n_frames, size]
    detector = Vad(mode=Vad.LOOSE, sample_rate=RATE_HZ, frame_length=FRAME_S)
    voiced = [detector.is_speech(frame.tobytes()) for frame in frames]
    level = np.abs(frames.astype(np.float32)).mean(axis=1)  # [n_frames]
    return [(start * size, min(end * size, len(pcm))) for start, end in cut(voiced, level)]


def cut(voiced: Sequence[bool], level: Sequence[float] | npt.NDArray[np.float32]) -> list[Span]:
    """Utterances as spans of frames.

    Args:
        voiced: [n_frames] whether something is said in each.
        level: [n_frames] how loud each is, in any unit.
    """
    longest, apart = _frames(LONGEST_S), _frames(_APART_S)
    found: list[Span] = []
    for start, end in _runs(voiced):
        if found and start - found[-1][1] < apart and end - found[-1][0] <= longest:
            found[-1] = (found[-1][0], end)
            continue
        while end - start > longest:
            half = start + longest // 2
            at = half + int(np.argmin(level[half : start + longest]))
            found.append((start, at))
            start = at
        found.append((start, end))
    return found


def _runs(voiced: Sequence[bool]) -> list[Span]:
    """Voiced runs, joined over short gaps, without mere clicks, widened; in order, not overlapping."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], np.asarray(voiced, np.int8), [0]))))
    runs: list[Span] = []
    for start, end in edges.reshape(-1, 2).tolist():
        if runs and start - runs[-1][1] < _frames(_JOIN_S):
            runs[-1] = (runs[-1][0], end)
        else:
            runs.append((start, end))
    margin = _frames(_MARGIN_S)
    widened: list[Span] = []
    for start, end in runs:
        if end - start < _frames(_SHORTEST_S):
            continue
        after = widened[-1][1] if widened else 0
        widened.append((max(start - margin, after), min(end + margin, len(voiced))))
    return widened


def _frames(seconds: float) -> int:
    return round(seconds / FRAME_S)

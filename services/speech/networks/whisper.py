"""Whisper's way through a recording (Radford et al., 2022, section 3.8), window by window.

A window of 30 seconds is encoded once; from it come the language, the text and, in a second pass over the
finished text, how sure the network is of each token and where its alignment heads looked. A recording
longer than a window is written with times, and its next window begins at the last of them. Every step
takes a window of each recording that is not finished, whoever sent it.

The tokens are those of `WhisperForConditionalGeneration.generate` for the recording alone, without its
fallback to higher temperatures.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import GenerationMixin, LogitsProcessorList, WhisperTimeStampLogitsProcessor
from transformers.modeling_outputs import BaseModelOutput

from meshwork.serving.card import CardError
from meshwork.serving.token_scores import token_log_probabilities
from services.speech.networks.attention import Attention

TOKEN_S = 0.02  # seconds that a timestamp token counts, and a step of the encoder
FRAME_S = 0.01  # seconds of a frame of features
STRIDE = 2  # frames of features in a step of the encoder
MOST_WINDOWS = 8  # in one pass of the network

Features = npt.NDArray[np.float32]  # [mels, frames]


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """What is to be heard."""

    features: Features
    language: str | None = None  # that is spoken, as Whisper's code (`en`); None to find out


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A stretch of a window's tokens that the network set between two times."""

    tokens: tuple[int, int]  # [from, to) of the window's tokens
    start_s: float  # from the beginning of the recording
    end_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """What was heard in one window."""

    first_frame: int  # of the recording's features
    language: str  # as Whisper's code, "" if the model knows of none
    tokens: tuple[int, ...]  # that the network wrote, without the end
    log_probabilities: tuple[float, ...]  # of each token
    ended: bool  # the network ended the text by itself
    attention: npt.NDArray[np.float32] | None  # [heads, tokens, steps] if the model has alignment heads
    segments: tuple[Segment, ...]  # what counts of the tokens, in order


class Listener:
    """A Whisper model.

    Args:
        model: a WhisperForConditionalGeneration.
        task: `transcribe`, or `translate` into English; "" for the model's own.

    Raises:
        CardError: the model has no such task.
    """

    def __init__(self, model: Any, *, task: str = "") -> None:
        self._model = model
        self._config = config = copy.deepcopy(model.generation_config)
        by_token: dict[str, int] = getattr(config, "lang_to_id", None) or {}
        self.languages = {token.strip("<|>"): number for token, number in by_token.items()}
        self._codes = {number: code for code, number in self.languages.items()}
        self._tasks: dict[str, int] = getattr(config, "task_to_id", None) or {}
        task = task or getattr(config, "task", None) or ""
        if task and task not in self._tasks:
            known = ", ".join(sorted(self._tasks)) or "none: it writes English only"
            raise CardError(f"parameters: task: should be one of {known}, not {task!r}")
        self._task = self._tasks[task] if task else None
        self._no_times: int | None = getattr(config, "no_timestamps_token_id", None)
        forced = getattr(config, "forced_decoder_ids", None)
        forced = forced or getattr(model.config, "forced_decoder_ids", None) or []
        self._forced: list[int | None] = [token for _, token in forced]
        config.forced_decoder_ids = None
        self.alignment_heads: list[tuple[int, int]] = [
            (int(layer), int(head)) for layer, head in getattr(config, "alignment_heads", None) or []
        ]
        self.window_frames = STRIDE * int(model.config.max_source_positions)

    @property
    def writes_times(self) -> bool:
        """Whether it can: without times it hears no more than one window."""
        return self._no_times is not None

    @property
    def first_time(self) -> int:
        """The token of 0.00 seconds; those above it are later times."""
        return (int(self._model.config.vocab_size) if self._no_times is None else self._no_times) + 1

    @torch.inference_mode()
    def hear(self, recordings: Sequence[Recording]) -> list[list[Window]]:
        """The windows of each recording.

        Args:
            recordings: all longer than a window or none; with a language all or none.
        """
        frames = [recording.features.shape[1] for recording in recordings]
        times = max(frames) > self.window_frames
        heard: list[list[Window]] = [[] for _ in recordings]
        seeks = [0] * len(recordings)
        limit = self._config.max_length
        while waiting := [i for i in range(len(recordings)) if seeks[i] < frames[i]]:
            for start in range(0, len(waiting), MOST_WINDOWS):
                rows = waiting[start : start + MOST_WINDOWS]
                encoded = self._encode([recordings[i].features[:, seeks[i] :] for i in rows])
                given = [recordings[i].language for i in rows]
                known = [heard[i][0].language if heard[i] else None for i in rows]
                languages = self._languages(encoded, given, known)
                prompts = [
                    self._prompt(language, times, asked=code is not None)
                    for language, code in zip(languages, given, strict=True)
                ]
                if start == 0 and limit is not None:  # as `generate` does at each of its windows
                    limit = min(limit + len(prompts[0]), self._model.config.max_target_positions)
                written = self._write(encoded, prompts, limit, times)
                for i, language, (tokens, ended, scores, attention) in zip(
                    rows, languages, written, strict=True
                ):
                    left = min(frames[i] - seeks[i], self.window_frames)
                    segments, step = self._segments(tokens, seeks[i], left, times)
                    heard[i].append(
                        Window(
                            first_frame=seeks[i],
                            language=self._codes.get(language or -1, ""),
                            tokens=tuple(tokens),
                            log_probabilities=tuple(scores),
                            ended=ended,
                            attention=attention,
                            segments=tuple(segments),
                        )
                    )
                    seeks[i] += step
        return heard

    def _encode(self, windows: Sequence[Features]) -> Tensor:
        size, model = self.window_frames, self._model
        rows = [window[:, :size] for window in windows]
        padded = np.stack([np.pad(row, ((0, 0), (0, size - row.shape[1]))) for row in rows])
        features = torch.from_numpy(padded).to(model.device, model.dtype)  # [n, mels, frames]
        encoded: Tensor = model.get_encoder()(features).last_hidden_state  # [n, steps, width]
        return encoded

    def _languages(
        self, encoded: Tensor, given: Sequence[str | None], known: Sequence[str | None]
    ) -> list[int | None]:
        """The language token of each row: given, known from its first window, or found now."""
        if given[0] is not None:
            return [self.languages[code] for code in given if code is not None]
        if known[0] is not None:
            return [self.languages.get(code or "") for code in known]
        unset = not self._forced or self._forced[0] is None or self._task is not None
        if not self.languages or not unset:
            return [None] * len(encoded)
        outputs = BaseModelOutput(last_hidden_state=encoded)
        found = self._model.detect_language(encoder_outputs=outputs, generation_config=self._config)
        return [int(token) for token in found]

    def _prompt(self, language: int | None, times: bool, *, asked: bool) -> list[int]:
        """What the decoder is given: start, language, task, and that it is to write no times."""
        tokens: list[int | None] = [self._config.decoder_start_token_id]
        if self._task is None and not asked:
            tokens += self._forced
        if language is not None:
            tokens[1:2] = [language]
        if self._task is not None:
            tokens.append(self._task)
        elif asked and self._tasks:
            tokens.append(self._tasks["transcribe"])
        if self._no_times is not None:
            tokens = [token for token in tokens if token != self._no_times]
            tokens += [] if times else [self._no_times]
        return [token for token in tokens if token is not None]

    def _write(
        self, encoded: Tensor, prompts: Sequence[Sequence[int]], limit: int | None, times: bool
    ) -> list[tuple[list[int], bool, list[float], npt.NDArray[np.float32] | None]]:
        """For each window its tokens, whether they end, their log probabilities, and the attention."""
        config = copy.copy(self._config)
        config.max_length = limit
        given = len(prompts[0])
        processors = LogitsProcessorList()
        if times:
            processors.append(WhisperTimeStampLogitsProcessor(config, begin_index=given))
        sequences: Any = GenerationMixin.generate(
            self._model,
            encoder_outputs=BaseModelOutput(last_hidden_state=encoded),
            attention_mask=encoded.new_ones(encoded.shape[:2], dtype=torch.long),
            decoder_input_ids=torch.tensor(prompts, device=encoded.device),
            generation_config=config,
            logits_processor=processors,
        )  # [n, n_tokens]
        with Attention(self._model, self.alignment_heads) as attention:
            scores = token_log_probabilities(self._model, sequences, encoded)  # [n, n_tokens - 1]
        maps = attention.maps() if self.alignment_heads else None  # [n, heads, n_tokens - 1, steps]
        found = []
        for row, sequence in enumerate(sequences[:, given:].tolist()):
            end = sequence.index(config.eos_token_id) if config.eos_token_id in sequence else len(sequence)
            log_probabilities = scores[row, given - 1 : given - 1 + end].tolist()
            looked = None if maps is None else maps[row, :, given : given + end]
            found.append((sequence[:end], end < len(sequence), log_probabilities, looked))
        return found

    def _segments(
        self, tokens: Sequence[int], seek: int, frames: int, times: bool
    ) -> tuple[list[Segment], int]:
        """What counts of a window's tokens, and by how many frames to go on.

        Two times in a row close a segment and open the next. Text behind the last such pair was cut by the
        window's end and is heard again from there, unless a single time closes it.
        """
        begin, offset_s = self.first_time, seek * FRAME_S
        timed = [times and token >= begin for token in tokens]
        cuts = [i + 1 for i in range(len(tokens) - 1) if timed[i] and timed[i + 1]]
        if not cuts:
            stamps = [token - begin for token in tokens if token >= begin]
            last = stamps[-1] if stamps and stamps[-1] > 0 else int(frames * FRAME_S / TOKEN_S)
            whole = Segment(tokens=(0, len(tokens)), start_s=offset_s, end_s=offset_s + last * TOKEN_S)
            return [whole], frames
        closed = timed[-2:] == [False, True]
        ends = [*cuts, len(tokens)] if closed else cuts
        segments = [
            Segment(
                tokens=(first, to),
                start_s=offset_s + (tokens[first] - begin) * TOKEN_S,
                end_s=offset_s + (tokens[to - 1] - begin) * TOKEN_S,
            )
            for first, to in zip([0, *ends], ends, strict=False)
        ]
        step = frames if closed else (tokens[cuts[-1] - 1] - begin) * STRIDE
        return segments, step if step > 0 else frames  # a pair at 0.00 would never end

"""Whisper: recognition, and translation into English, from a Hugging Face directory.

The card's `parameters`:

    language: en         # what is spoken, when a call does not say; found out where neither does
    task: translate      # or transcribe; the model's own where it is not set

Words have times if the model has alignment heads (generation_config.json), else those of their segment in
recordings longer than 30 seconds, else none.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch

from meshwork.errors import InvalidArgument
from meshwork.serving.card import CardError, ModelDirectory
from meshwork.serving.pretrained import load_pretrained, load_processor
from meshwork.serving.token_scores import certainty
from services.speech.alignment import token_steps
from services.speech.networks.whisper import FRAME_S, TOKEN_S, Listener, Recording, Window
from services.speech.tasks.audio import RATE_HZ, AudioInput, decode
from services.speech.tasks.language_tags import short_tag
from services.speech.tasks.recognize import Recognizer, Transcript, Word
from services.speech.words import grouped


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A recording as the network takes it."""

    recording: Recording
    windows: int  # at least, of 30 seconds
    duration_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Timed:
    """A token of the transcript."""

    token: int
    log_probability: float
    start_s: float | None
    end_s: float | None


class Whisper(Recognizer[Prepared, list[Window]]):
    """A WhisperForConditionalGeneration and its processor."""

    methods: ClassVar[tuple[str, ...]] = ("Recognize",)
    longest_batch_s: ClassVar[float] = 5.0  # a window takes a good part of a second on a CPU

    def __init__(self, model: Any, processor: Any, *, language: str = "", task: str = "") -> None:
        self._model = model
        self._extractor = processor.feature_extractor
        self._tokenizer = processor.tokenizer
        self._listener = Listener(model, task=task)
        self._median_width = int(model.config.median_filter_width)
        self._special = frozenset(self._tokenizer.all_special_ids)
        self._language = self._code("parameters: language", language) if language else None

    @classmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        """Reads the weights onto `device`, the features' settings and the tokens."""
        model: Any = load_pretrained("AutoModelForSpeechSeq2Seq", directory, device)
        processor = load_processor("AutoProcessor", directory)
        if getattr(model.config, "model_type", "") != "whisper":
            raise CardError(f"{directory.source}: config.json: is no Whisper but {model.config.model_type!r}")
        extractor = processor.feature_extractor
        made = (extractor.feature_size, extractor.nb_max_frames, extractor.sampling_rate)
        taken = (model.config.num_mel_bins, 2 * model.config.max_source_positions, RATE_HZ)
        if made != taken:
            raise CardError(
                f"{directory.source}: preprocessor_config.json makes (mels, frames, Hz) {made}, "
                f"and config.json takes {taken}"
            )
        settings = {name: str(directory.card.parameters.get(name, "")) for name in ("language", "task")}
        try:
            return cls(model, processor, **settings)
        except (CardError, InvalidArgument) as error:
            raise CardError(f"{directory.source}: {error}") from error

    def warm_up(self) -> None:
        """Hears a second of silence."""
        self.forward([self._prepare(np.zeros(RATE_HZ, np.float32), None)])

    def preprocess(self, request: AudioInput) -> Prepared:
        """Decodes the recording and makes its log-mel spectrogram, as WhisperFeatureExtractor does."""
        language = self._language
        if request.language:
            language = self._code("language_code", request.language)
        return self._prepare(decode(request), language, request.field)

    def _prepare(self, samples: Any, language: str | None, field: str = "audio") -> Prepared:
        whole = len(samples) > self._extractor.n_samples
        if whole and not self._listener.writes_times:
            raise InvalidArgument(
                f"should be at most {self._extractor.chunk_length} seconds for this model, which writes no "
                "times; cut it into shorter recordings",
                field=field,
            )
        padding = {"padding": "longest", "truncation": False} if whole else {}
        made = self._extractor(samples, sampling_rate=RATE_HZ, return_tensors="np", **padding)
        features = made["input_features"][0]  # [mels, frames]
        return Prepared(
            recording=Recording(features=features, language=language),
            windows=math.ceil(features.shape[1] / self._listener.window_frames),
            duration_s=len(samples) / RATE_HZ,
        )

    def _code(self, field: str, language: str) -> str | None:
        """Whisper's code of a language: `en` for `en-GB`, `eng`, `english`; None if it knows no other."""
        from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

        known = self._listener.languages
        lower = language.lower()
        codes = (lower, TO_LANGUAGE_CODE.get(lower, ""), short_tag(lower.partition("-")[0]))
        if not known and "en" in codes:
            return None
        for code in codes:
            if code in known:
                return code
        listed = ", ".join(sorted(known)) or "en"
        raise InvalidArgument(
            f"{language[:40]!r} is no language of this model; it has: {listed}", field=field
        )

    def cost(self, prepared: Prepared) -> float:
        """Seconds of audio in whole windows: a short recording takes the network as long as a window."""
        return float(prepared.windows * self._extractor.chunk_length)

    def group(self, prepared: Prepared) -> Hashable:
        """Recordings of one window do not wait for longer ones, which are written with times."""
        return prepared.windows > 1, prepared.recording.language is not None

    def forward(self, batch: Sequence[Prepared]) -> list[list[Window]]:
        """Hears all recordings, a window of each at a time."""
        return self._listener.hear([prepared.recording for prepared in batch])

    def postprocess(self, prepared: Prepared, raw: list[Window]) -> Transcript:
        """Joins the windows' tokens, and gathers them to words."""
        timed = [each for window in raw for each in self._timed(window, prepared)]
        words = []
        for text, first, to in grouped(self._tokenizer, [each.token for each in timed]):
            start_s, end_s = timed[first].start_s, timed[to - 1].end_s
            words.append(
                Word(
                    word=text,
                    start_s=start_s,
                    end_s=end_s,
                    confidence=certainty([each.log_probability for each in timed[first:to]]),
                )
            )
        return Transcript(
            text=self._tokenizer.decode([each.token for each in timed], skip_special_tokens=True).strip(),
            confidence=certainty([each.log_probability for each in timed]),
            words=tuple(words),
            duration_s=prepared.duration_s,
            language=raw[0].language,
        )

    def _timed(self, window: Window, prepared: Prepared) -> Iterator[Timed]:
        """The window's tokens that are text and count, with their times as far as they are known."""
        ends = self._token_ends(window, prepared.duration_s)
        for segment in window.segments:
            for index in range(*segment.tokens):
                token = window.tokens[index]
                if token in self._special or token >= self._listener.first_time:
                    continue
                span: tuple[float | None, float | None] = (None, None)
                if ends:
                    span = (ends[index - 1] if index else window.first_frame * FRAME_S, ends[index])
                elif prepared.windows > 1:
                    span = (segment.start_s, segment.end_s)
                start_s, end_s = (None if at is None else min(at, prepared.duration_s) for at in span)
                yield Timed(
                    token=token,
                    log_probability=window.log_probabilities[index],
                    start_s=start_s,
                    end_s=end_s,
                )

    def _token_ends(self, window: Window, duration_s: float) -> list[float]:
        """When each token of the window ends, in seconds; empty if that can't be known."""
        if window.attention is None:
            return []
        # The decoder looks from a token to what comes next: the last one has nothing to look for.
        read = len(window.tokens) - (0 if window.ended else 1)
        begin_s = window.first_frame * FRAME_S
        steps = math.ceil((duration_s - begin_s) / FRAME_S) // 2
        attention = window.attention[:, :read, :steps]
        if 0 in attention.shape:
            return [begin_s] * len(window.tokens)
        found = [begin_s + int(step) * TOKEN_S for step in token_steps(attention, self._median_width)]
        return found + found[-1:] * (len(window.tokens) - read)

    def memory_bytes(self) -> int:
        """Bytes of the weights."""
        tensors: list[torch.Tensor] = [*self._model.parameters(), *self._model.buffers()]
        return sum(tensor.nbytes for tensor in tensors)

"""Recognition by connectionist temporal classification: Wav2Vec2, HuBERT, WavLM and their kin.

A network that was trained with an attention mask takes recordings of several lengths at once, padded; one
that normalises over the whole recording (`feat_extract_norm: group`) must see no padding, so that only
recordings of one length share a pass. Longer recordings are heard in chunks that overlap, of which the
middle counts, as transformers' pipeline does with `chunk_length_s`.

The card's `parameters`:

    language: en         # BCP-47, that it hears
    chunk_s: 30          # seconds of a chunk
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from meshwork.errors import InvalidArgument
from meshwork.serving.card import CardError, ModelDirectory
from meshwork.serving.engines.engine import Engine, TensorSpec
from meshwork.serving.engines.select import engine_for
from meshwork.serving.pretrained import load_pretrained, load_processor
from meshwork.serving.token_scores import certainty
from services.speech.tasks.audio import RATE_HZ, AudioInput, Samples, decode
from services.speech.tasks.recognize import Recognizer, Transcript, Word, check_language

PASS_S = 60.0  # seconds of audio, padding included, in one pass of the network
_PADDED = frozenset({"hubert", "unispeech-sat", "wav2vec2", "wavlm"})  # whose masks are exact


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """A part of a recording, and which of its frames count."""

    samples: Samples  # [n_samples], normalised
    frames: slice


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A recording, cut."""

    chunks: tuple[Chunk, ...]
    duration_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Path:
    """The likeliest token of each frame."""

    tokens: npt.NDArray[np.int64]  # [n_frames]
    log_probabilities: npt.NDArray[np.float32]  # [n_frames]


class Ctc(Recognizer[Prepared, Path]):
    """A network of AutoModelForCTC that takes samples, with its tokenizer; decoded greedily."""

    methods: ClassVar[tuple[str, ...]] = ("Recognize",)
    longest_batch_s: ClassVar[float] = 1.0

    def __init__(
        self,
        engine: Engine,
        config: Any,
        extractor: Any,
        tokenizer: Any,
        *,
        language: str = "",
        chunk_s: float = 30.0,
    ) -> None:
        self._engine = engine
        self._extractor = extractor
        self._tokenizer = tokenizer
        self._language = language
        self._layers = list(zip(config.conv_kernel, config.conv_stride, strict=True))
        self._frame_samples = int(np.prod(config.conv_stride))
        self._padded = (
            extractor.return_attention_mask
            and config.feat_extract_norm != "group"
            and config.model_type in _PADDED
        )
        self._chunk = max(1, round(chunk_s * RATE_HZ / self._frame_samples)) * self._frame_samples
        self._edge = round(chunk_s / 6 * RATE_HZ / self._frame_samples) * self._frame_samples

    @classmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        """Reads the weights onto `device`, the features' settings and the tokens."""
        model: Any = load_pretrained("AutoModelForCTC", directory, device, precision="float32")
        extractor = load_processor("AutoFeatureExtractor", directory)
        tokenizer = load_processor("AutoTokenizer", directory)
        if extractor.model_input_names[0] != "input_values" or not hasattr(model.config, "conv_stride"):
            raise CardError(
                f"{directory.source}: {model.config.model_type} takes no samples; no task serves it"
            )
        if extractor.sampling_rate != RATE_HZ:
            raise CardError(
                f"{directory.source}: takes {extractor.sampling_rate} samples a second, not {RATE_HZ}"
            )
        chunk_s = directory.card.parameters.get("chunk_s", 30)
        if not isinstance(chunk_s, int | float) or not 1 <= chunk_s <= 60:
            raise CardError(
                f"{directory.source}: parameters: chunk_s: should be from 1 to 60, not {chunk_s!r}"
            )
        language = str(directory.card.parameters.get("language", ""))
        names = ("input_values", "attention_mask") if extractor.return_attention_mask else ("input_values",)
        second = np.zeros((1, RATE_HZ), np.float32)
        example: dict[str, npt.NDArray[Any]] = {
            "input_values": second,
            "attention_mask": np.ones(second.shape, np.int64),
        }
        config = model.config
        engine = engine_for(
            model,
            directory=directory,
            device=device,
            inputs=tuple(TensorSpec(name, str(example[name].dtype), (None, None)) for name in names),
            outputs=(TensorSpec("logits", "float32", (None, None, int(config.vocab_size))),),
            example={name: example[name] for name in names},
        )
        return cls(engine, config, extractor, tokenizer, language=language, chunk_s=float(chunk_s))

    @property
    def tensors(self) -> Engine:
        """Samples [n, n_samples] to logits [n, n_frames, n_tokens]."""
        return self._engine

    def warm_up(self) -> None:
        """Hears a second of silence."""
        self.forward([self._cut(np.zeros(RATE_HZ, np.float32))])

    def preprocess(self, request: AudioInput) -> Prepared:
        """Decodes the recording and cuts it."""
        check_language(request, self._language)
        samples = decode(request)
        if self._frames(len(samples)) < 1:
            raise InvalidArgument("is too short to hear anything in", field=request.field)
        return self._cut(samples)

    def _cut(self, samples: Samples) -> Prepared:
        return Prepared(chunks=tuple(self._chunks(samples)), duration_s=len(samples) / RATE_HZ)

    def _chunks(self, samples: Samples) -> Iterator[Chunk]:
        for start in range(0, len(samples), self._chunk - 2 * self._edge):
            part = samples[start : start + self._chunk]
            last = start + self._chunk >= len(samples)
            first = self._edge // self._frame_samples if start else 0
            end = None if last else round(len(part) / self._frame_samples) - self._edge // self._frame_samples
            made = self._extractor(part, sampling_rate=RATE_HZ, return_tensors="np")["input_values"][0]
            if self._frames(len(part)) > first:
                yield Chunk(samples=np.asarray(made, np.float32), frames=slice(first, end))
            if last:
                return

    def _frames(self, samples: int) -> int:
        """How many frames the network makes of so many samples."""
        for kernel, stride in self._layers:
            samples = (samples - kernel) // stride + 1
        return samples

    def cost(self, prepared: Prepared) -> float:
        """Seconds of audio, those that chunks share counted twice."""
        return sum(len(chunk.samples) for chunk in prepared.chunks) / RATE_HZ

    def padded_length(self, prepared: Prepared) -> int:
        """Frames of the longest chunk, if the network takes padding."""
        return self._frames(len(prepared.chunks[0].samples)) if self._padded else 0

    def forward(self, batch: Sequence[Prepared]) -> list[Path]:
        """Hears all chunks, neighbours in length together."""
        chunks = [chunk for prepared in batch for chunk in prepared.chunks]
        heard: list[Path | None] = [None] * len(chunks)
        for rows in self._passes([len(chunk.samples) for chunk in chunks]):
            logits = self._logits([chunks[row].samples for row in rows])
            for row, scores in zip(rows, logits, strict=True):
                own = scores[: self._frames(len(chunks[row].samples))][chunks[row].frames]
                top = own.max(-1)  # [n_frames]
                total = np.log(np.exp(own - top[:, None]).sum(-1))
                heard[row] = Path(tokens=own.argmax(-1), log_probabilities=-total)
        parts = iter([each for each in heard if each is not None])
        return [_joined([next(parts) for _ in prepared.chunks]) for prepared in batch]

    def _passes(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Rows that go through the network together: of one length, or near where it is padded."""
        rows: list[int] = []
        for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
            full = (len(rows) + 1) * lengths[row] > PASS_S * RATE_HZ
            if rows and (full or (not self._padded and lengths[rows[0]] != lengths[row])):
                yield rows
                rows = []
            rows.append(row)
        yield rows

    def _logits(self, recordings: Sequence[Samples]) -> npt.NDArray[np.float32]:
        """[n, n_frames, n_tokens]."""
        longest = max(map(len, recordings))
        given = {"input_values": np.stack([np.pad(each, (0, longest - len(each))) for each in recordings])}
        if any(spec.name == "attention_mask" for spec in self._engine.inputs):
            steps = np.arange(longest)
            given["attention_mask"] = np.stack([steps < len(each) for each in recordings]).astype(np.int64)
        return self._engine.run(given)["logits"]

    def postprocess(self, prepared: Prepared, raw: Path) -> Transcript:
        """Collapses the path to text; a word is as sure as its frames are in the geometric mean."""
        decoded = self._tokenizer.decode(raw.tokens, output_word_offsets=True)
        frame_s = self._frame_samples / RATE_HZ
        words, spoken = [], []
        for found in decoded.word_offsets:
            frames = slice(int(found["start_offset"]), int(found["end_offset"]))
            scores = raw.log_probabilities[frames].tolist()
            spoken += scores
            words.append(
                Word(
                    word=found["word"].lower() if self._tokenizer.do_lower_case else found["word"],
                    start_s=min(frames.start * frame_s, prepared.duration_s),
                    end_s=min(frames.stop * frame_s, prepared.duration_s),
                    confidence=certainty(scores),
                )
            )
        return Transcript(
            text=decoded.text,
            confidence=certainty(spoken),
            words=tuple(words),
            duration_s=prepared.duration_s,
            language=self._language,
        )


def _joined(parts: Sequence[Path]) -> Path:
    return Path(
        tokens=np.concatenate([part.tokens for part in parts]),
        log_probabilities=np.concatenate([part.log_probabilities for part in parts]),
    )

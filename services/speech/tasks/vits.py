"""VITS: end-to-end synthesis from a Hugging Face directory, such as those of MMS-TTS.

The network draws noise for the rhythm and for the sound. Each text draws its own from the same seed, so
that the same text, voice and rate give the same samples whoever else speaks, and those of transformers'
VitsModel after `torch.manual_seed(seed)`.

Texts of a batch go through the network one by one: the vocoder, where nearly all the time goes, sounds its
padding into the end of whatever is shorter, so that only texts of one length could share it exactly.

The card's `parameters`:

    seed: 555
    language: en                    # BCP-47, where the tokenizer does not say
    voices: [anna, ben]             # names of the speakers in order; by number where not set
    noise_scale: 0.667              # 0 for a flat voice; also noise_scale_duration
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from meshwork.errors import InvalidArgument, MeshworkError
from meshwork.serving.card import CardError, ModelDirectory
from meshwork.serving.pretrained import load_pretrained, load_processor
from services.speech.tasks.language_tags import short_tag
from services.speech.tasks.synthesize import Speech, Synthesizer, TextInput, Voice
from services.speech.text_pieces import pieces

LONGEST_PIECE = 300  # characters that the network says in one breath; its attention is quadratic
LONGEST_S = 600


@dataclass(frozen=True, kw_only=True, slots=True)
class Lines:
    """A text as the network takes it."""

    pieces: tuple[tuple[int, ...], ...]  # token ids
    speaker: int | None
    voice: str
    speaking_rate: float


class Vits(Synthesizer[Lines, Speech]):
    """A VitsModel and its tokenizer."""

    methods: ClassVar[tuple[str, ...]] = ("Synthesize", "ListVoices")
    longest_batch_s: ClassVar[float] = 1.0

    def __init__(self, model: Any, tokenizer: Any, voices: Sequence[Voice], *, seed: int = 555) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._voices = tuple(voices)
        self._seed = seed
        self._speakers = {voice.name: number for number, voice in enumerate(voices)}

    @classmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        """Reads the weights onto `device` and the tokens."""
        model: Any = load_pretrained("AutoModelForTextToWaveform", directory, device)
        tokenizer = load_processor("AutoTokenizer", directory)
        if getattr(model.config, "model_type", "") != "vits":
            raise CardError(f"{directory.source}: config.json: is no VITS but {model.config.model_type!r}")
        if directory.card.precision != "float32":
            raise CardError(
                f"{directory.source}: precision: VITS works in float32 only; its splines overflow"
            )
        if getattr(tokenizer, "phonemize", False):
            raise CardError(
                f"{directory.source}: reads phonemes, which takes the package phonemizer; "
                "only models that read letters (MMS-TTS) are served"
            )
        settings = directory.card.parameters
        for name in ("noise_scale", "noise_scale_duration"):
            value = settings.get(name, getattr(model, name))
            if not isinstance(value, int | float) or not 0 <= value <= 2:
                raise CardError(
                    f"{directory.source}: parameters: {name}: should be from 0 to 2, not {value!r}"
                )
            setattr(model, name, float(value))
        seed = settings.get("seed", 555)
        if not isinstance(seed, int) or not 0 <= seed < 1 << 63:
            raise CardError(f"{directory.source}: parameters: seed: should be a whole number, not {seed!r}")
        language = str(settings.get("language", "")) or short_tag(tokenizer.language or "und")
        return cls(model, tokenizer, _voices(directory, model.config.num_speakers, language), seed=seed)

    @property
    def voices(self) -> Sequence[Voice]:
        """One for each speaker of the model."""
        return self._voices

    def warm_up(self) -> None:
        """Says all the letters that it knows, up to twenty."""
        letters = tuple(range(min(20, self._model.config.vocab_size)))
        self.forward([Lines(pieces=(letters,), speaker=None, voice="", speaking_rate=1.0)])

    def preprocess(self, request: TextInput) -> Lines:
        """Finds the voice and cuts the text into tokens."""
        voice = self._voices[0].name
        if request.voice:
            voice = next(
                (each.name for each in self._voices if each.name.lower() == request.voice.lower()), ""
            )
        if not voice:
            some = ", ".join(each.name for each in self._voices[:10])
            raise InvalidArgument(
                f"no voice {request.voice[:40]!r}; there are {len(self._voices)}: {some}", field="voice"
            )
        self._check_script(request.text)
        tokens = [tuple(self._tokenizer(part)["input_ids"]) for part in pieces(request.text, LONGEST_PIECE)]
        # A text without a letter that the model knows is its separators alone, or nothing.
        said = tuple(ids for ids in tokens if len(ids) > 1)
        if not said:
            raise InvalidArgument(f"holds nothing that voice {voice} can say", field="text")
        return Lines(
            pieces=said,
            speaker=self._speakers[voice] if len(self._voices) > 1 else None,
            voice=voice,
            speaking_rate=request.speaking_rate,
        )

    def _check_script(self, text: str) -> None:
        from transformers.utils.import_utils import is_uroman_available

        if self._tokenizer.is_uroman and not text.isascii() and not is_uroman_available():
            raise InvalidArgument(
                "this model reads Latin letters: write the text in them, or have the operator install uroman",
                field="text",
            )

    def cost(self, prepared: Lines) -> float:
        """Tokens, at the natural rate."""
        return sum(map(len, prepared.pieces)) / prepared.speaking_rate

    def forward(self, batch: Sequence[Lines]) -> list[Speech | MeshworkError]:
        """Says each text."""
        return [self._say(lines) for lines in batch]

    @torch.inference_mode()
    def _say(self, lines: Lines) -> Speech | MeshworkError:
        rate_hz = int(self._model.config.sampling_rate)
        device = self._model.device
        parts, samples = [], 0
        with SeededNoise(self._seed):
            for piece in lines.pieces:
                waveform = self._model(
                    input_ids=torch.tensor([piece], device=device),
                    attention_mask=torch.ones(1, len(piece), dtype=torch.long, device=device),
                    speaker_id=lines.speaker,
                    speaking_rate=self._model.speaking_rate * lines.speaking_rate,
                ).waveform[0]  # [n_samples]
                samples += len(waveform)
                if samples > LONGEST_S * rate_hz:
                    return InvalidArgument(
                        f"takes more than {LONGEST_S // 60} minutes to say; split it", field="text"
                    )
                parts.append(waveform.float().cpu().numpy())
        loud = np.clip(np.concatenate(parts), -1, 1)
        pcm = np.round(np.nan_to_num(loud) * 32767).astype("<i2").tobytes()
        return Speech(pcm=pcm, rate_hz=rate_hz, voice=lines.voice)

    def postprocess(self, prepared: Lines, raw: Speech) -> Speech:
        """As `forward` made it."""
        return raw

    def memory_bytes(self) -> int:
        """Bytes of the weights."""
        return sum(tensor.nbytes for tensor in [*self._model.parameters(), *self._model.buffers()])


class SeededNoise(TorchFunctionMode):
    """Within it, this thread's `torch.randn` and `randn_like` draw from a generator of their own.

    Seeding torch's own generator would reach every other thread that draws.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Gives the drawing functions the generator, and lets all others be."""
        kwargs = kwargs or {}
        if func is torch.randn_like:  # fills memory in the order of the tensor that it is like
            like = torch.empty_like(*args, **kwargs)
            return like.normal_(generator=self._of(like.device))
        if func is torch.randn:
            kwargs = {**kwargs, "generator": self._of(torch.device(kwargs.get("device") or "cpu"))}
        return func(*args, **kwargs)

    def _of(self, device: torch.device) -> torch.Generator:
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self._seed)
        return self._generators[device]


def _voices(directory: ModelDirectory, speakers: int, language: str) -> list[Voice]:
    """The model's voices by speaker number."""
    count = max(1, speakers)
    names = directory.card.parameters.get("voices", [directory.card.name] if count == 1 else range(count))
    names = [str(name) for name in names] if isinstance(names, list | range) else []
    if len(names) != count or len({name.lower() for name in names}) != count:
        raise CardError(f"{directory.source}: parameters: voices: should be {count} different names")
    return [Voice(name=name, language=language, display_name=name) for name in names]

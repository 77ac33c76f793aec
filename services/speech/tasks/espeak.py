"""eSpeak NG: formant synthesis in more than a hundred languages.

The library keeps its state in globals, so each text is spoken in a fork of a process that holds it
(`zygote`): the same text, voice and rate give the same bytes, whatever was said before.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar, Self

from meshwork.errors import Internal, InvalidArgument, MeshworkError
from meshwork.serving.card import ModelDirectory
from services.speech.tasks.language_tags import language_tag
from services.speech.tasks.synthesize import Speech, Synthesizer, TextInput, Voice
from services.speech.tasks.zygote import Crashed, Zygote, forks_at_once

_PROCESS = "services.speech.tasks.espeak_process"
DEFAULT_VOICE = "en-US"
NATURAL_WORDS_PER_MINUTE = 175
LONGEST_S = 600
_RATE_HZ = 22_050
_TIMEOUT_S = 180.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A text as the library takes it."""

    text: str
    voice: Voice
    words_per_minute: int


class ESpeak(Synthesizer[Line, Speech]):
    """eSpeak NG with the voices that it brings."""

    shares_device: ClassVar[bool] = False
    longest_batch_s: ClassVar[float] = 2.0  # its items are worked on side by side, in processes

    def __init__(self, zygote: Zygote) -> None:
        self._zygote = zygote
        self._threads = ThreadPoolExecutor(forks_at_once(), thread_name_prefix="espeak")
        head, _ = zygote.ask({"do": "voices"}, timeout_s=_TIMEOUT_S)
        self._identifiers: dict[str, str] = {}  # of the library, by our name
        voices = []
        for display_name, identifier, languages in head["voices"]:
            name = identifier.rpartition("/")[2]
            tag, *others = [language_tag(language) for language in languages]
            if language_tag(name).startswith(f"{tag}-"):  # two scripts of one language say the same tag
                tag, others = language_tag(name), [tag, *others]
            self._identifiers[name] = identifier
            aliases = tuple(dict.fromkeys(other for other in others if other != tag))
            voices.append(Voice(name=name, language=tag, display_name=display_name.strip(), aliases=aliases))
        self._voices = tuple(sorted(voices, key=lambda voice: (voice.language.lower(), voice.name)))
        self._by_name = {voice.name.lower(): voice for voice in voices}

    @classmethod
    def load(cls, directory: ModelDirectory, device: str) -> Self:
        """Starts the process that holds the library."""
        return cls(Zygote(_PROCESS))

    def warm_up(self) -> None:
        """Says a word."""
        self.forward([self.preprocess(TextInput(text="ready"))])

    @property
    def voices(self) -> Sequence[Voice]:
        """Every voice, by language and then by name."""
        return self._voices

    def preprocess(self, request: TextInput) -> Line:
        """Finds the voice and makes the text plain."""
        return Line(
            text=plain(request.text),
            voice=self._voice(request.voice or DEFAULT_VOICE),
            words_per_minute=round(NATURAL_WORDS_PER_MINUTE * request.speaking_rate),
        )

    def _voice(self, name: str) -> Voice:
        found = self._by_name.get(name.lower())
        if found is None:
            near = difflib.get_close_matches(name.lower(), self._by_name, n=3, cutoff=0.5)
            hint = f"; near it: {', '.join(self._by_name[each].name for each in near)}" if near else ""
            raise InvalidArgument(f"no voice {name[:64]!r}{hint}; ListVoices lists all", field="voice")
        return found

    def cost(self, prepared: Line) -> float:
        """Characters."""
        return len(prepared.text)

    def forward(self, batch: Sequence[Line]) -> list[Speech | MeshworkError]:
        """Speaks each text of the batch, several at a time."""
        return list(self._threads.map(self._speak, batch))

    def _speak(self, line: Line) -> Speech | MeshworkError:
        ask = {
            "do": "speak",
            "voice": self._identifiers[line.voice.name],
            "words_per_minute": line.words_per_minute,
            "most_samples": LONGEST_S * _RATE_HZ,
        }
        text = line.text.encode()
        try:
            head, pcm = self._zygote.ask(ask, text, timeout_s=_TIMEOUT_S)
        except Crashed:  # its process may have been killed; a new one is started
            try:
                head, pcm = self._zygote.ask(ask, text, timeout_s=_TIMEOUT_S)
            except Crashed:
                return Internal("the synthesiser stopped twice on this text")
        silent = pcm.count(0) == len(pcm)  # as after a full stop alone, or letters the voice does not know
        problem = head.get("problem", "text" if silent else "")
        if problem == "long":
            return InvalidArgument(
                f"takes more than {LONGEST_S // 60} minutes to say; split it", field="text"
            )
        if problem:
            return InvalidArgument(f"holds nothing that voice {line.voice.name} can say", field="text")
        return Speech(pcm=pcm, rate_hz=head["rate_hz"], voice=line.voice.name)

    def postprocess(self, prepared: Line, raw: Speech) -> Speech:
        """As `forward` made it."""
        return raw

    def close(self) -> None:
        """Ends the process, and with it what is asked of it."""
        self._zygote.close()
        self._threads.shutdown(cancel_futures=True)


def plain(text: str) -> str:
    """The text without what the library would take for a command or for a mark of its own.

    Control characters (0x01 begins a command to it), private and unassigned code points become spaces.
    """
    return "".join(
        " " if unicodedata.category(each) in {"Cc", "Cn", "Co", "Cs"} and each not in "\n\t" else each
        for each in text
    )

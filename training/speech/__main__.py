"""Measures `sphinx-en` and `espeak`, writes their cards and `samples/hello.wav`; minutes on one core.

`sphinx-en` hears five sentences read by a person, and fifty that `espeak` speaks; the latter say as much
of the one as of the other, and the cards say so. The recordings are LibriVox's reading of *Sense and
Sensibility* (public domain), as pocketsphinx 5.1.1 carries them in its source for its own tests.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import yaml
from rich.progress import track

from meshwork.serving.card import CARD_FILE
from meshwork.serving.sources import open_directory
from services.speech.tasks.audio import RATE_HZ, AudioInput
from services.speech.tasks.espeak import ESpeak
from services.speech.tasks.sphinx import Sphinx
from services.speech.tasks.synthesize import Speech, TextInput
from training.speech.errors import word_errors

ROOT = Path(__file__).resolve().parents[2]
STARTERS = ROOT / "services/speech/starters"
HELLO = ROOT / "samples/hello.wav"
HERE = Path(__file__).parent

GREETINGS = (
    "hello world",
    "hello and welcome",
    "hello how are you",
    "hello my name is john",
    "hello this is a test",
    "hello and good morning to all of you",
)

SPHINX_CARD: dict[str, Any] = {
    "name": "sphinx-en",
    "version": "1",
    "service": "speech",
    "task": "sphinx",
    "methods": ["Recognize"],
    "licence": "BSD-2-Clause",
    "description": "US English speech to text with word times: CMU PocketSphinx 5.1 and the acoustic model, "
    "language model and dictionary that it brings.",
    "limits": [
        "US English only, and only the 134,000 spellings of its dictionary; no punctuation, no capitals, "
        "numbers as words.",
        "A recogniser of the generation before neural networks: of read speech it gets about one word in "
        "four wrong, of conversation, accents, music or noise behind the voice far more.",
        "It writes words for any voice, also in other languages.",
        "Confidences are the decoder's posteriors: they rank words; they are no chances of being right.",
        "The figure on synthetic speech says how it hears eSpeak NG, not how it hears people.",
    ],
    "weights": "package:pocketsphinx/model/en-us",
}

ESPEAK_CARD: dict[str, Any] = {
    "name": "espeak",
    "version": "1",
    "service": "speech",
    "task": "espeak",
    "methods": ["Synthesize", "ListVoices"],
    "licence": "GPL-3.0-or-later",
    "description": "Text to speech in more than a hundred languages: eSpeak NG 1.52, as the package "
    "espeakng-loader brings it.",
    "limits": [
        "Formant synthesis: clear and quick, and sounds like a machine.",
        "How well a language is spoken differs much; some voices are sketches.",
        "At most 10 minutes of speech a call.",
        "Text is spoken as it stands: SSML and phoneme notation are read out, not obeyed.",
        "The word error rate is what sphinx-en hears, a machine that hears people badly too; people "
        "understand eSpeak NG better than that.",
        "eSpeak NG is under the GPL, version 3 or later: who passes it on passes that licence on. Meshwork "
        "runs it as a process of its own, and a mesh without this model does not load it.",
    ],
}


def main() -> None:
    """Measures and writes."""
    for name, card in (("sphinx-en", SPHINX_CARD), ("espeak", ESPEAK_CARD)):
        write_card(name, card)
    sphinx = Sphinx.load(open_directory("starter://sphinx-en", "speech"), "cpu")
    espeak = ESpeak.load(open_directory("starter://espeak", "speech"), "cpu")
    try:
        human = word_error_rate(sphinx, list(readings()), "read by a person")
        spoken = [(text, say(espeak, text).wav()) for text in sentences()]
        synthetic = word_error_rate(sphinx, spoken, "spoken by espeak")
        write_hello(sphinx, espeak)
    finally:
        sphinx.close()
        espeak.close()
    words = sum(len(text.split()) for text in sentences())
    entry = {
        "metric": "word error rate",
        "value": synthetic,
        "dataset": f"{words} words in 50 sentences spoken by espeak's en-US (synthetic speech)",
    }
    read = sum(len(text.split()) for text, _ in readings())
    person = {
        "metric": "word error rate",
        "value": human,
        "dataset": f"{read} words in 5 sentences of a LibriVox audiobook (one human reader)",
    }
    write_card("sphinx-en", {**SPHINX_CARD, "quality": [person, entry]})
    heard = {**entry, "dataset": f"{words} words in 50 sentences of voice en-US, heard by sphinx-en"}
    write_card("espeak", {**ESPEAK_CARD, "quality": [heard]})


def sentences() -> list[str]:
    """The fifty sentences, in lower case without punctuation, as sphinx-en writes."""
    return (HERE / "sentences.txt").read_text(encoding="utf-8").splitlines()


def readings() -> Iterator[tuple[str, bytes]]:
    """What a person read, and the recording as FLAC."""
    for line in (HERE / "librivox/transcripts.tsv").read_text(encoding="utf-8").splitlines():
        name, _, text = line.partition("\t")
        yield text, (HERE / "librivox" / name).read_bytes()


def say(espeak: ESpeak, text: str) -> Speech:
    """`text` in the default voice."""
    (speech,) = espeak.forward([espeak.preprocess(TextInput(text=text))])
    if not isinstance(speech, Speech):
        raise speech
    return speech


def hear(sphinx: Sphinx, recording: bytes) -> str:
    """What sphinx-en writes down."""
    prepared = sphinx.preprocess(AudioInput(content=recording))
    (raw,) = sphinx.forward([prepared])
    if isinstance(raw, Exception):
        raise raw
    return sphinx.postprocess(prepared, raw).text


def word_error_rate(sphinx: Sphinx, spoken: list[tuple[str, bytes]], what: str) -> float:
    """Substituted, missing and added words, for each word that was said."""
    errors = said = 0
    for text, recording in track(spoken, f"{len(spoken)} sentences {what}"):
        errors += word_errors(text.split(), hear(sphinx, recording).split())
        said += len(text.split())
    print(f"word error rate, {what}: {errors / said:.3f} ({errors} of {said})")
    return round(errors / said, 3)


def write_hello(sphinx: Sphinx, espeak: ESpeak) -> None:
    """Writes the first greeting that sphinx-en hears word for word."""
    for text in GREETINGS:
        speech = say(espeak, text)
        samples = np.frombuffer(speech.pcm, "<i2").astype(np.float32) / 32768
        file = io.BytesIO()
        soundfile.write(
            file, soxr.resample(samples, speech.rate_hz, RATE_HZ), RATE_HZ, "PCM_16", format="WAV"
        )
        if hear(sphinx, file.getvalue()) == text:
            HELLO.parent.mkdir(exist_ok=True)
            HELLO.write_bytes(file.getvalue())
            print(f"{HELLO.relative_to(ROOT)}: {text}")
            return
    raise SystemExit("no greeting is heard word for word")


def write_card(name: str, card: dict[str, Any]) -> None:
    """Writes a starter's card."""
    folder = STARTERS / name
    folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(card, sort_keys=False, allow_unicode=True, width=110)
    (folder / CARD_FILE).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

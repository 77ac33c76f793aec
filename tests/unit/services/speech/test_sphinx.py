"""The recogniser writes down what was said, with times that hold."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

from meshwork.errors import Internal
from meshwork.serving.card import CardError, ModelDirectory
from meshwork.serving.sources import open_directory
from services.speech.tasks.audio import RATE_HZ, AudioInput
from services.speech.tasks.sphinx import Sphinx, dithered, levelled
from services.speech.tasks.sphinx_process import plain
from services.speech.tasks.synthesize import TextInput
from services.speech.tasks.zygote import Crashed

READINGS = Path(__file__).parents[4] / "training/speech/librivox"


def pcm(samples):
    return (samples * 32767).astype("<i2").tobytes()


def test_the_sample_is_heard_word_for_word_in_every_encoding(hear, hello, encoded):
    recordings = [
        AudioInput(content=encoded(hello)),
        AudioInput(content=encoded(hello, subtype="PCM_24")),
        AudioInput(content=encoded(hello, subtype="PCM_32")),
        AudioInput(content=encoded(hello, subtype="FLOAT")),
        AudioInput(content=encoded(hello, kind="FLAC")),
        AudioInput(content=pcm(hello), raw=True, sample_rate_hz=RATE_HZ),
        AudioInput(content=pcm(np.repeat(hello, 2)), raw=True, sample_rate_hz=RATE_HZ, channels=2),
    ]
    heard = [hear(recording) for recording in recordings]
    assert {each.text.split()[0] for each in heard} == {"hello"}
    assert {each.text for each in heard} == {heard[0].text}


def test_lossy_encodings_are_heard_too(hear, hello, encoded):
    assert "hello" in hear(AudioInput(content=encoded(hello, kind="OGG", subtype="VORBIS"))).text
    assert "hello" in hear(AudioInput(content=encoded(hello, subtype="PCM_U8"))).text


def test_a_person_reading_is_understood_for_the_most_part(hear):
    heard = hear(AudioInput(content=(READINGS / "0930.flac").read_bytes()))
    assert "might even have been" in heard.text
    assert 0 < heard.confidence <= 1


def test_word_times_rise_and_lie_within_the_recording(hear):
    first, rate = soundfile.read(READINGS / "0880.flac", dtype="float32")
    assert rate == RATE_HZ
    pause = np.zeros(3 * RATE_HZ, np.float32)
    heard = hear(
        AudioInput(content=pcm(np.concatenate([pause, first, pause, first])), raw=True, sample_rate_hz=rate)
    )
    assert heard.duration_s == pytest.approx(6 + 2 * len(first) / RATE_HZ)
    assert len(heard.words) > 8
    assert heard.text == " ".join(word.word for word in heard.words)
    for word in heard.words:
        assert 0 <= word.start_s < word.end_s <= heard.duration_s
        assert 0 <= word.confidence <= 1
    for before, after in itertools.pairwise(heard.words):
        assert before.end_s <= after.start_s + 0.011
    second_s = 6 + len(first) / RATE_HZ
    assert all(word.start_s >= 3 for word in heard.words)
    assert not [word for word in heard.words if second_s - 2.7 < word.start_s < second_s - 0.3]


def test_equal_recordings_have_equal_answers_whatever_came_between(hear, hello, encoded):
    recording = AudioInput(content=encoded(hello))
    before = hear(recording)
    hear(AudioInput(content=(READINGS / "0930.flac").read_bytes()))
    assert hear(recording) == before


@pytest.mark.parametrize("seconds", [0.0001, 0.01, 0.5, 3])
def test_silence_says_nothing(hear, seconds):
    silence = np.zeros(max(1, int(seconds * RATE_HZ)), np.float32)
    heard = hear(AudioInput(content=pcm(silence), raw=True, sample_rate_hz=RATE_HZ))
    assert heard.text == ""
    assert heard.words == ()
    assert heard.confidence == 0


def test_a_batch_answers_each_in_order(sphinx, hello, encoded):
    silence = np.zeros(RATE_HZ, np.float32)
    batch = [sphinx.preprocess(AudioInput(content=encoded(each))) for each in (silence, hello, silence)]
    raws = sphinx.forward(batch)
    assert [bool(raw) for raw in raws] == [False, True, False]
    assert sphinx.cost(batch[0]) == 0
    assert 0 < sphinx.cost(batch[1]) <= len(hello) / RATE_HZ


def test_what_is_spoken_is_heard(sphinx, espeak, hear):
    texts = ["where is the train station", "i would like a cup of coffee", "we will meet tomorrow morning"]
    heard = []
    for text in texts:
        (speech,) = espeak.forward([espeak.preprocess(TextInput(text=text))])
        heard.append(hear(AudioInput(content=speech.wav())).text)
    said = " ".join(texts).split()
    right = sum(a == b for a, b in zip(said, " ".join(heard).split(), strict=False))
    assert right >= len(said) // 2, heard


def test_a_killed_process_is_started_again(sphinx, hear, hello, encoded):
    children = [each for each in psutil.Process().children() if "sphinx_process" in " ".join(each.cmdline())]
    assert children
    for child in children:
        child.kill()
    assert hear(AudioInput(content=encoded(hello))).text


def test_a_decoder_that_always_stops_fails_its_item_alone(sphinx, hello, encoded, monkeypatch):
    def stop(*_args, **_options):
        raise Crashed("no answer")

    prepared = sphinx.preprocess(AudioInput(content=encoded(hello)))
    silence = sphinx.preprocess(AudioInput(content=encoded(np.zeros(RATE_HZ, np.float32))))
    monkeypatch.setattr(sphinx._zygote, "ask", stop)
    failed, fine = sphinx.forward([prepared, silence])
    assert isinstance(failed, Internal)
    assert fine == []


def test_a_directory_without_the_model_is_named(tmp_path):
    starter = open_directory("starter://sphinx-en", "speech")
    card = type(starter.card)(name="x", version="1", service="speech", task="sphinx", methods=("Recognize",))
    with pytest.raises(CardError, match="mdef is missing"):
        Sphinx.load(ModelDirectory(path=tmp_path, card=card, source="here"), "cpu")


def test_the_decoder_never_hears_exact_silence():
    assert np.count_nonzero(dithered(np.zeros(RATE_HZ, np.float32))) > 0.9 * RATE_HZ


def test_level_does_not_matter_but_silence_stays_silent():
    tone = np.sin(np.arange(RATE_HZ, dtype=np.float32))
    assert np.allclose(levelled(tone), levelled(tone / 20), atol=1e-4)
    assert np.abs(levelled(tone * 1e-4)).max() < 0.01


def test_second_pronunciations_are_the_same_word():
    assert plain("the(2)") == "the"
    assert plain("don't") == "don't"

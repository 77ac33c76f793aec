"""The synthesiser speaks any text as plain text, the same each time."""

from __future__ import annotations

import io
import wave

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshwork.errors import InvalidArgument
from services.speech.tasks.espeak import DEFAULT_VOICE, ESpeak, plain
from services.speech.tasks.language_tags import language_tag
from services.speech.tasks.synthesize import Speech, TextInput


def say(espeak: ESpeak, text: str, **options: object) -> Speech:
    (speech,) = espeak.forward([espeak.preprocess(TextInput(text=text, **options))])
    if not isinstance(speech, Speech):
        raise speech
    return speech


def test_speech_is_a_wav_of_the_length_it_says(espeak):
    speech = say(espeak, "hello world")
    with wave.open(io.BytesIO(speech.wav())) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, speech.rate_hz)
        assert file.getnframes() / file.getframerate() == pytest.approx(speech.duration_s)
    assert 0.5 < speech.duration_s < 2
    assert speech.voice == DEFAULT_VOICE


def test_the_same_text_gives_the_same_bytes_whatever_was_said_between(espeak):
    first = say(espeak, "The quick brown fox, isn't it?")
    say(espeak, "Ça va bien !", voice="fr", speaking_rate=2)
    assert say(espeak, "The quick brown fox, isn't it?").pcm == first.pcm


def test_a_batch_speaks_each_text_in_order(espeak):
    texts = ["one", "a much longer sentence than the first", "two"]
    together = espeak.forward([espeak.preprocess(TextInput(text=text)) for text in texts])
    assert [each.pcm for each in together] == [say(espeak, text).pcm for text in texts]


@pytest.mark.parametrize(("rate", "factor"), [(0.5, 2), (1.5, 1 / 1.5), (2, 0.5), (3, 1 / 3)])
def test_the_rate_changes_the_length(espeak, rate, factor):
    text = "we will meet tomorrow morning in front of the old station"
    assert say(espeak, text, speaking_rate=rate).duration_s == pytest.approx(
        say(espeak, text).duration_s * factor, rel=0.15
    )


def test_voices_differ(espeak):
    spoken = {say(espeak, "restaurant", voice=voice).pcm for voice in ("en-US", "fr", "de", "ru")}
    assert len(spoken) == 4


def test_markup_is_spoken_not_obeyed(espeak):
    pause = "<speak>a<break time='20s'/>b</speak>"
    assert say(espeak, pause).duration_s < 15
    assert say(espeak, "[[h@l'oU]]").pcm != say(espeak, "hello").pcm


def test_control_characters_are_not_commands(espeak):
    assert plain("a\x01b\x00c\x1bd\x7fe\ue000f\u0378g\nh\ti") == "a b c d e f g\nh\ti"
    assert say(espeak, "\x01400shello").pcm == say(espeak, " 400shello").pcm


def test_an_unknown_voice_is_named_with_its_neighbours(espeak):
    with pytest.raises(InvalidArgument, match=r"no voice 'en-USA'; near it: en-US.*ListVoices") as caught:
        espeak.preprocess(TextInput(text="x", voice="en-USA"))
    assert caught.value.field == "voice"
    with pytest.raises(InvalidArgument, match="ListVoices"):
        espeak.preprocess(TextInput(text="x", voice="\x00" * 5000))
    assert espeak.preprocess(TextInput(text="x", voice="EN-us")).voice.name == "en-US"


def test_what_takes_too_long_to_say_is_refused(espeak):
    with pytest.raises(InvalidArgument, match="more than 10 minutes to say; split it") as caught:
        say(espeak, "\N{THUMBS UP SIGN}" * 5000, speaking_rate=0.5)
    assert caught.value.field == "text"


@pytest.mark.parametrize("text", [".", "\u2026", "\u200b", "(((", "\x01\x02", "\ue000"])
def test_what_says_nothing_is_refused(espeak, text):
    with pytest.raises(InvalidArgument, match="nothing that voice en-US can say") as caught:
        say(espeak, text)
    assert caught.value.field == "text"


def test_every_voice_has_a_name_and_a_tag_of_its_own(espeak):
    voices = espeak.voices
    assert len(voices) > 100
    assert len({voice.name for voice in voices}) == len(voices)
    assert [voice.language.lower() for voice in voices] == sorted(voice.language.lower() for voice in voices)
    assert all(voice.display_name for voice in voices)
    by_name = {voice.name: voice.language for voice in voices}
    assert by_name["en"] == "en-GB"
    assert by_name["yue-Latn-jyutping"] == "yue-Latn-jyutping"
    assert by_name["cmn"] == "cmn"


def test_every_voice_speaks(espeak):
    for voice in espeak.voices:
        assert say(espeak, "ama osiyo 12", voice=voice.name).duration_s > 0.1


@pytest.mark.parametrize(
    ("name", "tag"),
    [("en-gb-x-rp", "en-GB-x-rp"), ("fa-latn", "fa-Latn"), ("ca-ba", "ca-ES-x-balear"), ("es-419", "es-419"),
     ("chr-US-Qaaa-x-west", "chr-US-Qaaa-x-west"), ("vi-vn-x-south", "vi-VN-x-south")],
)  # fmt: skip
def test_names_become_language_tags(name, tag):
    assert language_tag(name) == tag


def test_a_language_finds_its_varieties_and_nothing_else(espeak):
    def found(language: str) -> set[str]:
        return {voice.name for voice in espeak.voices if voice.speaks(language)}

    assert {"en", "en-US", "en-GB-scotland"} <= found("EN")
    assert found("en-gb") >= {"en", "en-GB-x-rp"}
    assert "en-US" not in found("en-GB")
    assert {"cmn", "yue"} <= found("zh")
    assert "eo" not in found("e")


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1, max_size=60), st.sampled_from(["en-US", "cmn", "ar", "hi", "ru", "ja", "ko"]))
def test_any_text_is_spoken_or_refused(espeak, text, voice):
    (outcome,) = espeak.forward([espeak.preprocess(TextInput(text=text, voice=voice))])
    assert isinstance(outcome, (Speech, InvalidArgument))

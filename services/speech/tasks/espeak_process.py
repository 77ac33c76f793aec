"""The process that holds eSpeak NG: `python -m services.speech.tasks.espeak_process FD`.

Questions:
    {"do": "voices"} -> {"voices": [[name, identifier, [language, ...]], ...]}
    {"do": "speak", "voice": identifier, "words_per_minute": n, "most_samples": n} and UTF-8 text ->
        {"rate_hz": n} and 16-bit samples, or {"problem": "long" | "voice" | "text"}

The interface is speak_lib.h of eSpeak NG 1.52.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

import espeakng_loader

from services.speech.tasks.zygote import Head, serve

MOST_CPU_S = 120
_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: espeak_Synth returns when all is said
_DONT_EXIT = 0x8000  # espeakINITIALIZE_DONT_EXIT: say that the data is missing, do not end the process
_UTF8 = 1  # espeakCHARS_UTF8; neither espeakSSML nor espeakPHONEMES, so that markup is spoken as text
_RATE = 1  # espeakRATE
_BUFFER_MS = 200
_DATA = Path("espeak-ng-data")


class _Voice(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_void_p),  # (priority byte, string)*, then a zero byte
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("xx1", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


_OnSamples = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


class Library:
    """The loaded library; one text may be spoken with it."""

    def __init__(self) -> None:
        self._espeak = ctypes.CDLL(espeakng_loader.get_library_path())
        self._espeak.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
        self._espeak.espeak_Synth.argtypes = [
            ctypes.c_char_p,
            ctypes.c_size_t,
            *(ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint),
            *(ctypes.c_void_p, ctypes.c_void_p),
        ]
        # It keeps the path in 160 bytes, which an installation's path may well exceed.
        os.chdir(Path(espeakng_loader.get_data_path()).parent)
        self._rate_hz: int = self._espeak.espeak_Initialize(_SYNCHRONOUS, _BUFFER_MS, b".", _DONT_EXIT)
        if self._rate_hz <= 0:
            sys.exit(f"eSpeak NG finds no data in {Path.cwd()}")

    def voices(self) -> list[tuple[str, str, list[str]]]:
        """Each voice's name, identifier and languages, the first of them its own."""
        listed = self._espeak.espeak_ListVoices(None)
        found: list[tuple[str, str, list[str]]] = []
        for voice in listed:
            if not voice:
                return found
            of = voice.contents
            name, identifier = of.name.decode(), of.identifier.decode()
            if _has_dictionary(identifier):
                found.append((name, identifier, _languages(of.languages)))
        return found

    def speak(self, ask: Head, text: bytes) -> tuple[Head, bytes]:
        """The text's samples, or what is wrong with it."""
        pcm = bytearray()
        most_bytes = 2 * ask["most_samples"]

        def on_samples(samples: int | None, count: int, _events: Any) -> int:
            if samples and count > 0:
                pcm.extend(ctypes.string_at(samples, 2 * count))
            return int(len(pcm) > most_bytes)  # 1 stops it

        callback = _OnSamples(on_samples)
        self._espeak.espeak_SetSynthCallback(callback)
        if self._espeak.espeak_SetVoiceByName(ask["voice"].encode()) != 0:
            return {"problem": "voice"}, b""
        self._espeak.espeak_SetParameter(_RATE, ask["words_per_minute"], 0)
        if self._espeak.espeak_Synth(text, len(text) + 1, 0, 1, 0, _UTF8, None, None) != 0:
            return {"problem": "text"}, b""
        if len(pcm) > most_bytes:
            return {"problem": "long"}, b""
        return {"rate_hz": self._rate_hz}, bytes(pcm)


def _has_dictionary(identifier: str) -> bool:
    """Whether the voice's dictionary was installed; without it the voice says nothing."""
    dictionary = ""
    for line in (_DATA / "lang" / identifier).read_text(encoding="utf-8", errors="replace").splitlines():
        word, _, value = line.partition(" ")
        if word == "dictionary" or (word == "language" and not dictionary):
            dictionary = value.split()[0].partition("-")[0]
    return (_DATA / f"{dictionary}_dict").is_file()


def _languages(at: int) -> list[str]:
    found = []
    while ctypes.string_at(at, 1) != b"\0":
        language = ctypes.string_at(at + 1)
        found.append(language.decode())
        at += len(language) + 2
    return found


def main() -> None:
    """Loads the library, then answers."""
    library = Library()

    def answer(ask: Head, text: bytes) -> tuple[Head, bytes]:
        if ask["do"] == "voices":
            return {"voices": library.voices()}, b""
        return library.speak(ask, text)

    serve(answer, most_cpu_s=MOST_CPU_S)


if __name__ == "__main__":
    main()

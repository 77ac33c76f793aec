"""The process that holds a pocketsphinx decoder: `python -m services.speech.tasks.sphinx_process FD FOLDER`.

Question: an utterance, 16-bit samples at 16 kHz. Answer: `{"words": [[word, start_s, end_s, posterior]]}`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pocketsphinx import Decoder

from services.speech.tasks.zygote import Head, serve

# Far beyond what an utterance takes; only a decoder that does not end meets it.
MOST_CPU_S = 120
_FRAMES_PER_S = 100


def main() -> None:
    """Loads the model of the folder on the command line, then answers."""
    folder = Path(sys.argv[2])
    decoder = Decoder(
        hmm=str(folder / "en-us"),
        lm=str(folder / "en-us.lm.bin"),
        dict=str(folder / "cmudict-en-us.dict"),
        loglevel="FATAL",
    )

    def answer(_head: Head, pcm: bytes) -> tuple[Head, bytes]:
        decoder.start_utt()
        # The whole utterance at once: its cepstral mean is then its own and not the last speaker's.
        decoder.process_raw(pcm, full_utt=True)
        decoder.end_utt()
        words = [
            (plain(entry.word), _seconds(entry.start_frame), _seconds(entry.end_frame + 1), entry.prob)
            for entry in decoder.seg() or ()
            if not entry.word.startswith(("<", "["))  # silence and noise
        ]
        return {"words": words}, b""

    serve(answer, most_cpu_s=MOST_CPU_S)


def _seconds(frame: int) -> float:
    return frame / _FRAMES_PER_S


def plain(word: str) -> str:
    """`the(2)`, the second pronunciation of a word, as the word."""
    return word.partition("(")[0]


if __name__ == "__main__":
    main()

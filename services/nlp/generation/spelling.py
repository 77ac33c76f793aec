"""Tokens to text, piece by piece: never half a character, never a part of what stops the text.

A piece goes out when no later token can change it. A character may be spread over tokens of a byte
each: until the last of them the text ends in U+FFFD, and some tokenizers spell even the whole
characters of a run of bytes so until then. Three tokens later it is no character that is being
spelled, but what a model wrote that writes no text. And a text that ends as a stop string begins may
turn out to be one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

_BROKEN = "\ufffd"
_UNSURE = 3  # bytes that a character may lack its last one after, and so U+FFFDs that may still change
_WINDOW = 24  # tokens that are decoded again at each new one, before the first of them are dropped
_KEPT = 8
_LONGEST_WINDOW = 128


class Spelling:
    """Spells one sequence.

    Args:
        decode: text of tokens, without special ones.
        stop: texts that end the sequence; not spelled themselves.
    """

    def __init__(self, decode: Callable[[list[int]], str], stop: Sequence[str] = ()) -> None:
        self._decode = decode
        self._stop = stop
        self._ids: list[int] = []  # the latest, from a token on that earlier ones do not change
        self._spelled = 0  # characters of their text that are out of here
        self._broken = 0  # tokens since the text last ended with a whole character
        self._held = ""  # spelled, but perhaps the beginning of a stop string
        self.stopped = False

    def add(self, token: int) -> str:
        """What can be said now that `token` is there; "" for nothing yet."""
        if self.stopped:
            return ""
        self._ids.append(token)
        text = self._decode(self._ids)
        self._broken = self._broken + 1 if text.endswith(_BROKEN) else 0
        if 0 < self._broken <= _UNSURE:
            return ""
        sure = text
        if self._broken:
            sure = text[: max(len(text.rstrip(_BROKEN)), len(text) - _UNSURE)]
        fresh = sure[self._spelled :]
        self._spelled = max(self._spelled, len(sure))
        if len(self._ids) > _WINDOW:
            self._forget(text)
        return self._until_stop(fresh)

    def end(self) -> str:
        """What was held back, now that no token follows."""
        if self.stopped:
            return ""
        rest = self._decode(self._ids)[self._spelled :]
        said = self._until_stop(rest) + self._held
        self._held = ""
        return said

    def _forget(self, text: str) -> None:
        """Drops tokens that are spelled, so that a long text is not decoded again at each token."""
        # Not within a character or a run of byte tokens, where the rest would read otherwise, unless
        # there seem to be none. Some tokenizers leave out the space before the first word.
        forced = self._broken and len(self._ids) > _LONGEST_WINDOW
        for count in range(_KEPT, _KEPT + _UNSURE + 1):
            kept = self._ids[-count:]
            rest = self._decode(kept)
            if forced or (_BROKEN not in rest and text.endswith(rest.lstrip(" "))):
                self._ids, self._spelled = kept, max(0, len(rest) - (len(text) - self._spelled))
                return

    def _until_stop(self, fresh: str) -> str:
        if not self._stop:
            return fresh
        text = self._held + fresh
        ends = [at for at in (text.find(stop) for stop in self._stop) if at >= 0]
        if ends:
            self.stopped = True
            self._held = ""
            return text[: min(ends)]
        held = max(_overlap(text, stop) for stop in self._stop)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]


def _overlap(text: str, stop: str) -> int:
    """The most characters at the end of `text` that `stop` begins with."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0

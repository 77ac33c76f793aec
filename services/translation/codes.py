"""Languages under the names that models give them, and as BCP-47 (RFC 5646).

A model's code (`fr`, `fra_Latn`, `cmn_Hans`, `pt_br`) has one tag, its shortest: `zho_Hans` and `zho_Hant`
need their scripts, `mon_Cyrl` alone is `mn`. A caller's tag finds the language and script that it means, by
CLDR's distance between languages, so that `fr-CA` finds `fr`, `no` finds `nb`, and `zh-TW` never `zh-Hans`.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable

import langcodes
from langcodes.tag_parser import LanguageTagError

from meshwork.errors import InvalidArgument

_FARTHEST = 9  # CLDR's distance: up to it a speaker of one hardly notices the other
_ALIASES = {"ns": "nso", "pbt_Arab": "ps", "quy_Latn": "qu"}  # known to people by another code
_LISTED = 20  # languages in an error


class Codes:
    """The languages of a model.

    Args:
        codes: the model's own; what is no language is left out.
    """

    def __init__(self, codes: Iterable[str]) -> None:
        tags = {code: tag for code in codes if (tag := _tag(_ALIASES.get(code, code)))}
        shared = Counter(_macro(tag).partition("-")[0] for tag in tags.values())
        self.by_tag: dict[str, str] = {}  # the model's codes by their tags
        for code, own in tags.items():
            macro = _macro(own)
            short = langcodes.Language.get(macro).simplify_script().to_tag()
            if shared[macro.partition("-")[0]] == 1:
                short = _without_script(macro)
            free = [tag for tag in (short, macro, own) if tag not in self.by_tag]
            if free:  # else the model has it twice
                self.by_tag[free[0]] = code
        self._by_code = {code.lower(): tag for tag, code in self.by_tag.items()}
        self._closest = functools.lru_cache(maxsize=1024)(self._find)

    def tag(self, field: str, text: str) -> str:
        """The tag of the model's language that a caller means.

        Args:
            field: the request's field, for the error.
            text: a BCP-47 tag, or the model's own code.

        Raises:
            InvalidArgument: not a tag, or no language of the model.
        """
        text = text.strip()
        tag = self._closest(text)
        if tag:
            return tag
        if not _tag(text):
            raise InvalidArgument(
                f"should be a BCP-47 tag such as fr or zh-Hans, not {text[:40]!r}", field=field
            )
        some = ", ".join(sorted(self.by_tag)[:_LISTED])
        more = f" and {len(self.by_tag) - _LISTED} more (ListLanguages)" if len(self.by_tag) > _LISTED else ""
        raise InvalidArgument(
            f"{text[:40]} is not a language of this model; it has: {some}{more}", field=field
        )

    def knows(self, text: str) -> bool:
        """Whether `tag` would find a language."""
        return bool(self._closest(text))

    def _find(self, text: str) -> str:
        exact = self._by_code.get(text.lower(), "")
        if exact or not _tag(text):
            return exact
        return langcodes.closest_supported_match(text, list(self.by_tag), _FARTHEST) or ""


def name(tag: str) -> str:
    """The English name of a language."""
    return langcodes.Language.get(tag).display_name("en")


def joint(tag: str) -> str:
    """What stands between two sentences."""
    return "" if tag.partition("-")[0] in {"ja", "lo", "my", "th", "yue", "zh"} else " "


def _tag(code: str) -> str:
    """A code as a tag, "" if it is none."""
    try:
        language = langcodes.Language.get(code.replace("_", "-"), normalize=True)
    except (LanguageTagError, ValueError):
        return ""
    return language.to_tag() if language.language and language.is_valid() else ""


def _macro(tag: str) -> str:
    return langcodes.standardize_tag(tag, macro=True)


def _without_script(tag: str) -> str:
    language = langcodes.Language.get(tag)
    return langcodes.Language.make(language=language.language, territory=language.territory).to_tag()

"""The forms of what goes into slots: articles, contractions and cases, derived from one line a noun.

A form is named by a determiner and, in German, a case: `` (definite), `a`, `this`, `my`, `no`, `n` (bare),
with `4` for the accusative and `3` for the dative; and by what contracts with an article: `to`, `of`, `at`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LANGUAGES = ("en", "fr", "es", "de", "zh")
_VOWEL = re.compile(r"[aeiouâàéèêëîïôœûh]", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Filling:
    """What stands in one slot: how it is told from others, and its written forms by language."""

    key: str  # unique in its slot
    forms: dict[str, dict[str, str]]  # language -> form -> text
    genders: dict[str, str]  # language -> "m", "f" or "n"
    spellings: tuple[str, ...] = ()  # other English spellings, understood but never answered


def noun(line: str) -> Filling:
    """Reads `station/train station | une gare | una estación | der Bahnhof | 个 火车站`."""
    english, french, spanish, german, chinese = (part.strip() for part in line.split("|"))
    name, *spellings = english.split("/")
    fr_article, fr_name = french.split(" ", 1)
    es_article, es_name = spanish.split(" ", 1)
    de_article, de_name = german.split(" ", 1)
    measure, zh_name = chinese.split(" ")
    return Filling(
        key=name,
        forms={
            "en": english_noun(name),
            "fr": _french(fr_article == "une", fr_name),
            "es": _spanish(es_article == "una", es_name),
            "de": _german(de_article, de_name),
            "zh": {
                "": zh_name,
                "n": zh_name,
                "a": f"一{measure}{zh_name}",
                "this": f"这{measure}{zh_name}",
                "my": f"我的{zh_name}",
                "c": measure + zh_name,
            },
        },
        genders={
            "fr": "f" if fr_article == "une" else "m",
            "es": "f" if es_article == "una" else "m",
            "de": {"der": "m", "die": "f", "das": "n"}[de_article],
        },
        spellings=tuple(spellings),
    )


def phrase(line: str) -> Filling:
    """Reads `water | de l'eau | agua | Wasser | 水`: text that keeps its form."""
    parts = [part.strip() for part in line.split("|")]
    name, *spellings = parts[0].split("/")
    forms = {language: {"": text} for language, text in zip(LANGUAGES, [name, *parts[1:]], strict=True)}
    forms["en"] |= english_noun(name) | {"": name}
    french = forms["fr"][""]
    forms["fr"]["le"] = f"l'{french}" if _VOWEL.match(french) else f"le {french}"
    return Filling(key=name, forms=forms, genders={}, spellings=tuple(spellings))


def adjective(line: str) -> Filling:
    """Reads `new | neuf/neuve | nuevo/nueva | neu | 新`; the forms are `m` and `f`."""
    parts = [part.strip() for part in line.split("|")]
    forms: dict[str, dict[str, str]] = {}
    for language, text in zip(LANGUAGES, parts, strict=True):
        masculine, _, feminine = text.partition("/")
        forms[language] = {"": masculine, "m": masculine, "n": masculine, "f": feminine or masculine}
    return Filling(key=parts[0], forms=forms, genders={})


def plain(key: str, en: str, fr: str, es: str, de: str, zh: str, *spellings: str) -> Filling:
    """A filling that is written out, as numbers, times and prices are."""
    texts = dict(zip(LANGUAGES, (en, fr, es, de, zh), strict=True))
    forms = {language: {"": text} for language, text in texts.items()}
    if fr.startswith("le "):
        forms["fr"] |= {"of": "du " + fr[3:], "to": "au " + fr[3:]}
        forms["es"] |= {"of": "del " + es[3:], "to": "al " + es[3:]}
    return Filling(key=key, forms=forms, genders={}, spellings=spellings)


def english_noun(name: str) -> dict[str, str]:
    """The forms of an English noun."""
    article = "an" if name[0].lower() in "aeio" or name.startswith("umbrella") else "a"
    return {
        "": f"the {name}",
        "a": f"{article} {name}",
        "this": f"this {name}",
        "my": f"my {name}",
        "n": name,
    }


def polish(language: str, text: str) -> str:
    """Mends what only shows where words meet: French elision of `de`, Spanish `y` before an i."""
    if language == "fr":
        return re.sub(r"\bde (?=[aeiouéèêœ])(?!onze\b|où\b)", "d'", text)
    if language == "es":
        return re.sub(r"\by (?=h?i(?!e))", "e ", text)
    return text


def _french(feminine: bool, name: str) -> dict[str, str]:
    elided = bool(_VOWEL.match(name))
    definite = f"l'{name}" if elided else f"la {name}" if feminine else f"le {name}"
    contracts = not elided and not feminine
    return {
        "": definite,
        "n": name,
        "a": f"une {name}" if feminine else f"un {name}",
        "this": f"cette {name}" if feminine else f"cet {name}" if elided else f"ce {name}",
        "my": f"ma {name}" if feminine and not elided else f"mon {name}",
        "to": f"au {name}" if contracts else f"à {definite}",
        "of": f"du {name}" if contracts else f"de {definite}",
        "de": f"d'{name}" if elided else f"de {name}",
    }


def _spanish(feminine: bool, name: str) -> dict[str, str]:
    return {
        "": f"la {name}" if feminine else f"el {name}",
        "n": name,
        "a": f"una {name}" if feminine else f"un {name}",
        "this": f"esta {name}" if feminine else f"este {name}",
        "my": f"mi {name}",
        "to": f"a la {name}" if feminine else f"al {name}",
        "of": f"de la {name}" if feminine else f"del {name}",
    }


def _german(article: str, name: str) -> dict[str, str]:
    definite = {"der": ("der", "den", "dem"), "die": ("die", "die", "der"), "das": ("das", "das", "dem")}[
        article
    ]
    endings = {"der": ("", "en", "em"), "die": ("e", "e", "er"), "das": ("", "", "em")}[article]
    this = {"der": ("er", "en", "em"), "die": ("e", "e", "er"), "das": ("es", "es", "em")}[article]
    forms = {"n": name, "nearest": f"{article} nächste {name}"}
    for index, case in enumerate(("", "4", "3")):
        forms[case] = f"{definite[index]} {name}"
        forms[f"this{case}"] = f"dies{this[index]} {name}"
        for determiner, stem in (("a", "ein"), ("my", "mein"), ("no", "kein")):
            forms[determiner + case] = f"{stem}{endings[index]} {name}"
    feminine = article == "die"
    forms["to"] = f"zur {name}" if feminine else f"zum {name}"
    forms["of"] = f"von der {name}" if feminine else f"vom {name}"
    forms["at"] = f"an der {name}" if feminine else f"am {name}"
    forms["in"] = f"in der {name}" if feminine else f"im {name}"
    return forms

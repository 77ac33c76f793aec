"""Models' names of languages as BCP-47 tags (RFC 5646)."""

from __future__ import annotations

# Names of eSpeak NG whose subtags are no subtags of BCP-47, or mean a country there.
_OWN = {
    "ca-ba": "ca-ES-x-balear",
    "ca-nw": "ca-ES-x-nordoc",
    "ca-va": "ca-ES-valencia",
    "en-us-nyc": "en-US-x-nyc",
    "piqd": "tlh-Piqd",
    "py": "art-x-pyash",
    "ru-cl": "ru-x-classic",
}


def language_tag(name: str) -> str:
    """eSpeak NG's name as a tag in its usual case: `en-gb-x-rp` -> `en-GB-x-rp`, `fa-latn` -> `fa-Latn`."""
    name = _OWN.get(name.lower(), name)
    language, *rest = name.split("-")
    tags = [language.lower()]
    for index, subtag in enumerate(rest):
        if "x" in map(str.lower, rest[:index]):
            tags.append(subtag.lower())
        elif len(subtag) == 2:
            tags.append(subtag.upper())
        elif len(subtag) == 4 and subtag.isalpha():
            tags.append(subtag.title())
        else:
            tags.append(subtag.lower())
    return "-".join(tags)


def short_tag(code: str) -> str:
    """The tag of an ISO 639 code of two or three letters, in its shortest form: `eng` -> `en`."""
    from langcodes import standardize_tag
    from langcodes.tag_parser import LanguageTagError

    try:
        return standardize_tag(code)
    except LanguageTagError:
        return code

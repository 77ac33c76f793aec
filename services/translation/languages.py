"""Language tags (BCP 47): what a caller writes, to what a model knows."""

from __future__ import annotations

import re
from collections.abc import Collection

from meshwork.errors import InvalidArgument

_TAG = re.compile(r"[a-z]{2,8}(-[a-z0-9]{1,8})*")
_TRADITIONAL = frozenset({"hant", "tw", "hk", "mo"})


def known(field: str, tag: str, languages: Collection[str], *, written: bool = False) -> str:
    """The model's code for a tag: `fr` for `FR` and `fr-CA`, `zh` for `zh-Hans-CN`.

    Args:
        field: the request's field, for the error.
        tag: what the caller wrote.
        languages: the model's codes.
        written: the model is to write it, so that the script counts.

    Raises:
        InvalidArgument: not a tag, or no language of the model.
    """
    listed = ", ".join(sorted(languages))
    subtags = tag.strip().lower().replace("_", "-")
    if not _TAG.fullmatch(subtags):
        raise InvalidArgument(f"should be a BCP-47 tag such as fr or zh-CN, not {tag[:40]!r}", field=field)
    primary, *rest = subtags.split("-")
    if primary not in languages:
        raise InvalidArgument(f"{tag} is not a language of this model; it has: {listed}", field=field)
    if written and primary == "zh" and "hans" not in rest and _TRADITIONAL & set(rest):
        raise InvalidArgument(f"{tag}: this model writes simplified Chinese only; ask for zh", field=field)
    return primary

"""Texts packed for the encoder: their tokens one behind the other, shortest text first, no padding.

Attention alone must know where texts begin: texts of nearly the same length make a group, and each
group is attended as one [count, heads, longest, head] tensor, padded inside the group and masked. The
padding of a group is at most a quarter of it and two tokens a text; a padded place repeats the text's
own last token, so that nothing of one text ever reaches another's numbers.

Everything else is row by row and done in *blocks* of rows that stay in the processor's cache. oneDNN
compiles a kernel for each height of matrix, so that the last block's is rounded up to few heights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.nlp.tokens import Tokens

BLOCK = 512  # rows; at 256 numbers wide, a block and what a layer makes of it take 3 MB
_PADDING = 1.25  # the longest text of a group is at most this much longer than its shortest, and 2 tokens
_FINE = 64  # rows up to which heights are multiples of 4; of 16 beyond


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbours in the packing that are attended together."""

    start: int  # first row of the packed matrix
    stop: int
    first: int  # which of the packed texts is the first
    count: int  # texts
    longest: int  # tokens of the longest
    spread: Tensor | None  # int64 [count * longest]: which row stands at each place; None if unpadded
    held: Tensor | None  # int64 [stop - start]: the place of each row
    mask: Tensor | None  # bool [count, 1, 1, longest], true where there is a token


@dataclass(frozen=True, slots=True)
class Packing:
    """Texts one behind the other, shortest first; rows beyond the last token are filling."""

    ids: Tensor  # int64 [rows]
    places: Tensor  # int64 [rows]: row of the encoder's table of positions
    lengths: NDArray[np.int64]  # [texts], ascending
    starts: NDArray[np.int64]  # [texts]: row of each text's first token
    order: NDArray[np.int64]  # [texts]: which of the given texts each is
    groups: list[Group]
    blocks: list[slice]  # of rows


def pack(
    texts: Sequence[Tokens],
    device: torch.device,
    *,
    positions: int,
    kinds: int = 1,
    unplaced: int | None = None,
) -> Packing:
    """Packs texts, none of them empty.

    Args:
        positions: positions that the encoder's table has for each kind of token.
        kinds: kinds of token that it knows; with one, what the texts say of it does not count.
        unplaced: RoBERTa's padding token: it has position 0 wherever it stands, and others count from 1.
    """
    given = np.array([len(text.ids) for text in texts])
    order = np.argsort(given, kind="stable")
    lengths = given[order]
    ends = np.cumsum(lengths)
    starts, total = ends - lengths, int(ends[-1])
    rows = _height(total) if device.type == "cpu" else total
    ids, places = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
    np.concatenate([texts[index].ids for index in order], out=ids[:total])
    if unplaced is None:
        places[:total] = np.arange(total) - np.repeat(starts, lengths)
    else:
        placed = ids[:total] != unplaced
        counted = np.cumsum(placed)
        places[:total] = (counted - np.repeat(counted[starts] - placed[starts], lengths)) * placed
    if kinds > 1:
        at = 0
        for index in order:
            kind, length = texts[index].kinds, given[index]
            if kind is not None:
                places[at : at + length] += positions * np.minimum(kind, kinds - 1)
            at += length
    groups = []
    first = 0
    while first < len(lengths):
        end = int(np.searchsorted(lengths, lengths[first] * _PADDING + 2, side="right"))
        groups.append(_group(lengths[first:end], int(starts[first]), first, device))
        first = end
    step = BLOCK if device.type == "cpu" else rows
    return Packing(
        ids=torch.from_numpy(ids).to(device),
        places=torch.from_numpy(places).to(device),
        lengths=lengths,
        starts=starts,
        order=order,
        groups=groups,
        blocks=[slice(begin, min(begin + step, rows)) for begin in range(0, rows, step)],
    )


def _height(rows: int) -> int:
    """`rows`, rounded up so that the last block has one of few heights."""
    last = rows % BLOCK
    step = 4 if last <= _FINE else 16
    return rows + -last % step


def _group(lengths: NDArray[np.int64], start: int, first: int, device: torch.device) -> Group:
    count, longest, tokens = len(lengths), int(lengths[-1]), int(lengths.sum())
    spread = held = mask = None
    if lengths[0] != longest:
        place = np.arange(longest)
        is_held = place < lengths[:, None]  # [count, longest]
        begins = np.cumsum(lengths) - lengths
        nearest = begins[:, None] + np.minimum(place, lengths[:, None] - 1)
        spread = torch.from_numpy(nearest.ravel()).to(device)
        held = torch.from_numpy(np.flatnonzero(is_held)).to(device)
        mask = torch.from_numpy(is_held[:, None, None, :]).to(device)
    return Group(start, start + tokens, first, count, longest, spread, held, mask)

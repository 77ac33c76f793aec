from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from services.nlp.networks.packing import BLOCK, Packing, pack
from services.nlp.tokens import Tokens

CPU = torch.device("cpu")


def packed(lengths: list[int]) -> tuple[list[Tokens], Packing]:
    texts = [
        Tokens(np.arange(index * 1000, index * 1000 + length), None, False)
        for index, length in enumerate(lengths)
    ]
    return texts, pack(texts, CPU, positions=512)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=40))
def test_a_packing_holds_every_token_once_with_little_padding(lengths: list[int]) -> None:
    texts, packing = packed(lengths)
    for place, index in enumerate(packing.order):
        rows = slice(packing.starts[place], packing.starts[place] + lengths[index])
        assert packing.ids[rows].tolist() == texts[index].ids.tolist()
        assert packing.places[rows].tolist() == list(range(lengths[index]))
    assert [group.start for group in packing.groups] == [0, *(g.stop for g in packing.groups[:-1])]
    assert packing.groups[-1].stop == sum(lengths)
    assert sum(group.count for group in packing.groups) == len(lengths)
    for group in packing.groups:
        tokens = group.stop - group.start
        assert group.count * group.longest <= 1.25 * tokens + 2 * group.count
        assert (group.spread is None) == (tokens == group.count * group.longest)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=40))
def test_padded_places_hold_their_own_texts_tokens_only(lengths: list[int]) -> None:
    texts, packing = packed(lengths)
    for group in packing.groups:
        if group.spread is None or group.held is None or group.mask is None:
            continue
        ids = packing.ids[group.start : group.stop]
        rows = ids[group.spread].view(group.count, group.longest)
        for row, mask, index in zip(rows, group.mask[:, 0, 0], packing.order[group.first :], strict=False):
            assert row[mask].tolist() == texts[index].ids.tolist()
            assert set(row.tolist()) == set(texts[index].ids.tolist())
        assert rows.view(-1)[group.held].tolist() == ids.tolist()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=40))
def test_blocks_cover_the_rows_and_have_few_heights(lengths: list[int]) -> None:
    _, packing = packed(lengths)
    rows = len(packing.ids)
    assert 0 <= rows - sum(lengths) < 16
    assert [index for block in packing.blocks for index in range(rows)[block]] == list(range(rows))
    heights = {len(range(rows)[block]) for block in packing.blocks}
    assert heights <= {BLOCK, *range(4, 65, 4), *range(80, BLOCK, 16)}


def test_a_padding_token_inside_a_text_takes_no_position() -> None:
    text = Tokens(np.array([0, 7, 1, 8, 2]), None, False)
    packing = pack([text, text], CPU, positions=100, unplaced=1)
    assert packing.places[:10].tolist() == [1, 2, 0, 3, 4] * 2


def test_kinds_of_token_choose_their_part_of_the_table() -> None:
    pair = Tokens(np.array([5, 6, 7]), np.array([0, 1, 1]), False)
    alone = Tokens(np.array([5, 6]), None, False)
    packing = pack([pair, alone], CPU, positions=100, kinds=2)
    assert packing.places[:5].tolist() == [0, 1, 0, 101, 102]
    assert pack([pair], CPU, positions=100).places[:3].tolist() == [0, 1, 2]

"""tritonclient's gRPC and HTTP clients, sync and asyncio, as they are published."""

from __future__ import annotations

import ast
from collections.abc import Callable

import pytest

from tests.interop.conftest import CHECKS

CLAIMS = [
    node.name
    for node in ast.parse(CHECKS.read_text()).body
    if isinstance(node, ast.FunctionDef) and not node.args.args and node.name not in ("arrays", "main")
]


@pytest.mark.parametrize("target", ["replica", "gateway"])
@pytest.mark.parametrize("claim", CLAIMS)
def test_of_tritons_clients(outcomes: Callable[[str], dict[str, str]], target: str, claim: str) -> None:
    ended = outcomes(target)
    assert claim in ended, f"the checks ended before this one: {ended}"
    assert ended[claim] == "", ended[claim]

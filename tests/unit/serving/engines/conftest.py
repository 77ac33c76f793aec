from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meshwork.serving.card import ModelCard, ModelDirectory

DirectoryWith = Callable[..., ModelDirectory]


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache in which each network is exported once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def cache_of_tests(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps the user's own cache out."""
    monkeypatch.setenv("MESHWORK_CACHE", str(shared_cache))


@pytest.fixture
def cache(cache_of_tests: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that is empty."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("MESHWORK_CACHE", str(folder))
    return folder


@pytest.fixture
def directory_with(tmp_path: Path) -> DirectoryWith:
    """Makes the directory of a model whose card says what is given."""

    def made(**says: Any) -> ModelDirectory:
        card = ModelCard(
            **{
                "name": "tiny",
                "version": "1",
                "service": "vision",
                "task": "tensors",
                "methods": ("Classify",),
                **says,
            }
        )
        return ModelDirectory(path=tmp_path, card=card, source="tiny")

    return made

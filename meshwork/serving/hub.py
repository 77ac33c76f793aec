"""Models from the Hugging Face hub, or whatever speaks its protocol at HF_ENDPOINT.

huggingface_hub does the work, with its cache, its resuming and its variables (HF_TOKEN, HF_HOME,
HF_HUB_OFFLINE). Weights are fetched as safetensors or ONNX only, unless the operator allowed pickle.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from meshwork.serving.card import CardError

SCHEME = "hf://"
_REPOSITORY = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
_WANTED = ["*.json", "*.txt", "*.model", "*.safetensors", "*.onnx", "*.yaml", "*.jinja", "*.spm", "*.vocab"]
_PICKLED = ["*.bin", "*.pt", "*.pth"]


def fetch(source: str, on_progress: Callable[[str], None], *, pickle: bool = False) -> Path:
    """The local directory of `hf://ORG/NAME@REVISION`; downloads what the cache lacks. Blocks.

    Args:
        on_progress: told in words how far the download is.
        pickle: fetch pickled weights too.

    Raises:
        CardError: the hub or the cache cannot give it; says why.
    """
    match = _REPOSITORY.fullmatch(source.removeprefix(SCHEME))
    if match is None:
        raise CardError(f"{source}: should be {SCHEME}ORG/NAME or {SCHEME}ORG/NAME@REVISION")
    try:
        from huggingface_hub import snapshot_download
        from tqdm import tqdm
    except ImportError as error:
        raise CardError(f"{source}: needs huggingface_hub: pip install huggingface_hub") from error

    class Progress(tqdm):  # type: ignore[type-arg]  # not subscriptable when it runs
        """huggingface_hub's own bar, whose figures go to `on_progress` instead of the terminal."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": False, "file": _Nowhere(), "mininterval": 0.2})

        def display(self, *_: Any, **__: Any) -> None:
            if self.unit == "B" and self.total:
                on_progress(f"downloading {self.n / 1e6:.0f} of {self.total / 1e6:.0f} MB")

    try:
        folder = snapshot_download(
            match["name"],
            revision=match["revision"],
            allow_patterns=_WANTED + (_PICKLED if pickle else []),
            tqdm_class=Progress,  # type: ignore[arg-type]  # any tqdm will do
        )
    except Exception as error:  # the library's, httpx's, the file system's
        raise CardError(f"{source}: cannot be fetched: {_first_line(error)}") from error
    return Path(folder)


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


class _Nowhere:
    def write(self, _: str) -> None: ...
    def flush(self) -> None: ...

"""Networks and processors from a Hugging Face directory, by transformers' Auto classes.

transformers is imported when the first such model loads, not before. Nothing of the directory is run:
no remote code, no pickle unless the card's `allow_pickle` names the file.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from meshwork.devices import torch_device
from meshwork.serving.card import CardError, ModelDirectory

if TYPE_CHECKING:
    import torch

_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")


def load_pretrained(
    auto_class: str, directory: ModelDirectory, device: str, *, precision: str = "", **options: Any
) -> torch.nn.Module:
    """The network on `device`, ready to answer.

    Args:
        auto_class: name of a class of transformers, for example `AutoModelForImageClassification`.
        precision: of the weights, the card's by default; `float32` for `engine_for`, which casts.
        options: more arguments of its `from_pretrained`.

    Raises:
        CardError: the files are missing, unsafe or do not fit.
    """
    import torch

    folder = directory.weights_folder
    pickled = [name for name in _PICKLED if (folder / name).is_file()]
    safe = any(folder.glob("*.safetensors"))
    if not safe and pickled and not set(pickled) & set(directory.card.allow_pickle):
        raise CardError(
            f"{directory.source}: has its weights as {pickled[0]} only, which can run code when it is read; "
            f"convert it to safetensors, or say --allow-pickle {pickled[0]} if you trust its author"
        )
    network: Any = _load(
        auto_class,
        directory,
        use_safetensors=safe or not pickled,
        dtype=getattr(torch, precision or directory.card.precision),
        **options,
    )
    return network.to(torch_device(device)).eval()  # type: ignore[no-any-return]


def load_processor(auto_class: str, directory: ModelDirectory, **options: Any) -> Any:
    """A tokenizer, image processor or feature extractor.

    Args:
        auto_class: name of a class of transformers, for example `AutoTokenizer`.
        options: more arguments of its `from_pretrained`.

    Raises:
        CardError: its files are missing or do not fit.
    """
    return _load(auto_class, directory, **options)


def _load(auto_class: str, directory: ModelDirectory, **options: Any) -> Any:
    try:
        import transformers
    except ImportError as error:
        raise CardError(f"{directory.source}: needs transformers: pip install transformers") from error
    chatter: Any = transformers.utils.logging
    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    try:
        return getattr(transformers, auto_class).from_pretrained(
            directory.weights_folder, local_files_only=True, trust_remote_code=False, **options
        )
    except Exception as error:  # transformers raises nearly anything on files that do not fit
        raise CardError(f"{directory.source}: {auto_class}: {error}") from error

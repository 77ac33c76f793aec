"""A directory's network: packed where its architecture is known, else run by transformers, padded.

==============  =======================================================================
packed          BERT, RoBERTa (XLM-RoBERTa, CamemBERT), DistilBERT: no padding
padded          whatever else transformers' Auto class loads (DeBERTa, ELECTRA, ...)
==============  =======================================================================

Packing is torch's alone: a card that names another engine has its network padded. `auto` packs.
"""

from __future__ import annotations

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from meshwork.serving.card import CardError, ModelDirectory
from meshwork.serving.pretrained import load_pretrained
from services.nlp.networks.layouts import EncoderConfig, Layout, read_config
from services.nlp.networks.packed import PackedNetwork
from services.nlp.networks.padded import load_padded
from services.nlp.networks.reading import Reading, TextNetwork

_PACK = ("torch", "auto")


def load_network(directory: ModelDirectory, device: str, reading: Reading) -> TextNetwork:
    """The network of a Hugging Face directory, in the card's precision.

    Raises:
        CardError: a file is missing or does not fit.
    """
    try:
        raw = read_config(directory.file("config.json"))
        config = EncoderConfig.of(raw)
        if config is None or directory.card.engine not in _PACK:
            return load_padded(directory, device, reading)
        stored = _stored(directory, reading, config.layout)
        return PackedNetwork(config, stored, reading, device, getattr(torch, directory.card.precision))
    except CardError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, SafetensorError) as error:
        raise CardError(f"{directory.source}: {error}") from error


def _stored(directory: ModelDirectory, reading: Reading, layout: Layout) -> dict[str, Tensor]:
    """The weights by name, without the layout's prefix; BERT's first files call a norm's gamma and beta."""
    folder = directory.weights_folder
    if not any(folder.glob("*.safetensors")) and any(folder.glob("pytorch_model.bin*")):
        stored = load_pretrained(reading.auto_class, directory, "cpu").state_dict()
    elif directory.has("model.safetensors.index.json"):
        parts = set(read_config(directory.file("model.safetensors.index.json"))["weight_map"].values())
        stored = {name: tensor for part in parts for name, tensor in load_file(directory.file(part)).items()}
    else:
        stored = load_file(directory.file("model.safetensors"))
    return {
        name.removeprefix(layout.prefix)
        .replace("LayerNorm.gamma", "LayerNorm.weight")
        .replace("LayerNorm.beta", "LayerNorm.bias"): tensor
        for name, tensor in stored.items()
    }

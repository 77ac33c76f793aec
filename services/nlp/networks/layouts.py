"""How the files of Hugging Face lay out BERT's encoder: BERT, RoBERTa and DistilBERT.

All three are the same network (Devlin et al., 2018) under different names: RoBERTa (Liu et al., 2019)
counts positions from behind its padding token's id, DistilBERT (Sanh et al., 2019) has no kinds of
token. XLM-RoBERTa and CamemBERT are RoBERTa with other words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Step = tuple[str, str]  # a linear layer's name, and what is applied to its output: "", "tanh" or "relu"


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Names in the weights; what a layer has, without the layer's own prefix."""

    prefix: str  # of the encoder in a network with a head
    layer: str = "encoder.layer.{}."
    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    mix: str = "attention.output.dense"
    mix_norm: str = "attention.output.LayerNorm"
    widen: str = "intermediate.dense"
    narrow: str = "output.dense"
    narrow_norm: str = "output.LayerNorm"
    kinds: bool = True  # tokens have kinds (segments)
    behind_padding: bool = False  # positions begin behind the padding token's id
    classifier: tuple[Step, ...] = (("pooler.dense", "tanh"), ("classifier", ""))
    layers_key: str = "num_hidden_layers"  # names in config.json
    heads_key: str = "num_attention_heads"
    activation_key: str = "hidden_act"


BERT = Layout(prefix="bert.")
ROBERTA = Layout(
    prefix="roberta.",
    behind_padding=True,
    classifier=(("classifier.dense", "tanh"), ("classifier.out_proj", "")),
)
DISTILBERT = Layout(
    prefix="distilbert.",
    layer="transformer.layer.{}.",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    mix="attention.out_lin",
    mix_norm="sa_layer_norm",
    widen="ffn.lin1",
    narrow="ffn.lin2",
    narrow_norm="output_layer_norm",
    kinds=False,
    classifier=(("pre_classifier", "relu"), ("classifier", "")),
    layers_key="n_layers",
    heads_key="n_heads",
    activation_key="activation",
)
LAYOUTS = {
    "bert": BERT,
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "camembert": ROBERTA,
    "distilbert": DISTILBERT,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderConfig:
    """What of a `config.json` gives a packed encoder its shape; the weights give the rest."""

    layout: Layout
    layers: int
    heads: int
    eps: float  # of the layer norms
    padding: int  # the padding token's id
    raw: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> EncoderConfig | None:
        """The shape, or None if the network is of another kind than can be packed."""
        layout = LAYOUTS.get(str(raw.get("model_type")))
        plain = (
            layout is not None
            and raw.get(layout.activation_key, "gelu") == "gelu"
            and raw.get("position_embedding_type", "absolute") == "absolute"
            and not raw.get("is_decoder", False)
        )
        if layout is None or not plain:
            return None
        try:
            return cls(
                layout=layout,
                layers=int(raw[layout.layers_key]),
                heads=int(raw[layout.heads_key]),
                eps=float(raw.get("layer_norm_eps", 1e-12)),
                padding=int(raw.get("pad_token_id", 1 if layout.behind_padding else 0)),
                raw=raw,
            )
        except KeyError as error:
            raise ValueError(f"config.json: lacks {error.args[0]}") from error


def read_config(file: Path) -> dict[str, Any]:
    """A `config.json`.

    Raises:
        ValueError: it is no mapping in JSON.
    """
    content = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{file}: should be a mapping")
    return content

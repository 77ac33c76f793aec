"""The two halves of a CLIP network, each a module of its own for an engine to run."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class ImageTower(nn.Module):
    """Images to vectors of the shared space, of any length.

    Args:
        clip: a transformers CLIPModel, whose modules this one takes.
    """

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.encoder = clip.vision_model
        self.projection = clip.visual_projection

    def forward(self, pixel_values: Tensor) -> Tensor:
        """float [batch, 3, height, width] to [batch, dimension]."""
        vectors: Tensor = self.projection(self.encoder(pixel_values=pixel_values).pooler_output)
        return vectors


class TextTower(nn.Module):
    """Texts to vectors of the shared space, of any length.

    Attention is causal and the vector is taken at the first end mark, so that what pads a text behind
    its end mark changes nothing, and no mask is needed.

    Args:
        clip: a transformers CLIPModel, whose modules this one takes.
    """

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.encoder = clip.text_model
        self.projection = clip.text_projection

    def forward(self, input_ids: Tensor) -> Tensor:
        """int64 [batch, tokens], padded with end marks, to [batch, dimension]."""
        vectors: Tensor = self.projection(self.encoder(input_ids=input_ids).pooler_output)
        return vectors


def weights(tower: nn.Module) -> int:
    """Parameters that each token of a tower's input meets."""
    return sum(parameter.numel() for name, parameter in tower.named_parameters() if "embedding" not in name)

"""A small convolutional network for one handwritten digit."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SIDE = 32  # pixels of the square input
CLASSES = 10


def _block(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


class DigitCnn(nn.Module):
    """Ink in, a logit a digit out.

    Three convolutions, halving the picture each time, and two linear layers: 90,000 weights.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _block(1, 16, stride=2),
            _block(16, 32),
            nn.MaxPool2d(2),
            _block(32, 64),
            nn.MaxPool2d(2),
        )
        self.head = nn.Sequential(
            nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 4 * 4, 64), nn.ReLU(), nn.Linear(64, CLASSES)
        )

    def forward(self, ink: Tensor) -> Tensor:
        """Logits of the ten digits.

        Args:
            ink: float32 [batch, 32, 32], 0 for background and 1 for ink.

        Returns:
            float32 [batch, 10].
        """
        picture: Tensor = self.body(ink.unsqueeze(1))  # [b, 1, 32, 32] -> [b, 64, 4, 4]
        logits: Tensor = self.head(picture)
        return logits


def blank() -> DigitCnn:
    """A network whose weights are to be assigned: nothing is drawn for them."""
    with torch.device("meta"):
        return DigitCnn()

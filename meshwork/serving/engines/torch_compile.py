"""torch.compile: torch writes and compiles code for this very network, which takes minutes the first time.

It keeps what it compiled in its own cache. On the CPU it needs a C++ compiler on the machine.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from meshwork.serving.engines.engine import Arrays
from meshwork.serving.engines.torch_eager import TorchEngine


class TorchCompileEngine(TorchEngine):
    """The network of a `TorchEngine`, compiled for any batch size; it shares that engine's weights.

    Args:
        engine: an engine that is ready.
        batches: what it is compiled on: one item, and several.

    Raises:
        Exception: torch cannot compile it here.
    """

    def __init__(self, engine: TorchEngine, *batches: Arrays) -> None:
        self.name = "torch-compile"
        self.inputs = engine.inputs
        self.outputs = engine.outputs
        self.verdict = None
        self.place = engine.place
        self._channels_last = engine._channels_last
        self.network = cast(Any, torch.compile(cast(nn.Module, engine.network), dynamic=True))
        for batch in reversed(batches):
            self.run(batch)

"""Exporting a torch network to ONNX, for the engines that read it.

The export follows one run of the network (torch.export) in which every size that a spec leaves open
is symbolic, so that one file takes any batch and length. It is kept by the hash of the network.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from meshwork.serving.card import CardError
from meshwork.serving.engines.cache import digest, forget, kept, path_of
from meshwork.serving.engines.engine import Arrays
from meshwork.serving.engines.identity import installed, network_hash
from meshwork.serving.engines.torch_eager import NamedNetwork, TorchEngine

# What torch's exporter says about the rest of torch is no news of this process.
warnings.filterwarnings("ignore", category=FutureWarning, message=".*LeafSpec")
_LARGE_BYTES = 1_500_000_000  # a protobuf file holds 2 GB: above this, weights lie beside it


class Export:
    """A torch network as an ONNX file.

    Args:
        engine: of the network, in float32.
        example: a batch that it takes.
    """

    def __init__(self, engine: TorchEngine, example: Arrays) -> None:
        self._engine = engine
        self._example = example

    @cached_property
    def key(self) -> str:
        """What the file is kept by."""
        engine = self._engine
        network = network_hash(engine.network, engine.inputs, engine.outputs)
        return digest(network, *(f"{name} {installed(name)}" for name in ("torch", "onnx", "onnxscript")))

    def is_kept(self) -> bool:
        """Whether the cache has the file."""
        return path_of("exports", self.key, "model.onnx").is_file()

    def file(self) -> Path:
        """The file, made if the cache has none.

        Raises:
            CardError: the packages that export are missing.
            Exception: torch cannot export this network.
        """
        for package in ("onnx", "onnxscript"):
            if importlib.util.find_spec(package) is None:
                raise CardError(f"export to ONNX needs {package}: pip install meshwork[onnxruntime]")
        return kept("exports", self.key, "model.onnx", self._write)

    def forget(self) -> None:
        """Removes the file from the cache."""
        forget("exports", self.key)

    def _write(self, file: Path) -> None:
        engine = self._engine
        # It warns of operators of packages that are not installed.
        logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
        open_size = torch.export.Dim.DYNAMIC
        shapes = tuple(
            {axis: open_size for axis, size in enumerate(spec.shape) if size is None}
            for spec in engine.inputs
        )
        network: NamedNetwork = engine.network
        arrays = [self._example[spec.name] for spec in engine.inputs]
        torch.onnx.export(
            network.eval(),
            tuple(torch.from_numpy(np.array(array)).to(engine.place.device) for array in arrays),
            file,
            dynamo=True,
            verbose=False,
            external_data=engine.memory_bytes() > _LARGE_BYTES,
            input_names=[spec.name for spec in engine.inputs],
            output_names=[spec.name for spec in engine.outputs],
            dynamic_shapes=(shapes,),  # of the one *args that a NamedNetwork takes
        )

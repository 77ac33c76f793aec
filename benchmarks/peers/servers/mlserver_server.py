"""MLServer: the Open Inference Protocol over grpc.aio; batches by size and time, in the server's process."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.peers import workloads
from benchmarks.peers.servers.settings import Settings

SETTINGS = Settings.from_environment()


class Runtime(MLModel):  # type: ignore[misc]
    """One tensor in, one out."""

    async def load(self) -> bool:
        """Loads the network."""
        self._run = workloads.load(SETTINGS.workload, SETTINGS.threads)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """The batch that MLServer joined."""
        tensor = payload.inputs[0]
        if SETTINGS.workload == "text":
            inputs = StringCodec.decode_input(tensor)
        elif SETTINGS.workload == "vector":
            inputs = NumpyCodec.decode_input(tensor).reshape(-1, 64)
        else:
            inputs = list(tensor.data)
        output = NumpyCodec.encode_output("y", self._run(inputs))
        return InferenceResponse(model_name=self.name, outputs=[output])


def write_settings(folder: Path) -> None:
    """What MLServer reads: one file of the server, one of the model."""
    server = {
        "debug": False,
        "host": "127.0.0.1",
        "grpc_port": SETTINGS.port,
        "http_port": SETTINGS.port + 1,
        "metrics_port": SETTINGS.port + 2,
        "metrics_endpoint": None,
        "parallel_workers": 0 if SETTINGS.workers == 1 else SETTINGS.workers,
        "grpc_max_message_length": 10**7,
    }
    model = {
        "name": SETTINGS.workload,
        "implementation": "benchmarks.peers.servers.mlserver_server.Runtime",
        "max_batch_size": SETTINGS.max_batch,
        "max_batch_time": SETTINGS.max_wait_ms / 1000,
    }
    (folder / "settings.json").write_text(json.dumps(server), encoding="utf-8")
    (folder / "model").mkdir()
    (folder / "model" / "model-settings.json").write_text(json.dumps(model), encoding="utf-8")


if __name__ == "__main__":
    kept = Path(tempfile.mkdtemp(prefix="bench-mlserver-"))
    write_settings(kept)
    command = Path(sys.executable).with_name("mlserver")
    os.execv(command, [str(command), "start", str(kept)])

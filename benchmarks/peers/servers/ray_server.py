"""Ray Serve: a gRPC proxy, replicas behind Ray's own calls; batches by size and time."""

from __future__ import annotations

import os
import threading
from typing import Any

import grpc
import numpy as np
import ray
from google.protobuf.wrappers_pb2 import BytesValue
from ray import serve
from ray.serve.config import HTTPOptions, gRPCOptions

from benchmarks.peers.places import ROOT
from benchmarks.peers.servers.settings import Settings

SETTINGS = Settings.from_environment()


def add_to_server(servicer: Any, server: grpc.Server) -> None:
    """What generated code would be: `rpc Predict (BytesValue) returns (BytesValue)` of peer.Infer."""
    predict = grpc.unary_unary_rpc_method_handler(
        servicer.Predict,
        request_deserializer=BytesValue.FromString,
        response_serializer=BytesValue.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("peer.Infer", {"Predict": predict}),)
    )


@serve.deployment(num_replicas=SETTINGS.workers, max_ongoing_requests=128, ray_actor_options={"num_cpus": 1})
class Model:
    """Bytes in, float32 bytes out."""

    def __init__(self) -> None:
        from benchmarks.peers import workloads

        self._run = workloads.load(SETTINGS.workload, SETTINGS.threads)

    @serve.batch(max_batch_size=SETTINGS.max_batch, batch_wait_timeout_s=SETTINGS.max_wait_ms / 1000)
    async def infer(self, inputs: list[Any]) -> list[Any]:
        """The whole batch at once."""
        return list(self._run(inputs))

    async def Predict(self, request: BytesValue) -> BytesValue:
        """One call through the gRPC proxy."""
        value: Any = request.value
        if SETTINGS.workload == "text":
            value = value.decode()
        elif SETTINGS.workload == "vector":
            value = np.frombuffer(value, np.float32)
        return BytesValue(value=(await self.infer(value)).tobytes())


if __name__ == "__main__":
    os.environ["PYTHONPATH"] = str(ROOT)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        num_cpus=4,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        log_to_driver=False,
        object_store_memory=200 << 20,
    )
    serve.start(
        http_options=HTTPOptions(host="127.0.0.1", port=SETTINGS.port + 1),
        grpc_options=gRPCOptions(
            port=SETTINGS.port,
            grpc_servicer_functions=["benchmarks.peers.servers.ray_server.add_to_server"],
        ),
    )
    serve.run(Model.bind(), name="peer", route_prefix="/")
    threading.Event().wait()

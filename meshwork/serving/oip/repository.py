"""What a server says of itself and of the models it has, a replica and a whole mesh alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import meshwork
from meshwork.errors import Unimplemented
from meshwork.router.v1 import router_pb2

FULL_NAME = "inference.GRPCInferenceService"
REST_SERVICE = "inference.MeshRestService"  # the router's; the gateway makes gRPC of REST for it
BACKEND = "meshwork"
EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "statistics")

_STATES = {
    router_pb2.MODEL_STATE_READY: "READY",
    router_pb2.MODEL_STATE_LOADING: "LOADING",
}


def server_metadata() -> dict[str, Any]:
    """What the server is: ServerMetadata."""
    return {"name": BACKEND, "version": meshwork.__version__, "extensions": list(EXTENSIONS)}


def index(models: Iterable[router_pb2.Model], *, ready: bool) -> list[dict[str, str]]:
    """The entries of RepositoryIndex; `ready` leaves out what is not."""
    return [
        {
            "name": model.name,
            "version": model.version,
            "state": _STATES.get(model.state, "UNAVAILABLE"),
            "reason": model.error or model.progress,
        }
        for model in models
        if model.state == router_pb2.MODEL_STATE_READY or not ready
    ]


def no_new_configuration(field: str) -> Unimplemented:
    """Says that a load takes a model as it is known."""
    return Unimplemented(
        f"{field}: a model is loaded as the mesh knows it; add one of another configuration by "
        "`meshwork models add`"
    )

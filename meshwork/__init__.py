"""Meshwork: AI models as typed gRPC services that anyone can run.

`connect` and `connect_async` give a client of a running mesh; `MeshworkError` is the root of what
its calls raise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meshwork.client import AsyncClient, Client, connect, connect_async
    from meshwork.errors import MeshworkError

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "MeshworkError", "__version__", "connect", "connect_async"]

_HOMES = {
    "AsyncClient": "client",
    "Client": "client",
    "MeshworkError": "errors",
    "connect": "client",
    "connect_async": "client",
}


def __getattr__(name: str) -> Any:
    # Imported when first used: a replica, which calls nobody, does not load the clients.
    if name not in _HOMES:
        raise AttributeError(f"module 'meshwork' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"meshwork.{_HOMES[name]}"), name)

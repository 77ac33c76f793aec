"""Typed clients of `meshwork.admin.v1`. Generated from meshwork/admin/v1/admin.proto; do not edit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence

from meshwork import calls
from meshwork.admin.v1 import admin_pb2 as pb


class AdminClient(calls.SyncService):
    """Adds, loads, unloads and removes models, drains and restarts replicas on the running mesh. A change is written down and taken up by every replica of the service, those that start later included; ListReplicas of RouterService shows how far each one is."""

    FULL_NAME = "meshwork.admin.v1.AdminService"

    def add_model(
        self,
        name: str,
        service: str,
        source: str,
        *,
        version: str = "",
        task: str = "",
        default: bool = False,
        device: str = "",
        on_demand: bool = False,
        engine: str = "",
        precision: str = "",
        tolerance: float = 0.0,
        providers: str | Sequence[str] = (),
        parameters: str = "",
        allow_pickle: str | Sequence[str] = (),
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.AddModelResponse:
        """Adds a model version to a service.

        Args:
            name: Name by which callers will ask for it: lower-case letters, digits and `._-`,
                at most 64.
            service: Service that is to serve it, for example `nlp`.
            source: Where it is, as its replicas see it: a directory (with a card.yaml, or as
                Hugging Face lays one out), a file (.onnx, .pt2, .pt), `hf://ORG/NAME@REVISION`
                or `starter://NAME`.
            version: Version, for example `2`. Empty for the card's, else `1`.
            task: Which of the service's tasks runs it. Empty to tell by its architecture.
            default: Whether it answers callers who name no model.
            device: Device, for example `cuda:0`, or several by commas, on which it then runs in
                parallel. Empty for the service's.
            on_demand: Whether to load it only for its first caller.
            engine: What runs it: `torch`, `torch-compile`, `onnxruntime`, `openvino`, or `auto`
                for the fastest of them.
            precision: Precision of its weights on the device: `float32`, `bfloat16` or
                `float16`.
            tolerance: By how much an engine's outputs may differ from the reference. 0 for the
                card's, else 0.0001.
            providers: Execution providers of onnxruntime, best first, for example `CUDA`.
            parameters: The task's own settings, as a JSON object.
            allow_pickle: Files of the source that may be unpickled, which runs code in them:
                only from authors you trust.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.AddModelRequest(
            name=name,
            service=service,
            source=source,
            version=version,
            task=task,
            default=default,
            device=device,
            on_demand=on_demand,
            engine=engine,
            precision=precision,
            tolerance=tolerance,
            providers=calls.texts(providers),
            parameters=parameters,
            allow_pickle=calls.texts(allow_pickle),
        )
        return self._unary("AddModel", request, pb.AddModelResponse, timeout_s, metadata)

    def load_model(
        self,
        name: str,
        *,
        service: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.LoadModelResponse:
        """Loads a model that was unloaded or that could not be loaded.

        Args:
            name: The model: `name@version`, or `name` for its newest version.
            service: Its service. Empty if only one service has a model of that name.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.LoadModelRequest(
            name=name,
            service=service,
        )
        return self._unary("LoadModel", request, pb.LoadModelResponse, timeout_s, metadata)

    def unload_model(
        self,
        name: str,
        *,
        service: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.UnloadModelResponse:
        """Takes a model out of memory once its calls are answered.

        It stays known: a call loads it again.

        Args:
            name: The model: `name@version`, or `name` for its newest version.
            service: Its service. Empty if only one service has a model of that name.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.UnloadModelRequest(
            name=name,
            service=service,
        )
        return self._unary("UnloadModel", request, pb.UnloadModelResponse, timeout_s, metadata)

    def remove_model(
        self,
        name: str,
        *,
        service: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.RemoveModelResponse:
        """Takes a model out of its service once its calls are answered.

        Args:
            name: The model: `name@version`, or `name` for its newest version.
            service: Its service. Empty if only one service has a model of that name.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.RemoveModelRequest(
            name=name,
            service=service,
        )
        return self._unary("RemoveModel", request, pb.RemoveModelResponse, timeout_s, metadata)

    def drain_replica(
        self,
        replica: str,
        *,
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.DrainReplicaResponse:
        """Takes a replica out of traffic; once its calls are answered it ends.

        Who runs it may start another.

        Args:
            replica: Name of the replica, for example `nlp-4f7a`.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.DrainReplicaRequest(
            replica=replica,
        )
        return self._unary("DrainReplica", request, pb.DrainReplicaResponse, timeout_s, metadata)

    def restart_service(
        self,
        service: str,
        *,
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.RestartServiceResponse:
        """Replaces the replicas of a service one after another, a new one before each that goes.

        Args:
            service: The service, for example `nlp`.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.RestartServiceRequest(
            service=service,
        )
        return self._unary("RestartService", request, pb.RestartServiceResponse, timeout_s, metadata)

    def get_discovery(
        self,
        *,
        resources: bool = False,
        name_contains: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.GetDiscoveryResponse:
        """Shows what this router tells Envoy and gRPC clients (xDS), and how each one took it.

        Args:
            resources: Whether to decode the resources of the snapshot too; they are large.
            name_contains: Only resources whose name has this in it. Empty for all.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.GetDiscoveryRequest(
            resources=resources,
            name_contains=name_contains,
        )
        return self._unary("GetDiscovery", request, pb.GetDiscoveryResponse, timeout_s, metadata)

    def get_restart(
        self,
        service: str,
        *,
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.GetRestartResponse:
        """Shows how far the last rolling restart of a service is.

        Args:
            service: The service, for example `nlp`.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.GetRestartRequest(
            service=service,
        )
        return self._unary("GetRestart", request, pb.GetRestartResponse, timeout_s, metadata)


class AsyncAdminClient(calls.AsyncService):
    """Adds, loads, unloads and removes models, drains and restarts replicas on the running mesh. A change is written down and taken up by every replica of the service, those that start later included; ListReplicas of RouterService shows how far each one is."""

    FULL_NAME = "meshwork.admin.v1.AdminService"

    async def add_model(
        self,
        name: str,
        service: str,
        source: str,
        *,
        version: str = "",
        task: str = "",
        default: bool = False,
        device: str = "",
        on_demand: bool = False,
        engine: str = "",
        precision: str = "",
        tolerance: float = 0.0,
        providers: str | Sequence[str] = (),
        parameters: str = "",
        allow_pickle: str | Sequence[str] = (),
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.AddModelResponse:
        """Adds a model version to a service.

        Args:
            name: Name by which callers will ask for it: lower-case letters, digits and `._-`,
                at most 64.
            service: Service that is to serve it, for example `nlp`.
            source: Where it is, as its replicas see it: a directory (with a card.yaml, or as
                Hugging Face lays one out), a file (.onnx, .pt2, .pt), `hf://ORG/NAME@REVISION`
                or `starter://NAME`.
            version: Version, for example `2`. Empty for the card's, else `1`.
            task: Which of the service's tasks runs it. Empty to tell by its architecture.
            default: Whether it answers callers who name no model.
            device: Device, for example `cuda:0`, or several by commas, on which it then runs in
                parallel. Empty for the service's.
            on_demand: Whether to load it only for its first caller.
            engine: What runs it: `torch`, `torch-compile`, `onnxruntime`, `openvino`, or `auto`
                for the fastest of them.
            precision: Precision of its weights on the device: `float32`, `bfloat16` or
                `float16`.
            tolerance: By how much an engine's outputs may differ from the reference. 0 for the
                card's, else 0.0001.
            providers: Execution providers of onnxruntime, best first, for example `CUDA`.
            parameters: The task's own settings, as a JSON object.
            allow_pickle: Files of the source that may be unpickled, which runs code in them:
                only from authors you trust.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.AddModelRequest(
            name=name,
            service=service,
            source=source,
            version=version,
            task=task,
            default=default,
            device=device,
            on_demand=on_demand,
            engine=engine,
            precision=precision,
            tolerance=tolerance,
            providers=calls.texts(providers),
            parameters=parameters,
            allow_pickle=calls.texts(allow_pickle),
        )
        return await self._unary("AddModel", request, pb.AddModelResponse, timeout_s, metadata)

    async def load_model(
        self,
        name: str,
        *,
        service: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.LoadModelResponse:
        """Loads a model that was unloaded or that could not be loaded.

        Args:
            name: The model: `name@version`, or `name` for its newest version.
            service: Its service. Empty if only one service has a model of that name.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.LoadModelRequest(
            name=name,
            service=service,
        )
        return await self._unary("LoadModel", request, pb.LoadModelResponse, timeout_s, metadata)

    async def unload_model(
        self,
        name: str,
        *,
        service: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.UnloadModelResponse:
        """Takes a model out of memory once its calls are answered.

        It stays known: a call loads it again.

        Args:
            name: The model: `name@version`, or `name` for its newest version.
            service: Its service. Empty if only one service has a model of that name.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.UnloadModelRequest(
            name=name,
            service=service,
        )
        return await self._unary("UnloadModel", request, pb.UnloadModelResponse, timeout_s, metadata)

    async def remove_model(
        self,
        name: str,
        *,
        service: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.RemoveModelResponse:
        """Takes a model out of its service once its calls are answered.

        Args:
            name: The model: `name@version`, or `name` for its newest version.
            service: Its service. Empty if only one service has a model of that name.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.RemoveModelRequest(
            name=name,
            service=service,
        )
        return await self._unary("RemoveModel", request, pb.RemoveModelResponse, timeout_s, metadata)

    async def drain_replica(
        self,
        replica: str,
        *,
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.DrainReplicaResponse:
        """Takes a replica out of traffic; once its calls are answered it ends.

        Who runs it may start another.

        Args:
            replica: Name of the replica, for example `nlp-4f7a`.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.DrainReplicaRequest(
            replica=replica,
        )
        return await self._unary("DrainReplica", request, pb.DrainReplicaResponse, timeout_s, metadata)

    async def restart_service(
        self,
        service: str,
        *,
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.RestartServiceResponse:
        """Replaces the replicas of a service one after another, a new one before each that goes.

        Args:
            service: The service, for example `nlp`.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.RestartServiceRequest(
            service=service,
        )
        return await self._unary("RestartService", request, pb.RestartServiceResponse, timeout_s, metadata)

    async def get_discovery(
        self,
        *,
        resources: bool = False,
        name_contains: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.GetDiscoveryResponse:
        """Shows what this router tells Envoy and gRPC clients (xDS), and how each one took it.

        Args:
            resources: Whether to decode the resources of the snapshot too; they are large.
            name_contains: Only resources whose name has this in it. Empty for all.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.GetDiscoveryRequest(
            resources=resources,
            name_contains=name_contains,
        )
        return await self._unary("GetDiscovery", request, pb.GetDiscoveryResponse, timeout_s, metadata)

    async def get_restart(
        self,
        service: str,
        *,
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.GetRestartResponse:
        """Shows how far the last rolling restart of a service is.

        Args:
            service: The service, for example `nlp`.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.GetRestartRequest(
            service=service,
        )
        return await self._unary("GetRestart", request, pb.GetRestartResponse, timeout_s, metadata)

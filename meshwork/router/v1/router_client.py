"""Typed clients of `meshwork.router.v1`. Generated from meshwork/router/v1/router.proto; do not edit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence

from meshwork import calls
from meshwork.router.v1 import router_pb2 as pb


class RouterClient(calls.SyncService):
    """Discovery: which services, replicas and models there are."""

    FULL_NAME = "meshwork.router.v1.RouterService"

    def list_services(
        self,
        *,
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> list[pb.Service]:
        """Lists the services of the mesh, those without a replica included.

        All pages are fetched.

        Args:
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.ListServicesRequest(
        )
        pages = self._pages("ListServices", request, pb.ListServicesResponse, timeout_s, metadata)
        return [entry for page in pages for entry in page.services]

    def list_replicas(
        self,
        *,
        service: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> list[pb.Replica]:
        """Lists the replicas that hold a lease.

        All pages are fetched.

        Args:
            service: Only replicas of this service. Empty for all.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.ListReplicasRequest(
            service=service,
        )
        pages = self._pages("ListReplicas", request, pb.ListReplicasResponse, timeout_s, metadata)
        return [entry for page in pages for entry in page.replicas]

    def list_models(
        self,
        *,
        service: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> list[pb.ServedModel]:
        """Lists the models that replicas serve.

        All pages are fetched.

        Args:
            service: Only models of this service. Empty for all.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.ListModelsRequest(
            service=service,
        )
        pages = self._pages("ListModels", request, pb.ListModelsResponse, timeout_s, metadata)
        return [entry for page in pages for entry in page.models]

    def watch(
        self,
        *,
        service: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> Iterator[pb.WatchResponse]:
        """Sends the replicas there are as ADDED and then each change as it comes, until the caller leaves.

        Args:
            service: Only replicas of this service. Empty for all.
            timeout_s: seconds until the stream ends; None for no end.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.WatchRequest(
            service=service,
        )
        return self._stream("Watch", request, pb.WatchResponse, timeout_s, metadata)

    def get_mesh(
        self,
        *,
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.GetMeshResponse:
        """Tells how the mesh's control plane is: this router, the leader, and whether the state is fresh.

        Args:
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.GetMeshRequest(
        )
        return self._unary("GetMesh", request, pb.GetMeshResponse, timeout_s, metadata)

    def list_events(
        self,
        *,
        service: str = "",
        subject: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> list[pb.Event]:
        """Lists what happened in the mesh lately, the newest first.

        All pages are fetched.

        Args:
            service: Only events of this service. Empty for all.
            subject: Only events about this replica, router, model or client. Empty for all.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.ListEventsRequest(
            service=service,
            subject=subject,
        )
        pages = self._pages("ListEvents", request, pb.ListEventsResponse, timeout_s, metadata)
        return [entry for page in pages for entry in page.events]

    def watch_events(
        self,
        *,
        service: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> Iterator[pb.WatchEventsResponse]:
        """Sends each event as it happens, until the caller leaves.

        Args:
            service: Only events of this service. Empty for all.
            timeout_s: seconds until the stream ends; None for no end.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.WatchEventsRequest(
            service=service,
        )
        return self._stream("WatchEvents", request, pb.WatchEventsResponse, timeout_s, metadata)

    def watch_load(
        self,
        *,
        service: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> Iterator[pb.WatchLoadResponse]:
        """Sends what the mesh's load is now, and again every two seconds, until the caller leaves.

        Args:
            service: Only this service. Empty for all.
            timeout_s: seconds until the stream ends; None for no end.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.WatchLoadRequest(
            service=service,
        )
        return self._stream("WatchLoad", request, pb.WatchLoadResponse, timeout_s, metadata)


class AsyncRouterClient(calls.AsyncService):
    """Discovery: which services, replicas and models there are."""

    FULL_NAME = "meshwork.router.v1.RouterService"

    async def list_services(
        self,
        *,
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> list[pb.Service]:
        """Lists the services of the mesh, those without a replica included.

        All pages are fetched.

        Args:
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.ListServicesRequest(
        )
        pages = await self._pages("ListServices", request, pb.ListServicesResponse, timeout_s, metadata)
        return [entry for page in pages for entry in page.services]

    async def list_replicas(
        self,
        *,
        service: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> list[pb.Replica]:
        """Lists the replicas that hold a lease.

        All pages are fetched.

        Args:
            service: Only replicas of this service. Empty for all.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.ListReplicasRequest(
            service=service,
        )
        pages = await self._pages("ListReplicas", request, pb.ListReplicasResponse, timeout_s, metadata)
        return [entry for page in pages for entry in page.replicas]

    async def list_models(
        self,
        *,
        service: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> list[pb.ServedModel]:
        """Lists the models that replicas serve.

        All pages are fetched.

        Args:
            service: Only models of this service. Empty for all.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.ListModelsRequest(
            service=service,
        )
        pages = await self._pages("ListModels", request, pb.ListModelsResponse, timeout_s, metadata)
        return [entry for page in pages for entry in page.models]

    def watch(
        self,
        *,
        service: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> AsyncIterator[pb.WatchResponse]:
        """Sends the replicas there are as ADDED and then each change as it comes, until the caller leaves.

        Args:
            service: Only replicas of this service. Empty for all.
            timeout_s: seconds until the stream ends; None for no end.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.WatchRequest(
            service=service,
        )
        return self._stream("Watch", request, pb.WatchResponse, timeout_s, metadata)

    async def get_mesh(
        self,
        *,
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.GetMeshResponse:
        """Tells how the mesh's control plane is: this router, the leader, and whether the state is fresh.

        Args:
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.GetMeshRequest(
        )
        return await self._unary("GetMesh", request, pb.GetMeshResponse, timeout_s, metadata)

    async def list_events(
        self,
        *,
        service: str = "",
        subject: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> list[pb.Event]:
        """Lists what happened in the mesh lately, the newest first.

        All pages are fetched.

        Args:
            service: Only events of this service. Empty for all.
            subject: Only events about this replica, router, model or client. Empty for all.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.ListEventsRequest(
            service=service,
            subject=subject,
        )
        pages = await self._pages("ListEvents", request, pb.ListEventsResponse, timeout_s, metadata)
        return [entry for page in pages for entry in page.events]

    def watch_events(
        self,
        *,
        service: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> AsyncIterator[pb.WatchEventsResponse]:
        """Sends each event as it happens, until the caller leaves.

        Args:
            service: Only events of this service. Empty for all.
            timeout_s: seconds until the stream ends; None for no end.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.WatchEventsRequest(
            service=service,
        )
        return self._stream("WatchEvents", request, pb.WatchEventsResponse, timeout_s, metadata)

    def watch_load(
        self,
        *,
        service: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> AsyncIterator[pb.WatchLoadResponse]:
        """Sends what the mesh's load is now, and again every two seconds, until the caller leaves.

        Args:
            service: Only this service. Empty for all.
            timeout_s: seconds until the stream ends; None for no end.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.WatchLoadRequest(
            service=service,
        )
        return self._stream("WatchLoad", request, pb.WatchLoadResponse, timeout_s, metadata)

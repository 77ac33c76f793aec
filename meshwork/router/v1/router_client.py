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
    ) -> list[pb.Service]:
        """Lists the services of the mesh, those without a replica included.

        All pages are fetched.

        Args:
            timeout_s: seconds until the call fails; None for the client's.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.ListServicesRequest(
        )
        pages = self._pages("ListServices", request, pb.ListServicesResponse, timeout_s)
        return [entry for page in pages for entry in page.services]

    def list_replicas(
        self,
        *,
        service: str = "",
        timeout_s: float | None = None,
    ) -> list[pb.Replica]:
        """Lists the replicas that hold a lease.

        All pages are fetched.

        Args:
            service: Only replicas of this service. Empty for all.
            timeout_s: seconds until the call fails; None for the client's.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.ListReplicasRequest(
            service=service,
        )
        pages = self._pages("ListReplicas", request, pb.ListReplicasResponse, timeout_s)
        return [entry for page in pages for entry in page.replicas]

    def list_models(
        self,
        *,
        service: str = "",
        timeout_s: float | None = None,
    ) -> list[pb.ServedModel]:
        """Lists the models that replicas serve.

        All pages are fetched.

        Args:
            service: Only models of this service. Empty for all.
            timeout_s: seconds until the call fails; None for the client's.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.ListModelsRequest(
            service=service,
        )
        pages = self._pages("ListModels", request, pb.ListModelsResponse, timeout_s)
        return [entry for page in pages for entry in page.models]

    def watch(
        self,
        *,
        service: str = "",
        timeout_s: float | None = None,
    ) -> Iterator[pb.WatchResponse]:
        """Sends the replicas there are as ADDED and then each change as it comes, until the caller leaves.

        Args:
            service: Only replicas of this service. Empty for all.
            timeout_s: seconds until the stream ends; None for no end.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.WatchRequest(
            service=service,
        )
        return self._stream("Watch", request, pb.WatchResponse, timeout_s)


class AsyncRouterClient(calls.AsyncService):
    """Discovery: which services, replicas and models there are."""

    FULL_NAME = "meshwork.router.v1.RouterService"

    async def list_services(
        self,
        *,
        timeout_s: float | None = None,
    ) -> list[pb.Service]:
        """Lists the services of the mesh, those without a replica included.

        All pages are fetched.

        Args:
            timeout_s: seconds until the call fails; None for the client's.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.ListServicesRequest(
        )
        pages = await self._pages("ListServices", request, pb.ListServicesResponse, timeout_s)
        return [entry for page in pages for entry in page.services]

    async def list_replicas(
        self,
        *,
        service: str = "",
        timeout_s: float | None = None,
    ) -> list[pb.Replica]:
        """Lists the replicas that hold a lease.

        All pages are fetched.

        Args:
            service: Only replicas of this service. Empty for all.
            timeout_s: seconds until the call fails; None for the client's.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.ListReplicasRequest(
            service=service,
        )
        pages = await self._pages("ListReplicas", request, pb.ListReplicasResponse, timeout_s)
        return [entry for page in pages for entry in page.replicas]

    async def list_models(
        self,
        *,
        service: str = "",
        timeout_s: float | None = None,
    ) -> list[pb.ServedModel]:
        """Lists the models that replicas serve.

        All pages are fetched.

        Args:
            service: Only models of this service. Empty for all.
            timeout_s: seconds until the call fails; None for the client's.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.ListModelsRequest(
            service=service,
        )
        pages = await self._pages("ListModels", request, pb.ListModelsResponse, timeout_s)
        return [entry for page in pages for entry in page.models]

    def watch(
        self,
        *,
        service: str = "",
        timeout_s: float | None = None,
    ) -> AsyncIterator[pb.WatchResponse]:
        """Sends the replicas there are as ADDED and then each change as it comes, until the caller leaves.

        Args:
            service: Only replicas of this service. Empty for all.
            timeout_s: seconds until the stream ends; None for no end.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.WatchRequest(
            service=service,
        )
        return self._stream("Watch", request, pb.WatchResponse, timeout_s)

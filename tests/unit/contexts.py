"""Contexts of calls, as tests hand them to the runtime."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class FakeContext:
    """A call's context: `grpc.aio.ServicerContext` as far as the runtime asks it."""

    remaining_s: float | None = None
    metadata: tuple[tuple[str, str | bytes], ...] = ()
    address: str = "ipv4:127.0.0.1:1"

    def time_remaining(self) -> float | None:
        return self.remaining_s

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self.metadata

    def peer(self) -> str:
        return self.address

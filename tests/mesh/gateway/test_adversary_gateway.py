"""Callers who send what no client library would, and those who come after them."""

from __future__ import annotations

import socket
from typing import Any

import grpc
import pytest

from meshwork.nlp.v1 import nlp_pb2, nlp_pb2_grpc

EMBED = b"POST /meshwork.nlp.v1.NlpService/Embed HTTP/1.1"
EMPTY_MESSAGE = b"\x00\x00\x00\x00\x00"


@pytest.fixture
def nlp(mesh: Any) -> Any:
    with mesh.channel() as channel:
        stub = nlp_pb2_grpc.NlpServiceStub(channel)
        stub.Embed(nlp_pb2.EmbedRequest(texts=["a"]), timeout=30, wait_for_ready=True)
        yield stub


def sent(mesh: Any, request: bytes) -> bytes:
    """The first line of the answer to raw bytes."""
    host, _, port = mesh.gateway.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request)
        return connection.recv(65536).split(b"\r\n")[0]


@pytest.mark.parametrize("timeout", [b"zzz", b"-5S", b"5S\r\ngrpc-timeout: 6S", b"123456789S"])
def test_a_deadline_that_cannot_be_read_fails_its_own_call_and_no_other(
    mesh: Any, nlp: nlp_pb2_grpc.NlpServiceStub, timeout: bytes
) -> None:
    for _ in range(8):  # so that each of the gateway's connections to the replica meets it
        answer = sent(
            mesh,
            EMBED + b"\r\nhost: mesh\r\ncontent-type: application/grpc-web+proto\r\n"
            b"grpc-timeout: " + timeout + b"\r\ncontent-length: 5\r\n\r\n" + EMPTY_MESSAGE,
        )
        assert answer.startswith(b"HTTP/1.1 400")
    for _ in range(8):
        with mesh.channel() as channel:  # of its own connection, so that every worker is met
            try:
                nlp_pb2_grpc.NlpServiceStub(channel).Embed(nlp_pb2.EmbedRequest(texts=["a"]), timeout=10)
            except grpc.RpcError as error:
                pytest.fail(str(error))


def test_a_proxy_that_speaks_http_1_0_is_answered(mesh: Any, nlp: nlp_pb2_grpc.NlpServiceStub) -> None:
    assert sent(mesh, b"GET /v1/services HTTP/1.0\r\n\r\n") == b"HTTP/1.0 200 OK"

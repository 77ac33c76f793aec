"""Goes on with a stream whose server died: asks again, and skips what was delivered before.

A server-streaming method whose answer follows from its request alone (it has no side effects, and
its messages say what model answered) is called again. The first messages of the new answer must be
those that were delivered: of both a running digest is kept, so memory does not grow ::

    digest of n = H(digest of n - 1, message n without what differs from one run to the next)

Only when the digests agree does delivery go on. Otherwise the caller would read the head of one
answer and the tail of another, and gets UNAVAILABLE, reason STREAM_CHANGED.
"""

from __future__ import annotations

import hashlib
import random

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message

from meshwork.errors import DETAILS_KEY, Unavailable

SERVED_BY = "served_by"
RUNS_DIFFER_IN = (SERVED_BY, "time_to_first_piece")
MOST_TRIES = 3  # in a row that bring nothing new
FIRST_PAUSE_S = 0.05
# What a stream that was cut off ends with, where no server said why.
_CUT_OFF = {
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNKNOWN,
}


def resumable(method: MethodDescriptor) -> bool:
    """Whether a stream of `method` gives the same messages when it is asked for again."""
    return (
        method.server_streaming
        and not method.client_streaming
        and method.GetOptions().idempotency_level == MethodOptions.NO_SIDE_EFFECTS
        and SERVED_BY in method.output_type.fields_by_name
    )


def cut_off(error: grpc.RpcError) -> bool:
    """Whether a stream ended because its server, or something on the way there, did."""
    call: grpc.Call = error  # type: ignore[assignment]
    if call.code() is grpc.StatusCode.UNAVAILABLE:
        return True
    said_why = any(key == DETAILS_KEY for key, _ in call.trailing_metadata() or ())
    return call.code() in _CUT_OFF and not said_why


class Resumption:
    """What of one stream was delivered, over all its tries; no input or output."""

    def __init__(self) -> None:
        self._delivered = hashlib.blake2b()
        self._count = 0
        self._again = hashlib.blake2b()  # of the messages of this try that were delivered before
        self._seen = 0
        self._fruitless = 0

    def is_new(self, message: Message) -> bool:
        """Takes the next message of this try in; true if it is to be delivered.

        Raises:
            Unavailable: this try's answer is another than the one that was begun.
        """
        if self._seen < self._count:
            self._seen += 1
            _add(self._again, message)
            if self._seen == self._count and self._again.digest() != self._delivered.digest():
                raise self._changed()
            return False
        _add(self._delivered, message)
        self._count += 1
        self._seen += 1
        self._fruitless = 0
        return True

    def end(self) -> None:
        """Takes in that this try ended well.

        Raises:
            Unavailable: before all that was delivered came again.
        """
        if self._seen < self._count:
            raise self._changed()

    def pause_s(self, error: grpc.RpcError) -> float | None:
        """Seconds to wait before the next try, after one that ended in `error`; None for no more."""
        self._fruitless += 1
        if self._fruitless > MOST_TRIES or not cut_off(error):
            return None
        self._again, self._seen = hashlib.blake2b(), 0
        if self._fruitless == 1:
            return 0.0
        pause_s: float = FIRST_PAUSE_S * 2**self._fruitless
        return pause_s * random.uniform(0.5, 1)  # noqa: S311 - spreads callers

    def _changed(self) -> Unavailable:
        return Unavailable(
            f"the stream broke after {self._count} messages, and another replica's answer to the same "
            "request begins otherwise: ask again for a whole one",
            reason="STREAM_CHANGED",
            metadata={"delivered": str(self._count)},
        )


def _add(digest: hashlib.blake2b, message: Message) -> None:
    plain = type(message)()
    plain.CopyFrom(message)
    for name in RUNS_DIFFER_IN:
        if name in plain.DESCRIPTOR.fields_by_name:
            plain.ClearField(name)
    raw = plain.SerializeToString(deterministic=True)
    digest.update(len(raw).to_bytes(8, "big") + raw)

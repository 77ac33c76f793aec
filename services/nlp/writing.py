"""Requests of Generate as orders to a model, and its pieces as responses."""

from __future__ import annotations

from collections.abc import Callable

from meshwork.errors import InvalidArgument
from meshwork.nlp.v1 import nlp_pb2
from meshwork.serving import fields
from meshwork.type.v1 import served_by_pb2
from services.nlp.tasks.generate import Finish, Message, Order, Piece, Sampling

DEFAULT_OUTPUT_TOKENS = 256
MOST_OUTPUT_TOKENS = 1_000_000
MOST_MESSAGES = 1024
LONGEST_TEXT = 1_000_000  # characters
LONGEST_ROLE = 64
MOST_STOPS = 16
LONGEST_STOP = 256
COOLEST, HOTTEST = 0.01, 10.0
STRONGEST_PENALTY = 10.0
MOST_TOP_K = 1_000_000

_REASONS = {
    None: nlp_pb2.FINISH_REASON_UNSPECIFIED,
    Finish.END: nlp_pb2.FINISH_REASON_END,
    Finish.STOP: nlp_pb2.FINISH_REASON_STOP,
    Finish.LENGTH: nlp_pb2.FINISH_REASON_LENGTH,
}


def order(request: nlp_pb2.GenerateRequest) -> Order:
    """What the request asks for.

    Raises:
        InvalidArgument: a field is wrong.
    """
    if bool(request.prompt) == bool(request.messages):
        raise InvalidArgument("set either prompt or messages", field="prompt")
    return Order(
        prompt=fields.text("prompt", request.prompt, longest=LONGEST_TEXT) if request.prompt else "",
        messages=_messages(request),
        max_output_tokens=fields.count(
            "max_output_tokens",
            request.max_output_tokens,
            default=DEFAULT_OUTPUT_TOKENS,
            high=MOST_OUTPUT_TOKENS,
        ),
        stop=_stops(request),
        sampling=_sampling(request),
    )


def _messages(request: nlp_pb2.GenerateRequest) -> tuple[Message, ...]:
    if len(request.messages) > MOST_MESSAGES:
        raise InvalidArgument(
            f"should have at most {MOST_MESSAGES} entries, not {len(request.messages)}", field="messages"
        )
    messages = []
    size = 0
    for index, message in enumerate(request.messages):
        role = fields.text(f"messages[{index}].role", message.role, longest=LONGEST_ROLE)
        size += len(message.content)
        if size > LONGEST_TEXT:
            raise InvalidArgument(
                f"should be at most {LONGEST_TEXT} characters, all messages together",
                field=f"messages[{index}].content",
            )
        messages.append(Message(role, message.content))
    return tuple(messages)


def _stops(request: nlp_pb2.GenerateRequest) -> tuple[str, ...]:
    if len(request.stop) > MOST_STOPS:
        raise InvalidArgument(
            f"should have at most {MOST_STOPS} entries, not {len(request.stop)}", field="stop"
        )
    for index, stop in enumerate(request.stop):
        if not 0 < len(stop) <= LONGEST_STOP:
            raise InvalidArgument(
                f"should be 1 to {LONGEST_STOP} characters, not {len(stop)}", field=f"stop[{index}]"
            )
    return tuple(request.stop)


def _sampling(request: nlp_pb2.GenerateRequest) -> Sampling:
    temperature = fields.number("temperature", request.temperature, default=0, low=COOLEST, high=HOTTEST)
    top_p = fields.number("top_p", request.top_p, default=1, low=0, high=1)
    if not 0 <= request.top_k <= MOST_TOP_K:
        raise InvalidArgument(f"should be from 0 to {MOST_TOP_K}, not {request.top_k}", field="top_k")
    seed = request.seed if request.HasField("seed") else None
    given = {"top_p": top_p < 1, "top_k": request.top_k > 0, "seed": seed is not None}
    for name, is_given in given.items():
        if is_given and not temperature:
            raise InvalidArgument("needs a temperature above 0, such as 0.7", field=name)
    return Sampling(
        temperature=temperature,
        top_k=request.top_k,
        top_p=top_p,
        repetition_penalty=fields.number(
            "repetition_penalty", request.repetition_penalty, default=1, low=0.1, high=STRONGEST_PENALTY
        ),
        seed=seed,
    )


class Answering:
    """Makes the responses of one call.

    Args:
        clock: seconds, read when the call arrives.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._arrived = clock()
        self._first_s: float | None = None

    def response(self, piece: Piece, served_by: served_by_pb2.ServedBy | None) -> nlp_pb2.GenerateResponse:
        """The piece as a message; all but its text only when it is the last."""
        if self._first_s is None:
            self._first_s = self._clock() - self._arrived
        response = nlp_pb2.GenerateResponse(text=piece.text)
        if piece.finish is not None:
            response.finish_reason = _REASONS[piece.finish]
            response.prompt_token_count = piece.prompt_tokens
            response.output_token_count = piece.output_tokens
            response.time_to_first_piece.FromNanoseconds(int(self._first_s * 1e9))
            response.served_by.CopyFrom(served_by or served_by_pb2.ServedBy())
        return response

"""What the span of a call tells of generation and of embeddings: OpenTelemetry's `gen_ai.*` attributes.

Names are those of its semantic conventions for generative AI. Figures only: no prompt, no answer, no
stop text, which are the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry import trace

from meshwork.nlp.v1 import nlp_pb2

PROVIDER = "meshwork"
# Their well-known values are those of finish reasons that OpenAI's interface made usual.
_FINISHED = {
    nlp_pb2.FINISH_REASON_END: "stop",
    nlp_pb2.FINISH_REASON_STOP: "stop",
    nlp_pb2.FINISH_REASON_LENGTH: "length",
}


def asked(request: nlp_pb2.GenerateRequest, most_tokens: int) -> None:
    """Tells the current span what is to be written.

    Args:
        most_tokens: the most that may be.
    """
    span = trace.get_current_span()
    if not span.is_recording():
        return
    _begin(span, "chat" if request.messages else "text_completion", request.model)
    span.set_attribute("gen_ai.request.max_tokens", most_tokens)
    for name in ("temperature", "top_p", "top_k", "seed"):
        if value := getattr(request, name):
            span.set_attribute(f"gen_ai.request.{name}", value)


def wrote(response: nlp_pb2.GenerateResponse) -> None:
    """Tells the current span what the last piece says of the whole."""
    span = trace.get_current_span()
    if response.finish_reason == nlp_pb2.FINISH_REASON_UNSPECIFIED or not span.is_recording():
        return
    span.set_attributes(
        {
            "gen_ai.response.model": response.served_by.model,
            "gen_ai.response.finish_reasons": (_FINISHED[response.finish_reason],),
            "gen_ai.usage.input_tokens": response.prompt_token_count,
            "gen_ai.usage.output_tokens": response.output_token_count,
            "gen_ai.response.time_to_first_chunk": response.time_to_first_piece.ToMicroseconds() / 1e6,
        }
    )


def embedded(model: str, served: str, token_counts: Sequence[int], width: int) -> None:
    """Tells the current span of texts that were embedded.

    Args:
        model: as the caller names it; "" for the default.
        served: the one that answered.
        token_counts: of each text.
        width: of an embedding.
    """
    span = trace.get_current_span()
    if not span.is_recording():
        return
    _begin(span, "embeddings", model)
    span.set_attributes(
        {
            "gen_ai.response.model": served,
            "gen_ai.usage.input_tokens": sum(token_counts),
            "gen_ai.embeddings.dimension.count": width,
        }
    )


def _begin(span: trace.Span, operation: str, model: str) -> None:
    span.set_attributes({"gen_ai.operation.name": operation, "gen_ai.provider.name": PROVIDER})
    if model:
        span.set_attribute("gen_ai.request.model", model)

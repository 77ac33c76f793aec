"""ModelStreamInfer in the two forms that clients have.

The same method answers with different messages, and a client reads only its own:

=========  ===========================================================  ==========================
form       answer                                                       a request that fails
=========  ===========================================================  ==========================
`triton`   ModelStreamInferResponse {1: error_message, 2: response}     is answered, with its id and
                                                                        why; the stream goes on
`kserve`   ModelInferResponse {1: model_name, 2: model_version, ...}    ends the stream by a status
=========  ===========================================================  ==========================

No answer can be both (field 2 would have to be text and a message with tensors), and nothing in a
call says by which proto it was made. So, in this order:

1. the metadata `inference-stream-form: triton` or `kserve`, where a caller sends it;
2. the stream's first request: typed contents are how clients of KServe and MLServer send tensors
   unless told otherwise; Triton's send raw_input_contents.

In both, requests are at work together and answered in their order, as Triton does for models that
give one answer a request. Triton's metadata `triton_grpc_error: true` asks for the status in its form.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from functools import partial

from meshwork.errors import InvalidArgument
from meshwork.inference.v2 import open_inference_pb2 as pb
from meshwork.rpc import as_meshwork_error
from meshwork.serving.call import CallContext
from meshwork.serving.oip.in_order import in_order

FORM_HEADER = "inference-stream-form"
STRICT_HEADER = "triton_grpc_error"
TRITON, KSERVE = "triton", "kserve"
MOST_AT_WORK = 64  # requests of one stream

Requests = AsyncIterator[pb.ModelInferRequest]
Answer = pb.ModelInferResponse | pb.ModelStreamInferResponse
Infer = Callable[[pb.ModelInferRequest], Awaitable[pb.ModelInferResponse]]


async def stream_infer(
    requests: Requests, context: CallContext, infer: Infer
) -> AsyncGenerator[Answer, None]:
    """Answers each request of a stream in the form that its caller reads.

    Raises:
        MeshworkError: of a request, where the form ends the stream by it; or of the stream itself.
    """
    first = await anext(requests, None)
    if first is None:
        return
    metadata = {key: str(value).lower() for key, value in context.invocation_metadata() or ()}
    typed = any(tensor.HasField("contents") for tensor in first.inputs)
    form = metadata.get(FORM_HEADER) or (KSERVE if typed else TRITON)
    if form not in (TRITON, KSERVE):
        raise InvalidArgument(f"should be {TRITON} or {KSERVE}, not {form!r}", field=FORM_HEADER)
    strict = metadata.get(STRICT_HEADER) == "true"
    work: Callable[[pb.ModelInferRequest], Awaitable[Answer]] = infer
    if form == TRITON:
        work = partial(_triton, infer, strict)
    async with aclosing(in_order(_with(first, requests), work, MOST_AT_WORK)) as answers:
        async for answer in answers:
            yield answer


async def _triton(infer: Infer, strict: bool, request: pb.ModelInferRequest) -> pb.ModelStreamInferResponse:
    try:
        response = await infer(request)
    except Exception as error:
        known = as_meshwork_error(error, "a request of ModelStreamInfer")
        if strict:
            raise known from error
        return pb.ModelStreamInferResponse(
            error_message=str(known), infer_response=pb.ModelInferResponse(id=request.id)
        )
    # Callers who count on models that give several answers look for the last one's mark.
    response.parameters["triton_final_response"].bool_param = True
    return pb.ModelStreamInferResponse(infer_response=response)


async def _with(first: pb.ModelInferRequest, rest: Requests) -> Requests:
    yield first
    async for request in rest:
        yield request

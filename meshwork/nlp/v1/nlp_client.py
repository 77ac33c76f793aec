"""Typed clients of `meshwork.nlp.v1`. Generated from meshwork/nlp/v1/nlp.proto; do not edit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence

from meshwork import calls
from meshwork.nlp.v1 import nlp_pb2 as pb


class NlpClient(calls.SyncService):
    """Reads text."""

    FULL_NAME = "meshwork.nlp.v1.NlpService"

    def embed(
        self,
        texts: str | Sequence[str],
        *,
        model: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.EmbedResponse:
        """Turns texts into unit vectors whose dot product says how alike their meanings are.

        Args:
            texts: The texts to embed, 1 to 1024 of them, none empty.
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.EmbedRequest(
            texts=calls.texts(texts),
            model=model,
        )
        return self._unary("Embed", request, pb.EmbedResponse, timeout_s, metadata)

    def classify_text(
        self,
        text: str,
        *,
        model: str = "",
        labels: str | Sequence[str] = (),
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.ClassifyTextResponse:
        """Sorts a text into the model's own labels, or into ones that the caller makes up (zero-shot).

        Args:
            text: The text to sort, not empty.
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            labels: The labels to choose from, 2 to 256 different ones; short phrases work best.
                Without them the text is sorted into the model's own labels, if it has some.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.ClassifyTextRequest(
            text=text,
            model=model,
            labels=calls.texts(labels),
        )
        return self._unary("ClassifyText", request, pb.ClassifyTextResponse, timeout_s, metadata)

    def match_texts(
        self,
        query: str,
        candidates: str | Sequence[str],
        *,
        model: str = "",
        top_k: int = 0,
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.MatchTextsResponse:
        """Orders candidate texts by how near their meaning is to the query's.

        Args:
            query: What to look for, not empty.
            candidates: The texts to look through, 1 to 1024 of them, none empty.
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            top_k: The most matches to return, 0 or more. Unset or 0 means all of them.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.MatchTextsRequest(
            query=query,
            candidates=calls.texts(candidates),
            model=model,
            top_k=top_k,
        )
        return self._unary("MatchTexts", request, pb.MatchTextsResponse, timeout_s, metadata)

    def extract_entities(
        self,
        texts: str | Sequence[str],
        *,
        model: str = "",
        offset_encoding: pb.OffsetEncoding.ValueType = pb.OFFSET_ENCODING_UNSPECIFIED,
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.ExtractEntitiesResponse:
        """Finds what texts name: people, places, dates, whatever the model was trained on.

        Args:
            texts: The texts to read, 1 to 256 of them, none empty, of any length.
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            offset_encoding: How to count offsets; code points if unset.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.ExtractEntitiesRequest(
            texts=calls.texts(texts),
            model=model,
            offset_encoding=offset_encoding,
        )
        return self._unary("ExtractEntities", request, pb.ExtractEntitiesResponse, timeout_s, metadata)

    def answer_question(
        self,
        question: str,
        context: str,
        *,
        model: str = "",
        top_k: int = 0,
        offset_encoding: pb.OffsetEncoding.ValueType = pb.OFFSET_ENCODING_UNSPECIFIED,
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.AnswerQuestionResponse:
        """Answers a question with a stretch of a text.

        Args:
            question: The question, not empty.
            context: The text to find the answer in, not empty, of any length.
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            top_k: The most answers to return, up to 100. Unset or 0 means one.
            offset_encoding: How to count offsets; code points if unset.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.AnswerQuestionRequest(
            question=question,
            context=context,
            model=model,
            top_k=top_k,
            offset_encoding=offset_encoding,
        )
        return self._unary("AnswerQuestion", request, pb.AnswerQuestionResponse, timeout_s, metadata)

    def generate(
        self,
        *,
        model: str = "",
        prompt: str = "",
        messages: Sequence[pb.ChatMessage] = (),
        max_output_tokens: int = 0,
        stop: str | Sequence[str] = (),
        temperature: float = 0.0,
        top_p: float = 0.0,
        top_k: int = 0,
        repetition_penalty: float = 0.0,
        seed: int | None = None,
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> Iterator[pb.GenerateResponse]:
        """Writes text that goes on from a prompt or answers a chat, piece by piece as it is made.

        The last piece says why the text is over. A caller that leaves ends the work.

        Args:
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            prompt: The text to go on from, as it is.
            messages: A chat to answer, oldest message first, put into words by the model's own
                chat template. Models without one refuse it.
            max_output_tokens: The most tokens to write. Unset or 0 means 256. It ends earlier
                where the model's context is full.
            stop: Texts that end the writing, at most 16 of up to 256 characters; they are left
                out of the answer.
            temperature: How freely to choose, 0.01 to 10. Unset or 0 means the likeliest token
                always, 1 as the model thinks.
            top_p: Choose among the likeliest tokens that together have this probability, above
                0 to 1. Unset or 0 means 1. Needs a temperature.
            top_k: Choose among this many likeliest tokens. Unset or 0 means no bound. Needs a
                temperature.
            repetition_penalty: Divides the weight of tokens that were said already, prompt
                included, 0.1 to 10. Unset or 0 means 1, which changes nothing.
            seed: The same seed gives the same text, whoever else calls. Unset means another
                text each time. Needs a temperature.
            timeout_s: seconds until the stream ends; None for no end.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.GenerateRequest(
            model=model,
            prompt=prompt,
            messages=messages,
            max_output_tokens=max_output_tokens,
            stop=calls.texts(stop),
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            repetition_penalty=repetition_penalty,
            seed=calls.seed(seed, temperature),
        )
        return self._stream("Generate", request, pb.GenerateResponse, timeout_s, metadata)


class AsyncNlpClient(calls.AsyncService):
    """Reads text."""

    FULL_NAME = "meshwork.nlp.v1.NlpService"

    async def embed(
        self,
        texts: str | Sequence[str],
        *,
        model: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.EmbedResponse:
        """Turns texts into unit vectors whose dot product says how alike their meanings are.

        Args:
            texts: The texts to embed, 1 to 1024 of them, none empty.
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.EmbedRequest(
            texts=calls.texts(texts),
            model=model,
        )
        return await self._unary("Embed", request, pb.EmbedResponse, timeout_s, metadata)

    async def classify_text(
        self,
        text: str,
        *,
        model: str = "",
        labels: str | Sequence[str] = (),
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.ClassifyTextResponse:
        """Sorts a text into the model's own labels, or into ones that the caller makes up (zero-shot).

        Args:
            text: The text to sort, not empty.
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            labels: The labels to choose from, 2 to 256 different ones; short phrases work best.
                Without them the text is sorted into the model's own labels, if it has some.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.ClassifyTextRequest(
            text=text,
            model=model,
            labels=calls.texts(labels),
        )
        return await self._unary("ClassifyText", request, pb.ClassifyTextResponse, timeout_s, metadata)

    async def match_texts(
        self,
        query: str,
        candidates: str | Sequence[str],
        *,
        model: str = "",
        top_k: int = 0,
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.MatchTextsResponse:
        """Orders candidate texts by how near their meaning is to the query's.

        Args:
            query: What to look for, not empty.
            candidates: The texts to look through, 1 to 1024 of them, none empty.
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            top_k: The most matches to return, 0 or more. Unset or 0 means all of them.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.MatchTextsRequest(
            query=query,
            candidates=calls.texts(candidates),
            model=model,
            top_k=top_k,
        )
        return await self._unary("MatchTexts", request, pb.MatchTextsResponse, timeout_s, metadata)

    async def extract_entities(
        self,
        texts: str | Sequence[str],
        *,
        model: str = "",
        offset_encoding: pb.OffsetEncoding.ValueType = pb.OFFSET_ENCODING_UNSPECIFIED,
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.ExtractEntitiesResponse:
        """Finds what texts name: people, places, dates, whatever the model was trained on.

        Args:
            texts: The texts to read, 1 to 256 of them, none empty, of any length.
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            offset_encoding: How to count offsets; code points if unset.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.ExtractEntitiesRequest(
            texts=calls.texts(texts),
            model=model,
            offset_encoding=offset_encoding,
        )
        return await self._unary("ExtractEntities", request, pb.ExtractEntitiesResponse, timeout_s, metadata)

    async def answer_question(
        self,
        question: str,
        context: str,
        *,
        model: str = "",
        top_k: int = 0,
        offset_encoding: pb.OffsetEncoding.ValueType = pb.OFFSET_ENCODING_UNSPECIFIED,
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.AnswerQuestionResponse:
        """Answers a question with a stretch of a text.

        Args:
            question: The question, not empty.
            context: The text to find the answer in, not empty, of any length.
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            top_k: The most answers to return, up to 100. Unset or 0 means one.
            offset_encoding: How to count offsets; code points if unset.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.AnswerQuestionRequest(
            question=question,
            context=context,
            model=model,
            top_k=top_k,
            offset_encoding=offset_encoding,
        )
        return await self._unary("AnswerQuestion", request, pb.AnswerQuestionResponse, timeout_s, metadata)

    def generate(
        self,
        *,
        model: str = "",
        prompt: str = "",
        messages: Sequence[pb.ChatMessage] = (),
        max_output_tokens: int = 0,
        stop: str | Sequence[str] = (),
        temperature: float = 0.0,
        top_p: float = 0.0,
        top_k: int = 0,
        repetition_penalty: float = 0.0,
        seed: int | None = None,
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> AsyncIterator[pb.GenerateResponse]:
        """Writes text that goes on from a prompt or answers a chat, piece by piece as it is made.

        The last piece says why the text is over. A caller that leaves ends the work.

        Args:
            model: The model: empty for the default, `name` for its live version, `name@version`
                for that version.
            prompt: The text to go on from, as it is.
            messages: A chat to answer, oldest message first, put into words by the model's own
                chat template. Models without one refuse it.
            max_output_tokens: The most tokens to write. Unset or 0 means 256. It ends earlier
                where the model's context is full.
            stop: Texts that end the writing, at most 16 of up to 256 characters; they are left
                out of the answer.
            temperature: How freely to choose, 0.01 to 10. Unset or 0 means the likeliest token
                always, 1 as the model thinks.
            top_p: Choose among the likeliest tokens that together have this probability, above
                0 to 1. Unset or 0 means 1. Needs a temperature.
            top_k: Choose among this many likeliest tokens. Unset or 0 means no bound. Needs a
                temperature.
            repetition_penalty: Divides the weight of tokens that were said already, prompt
                included, 0.1 to 10. Unset or 0 means 1, which changes nothing.
            seed: The same seed gives the same text, whoever else calls. Unset means another
                text each time. Needs a temperature.
            timeout_s: seconds until the stream ends; None for no end.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.GenerateRequest(
            model=model,
            prompt=prompt,
            messages=messages,
            max_output_tokens=max_output_tokens,
            stop=calls.texts(stop),
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            repetition_penalty=repetition_penalty,
            seed=calls.seed(seed, temperature),
        )
        return self._stream("Generate", request, pb.GenerateResponse, timeout_s, metadata)

from __future__ import annotations

import math

import pytest
from google.protobuf import message_factory, struct_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from meshwork.cli import console, render
from meshwork.contract import SERVICES, descriptor
from meshwork.nlp.v1 import nlp_pb2
from meshwork.recommendation.v1 import recommendation_pb2
from meshwork.router.v1 import router_pb2
from meshwork.speech.v1 import speech_pb2
from meshwork.translation.v1 import translation_pb2
from meshwork.type.v1 import served_by_pb2
from meshwork.vision.v1 import vision_pb2

SERVED = served_by_pb2.ServedBy(
    model="m",
    version="1",
    replica="r-1",
    queue_time={"nanos": 1_500_000},
    compute_time={"nanos": 2_000_000},
    batch_size=3,
)

SHOWN: list[tuple[Message, str]] = [
    (
        vision_pb2.ClassifyResponse(
            classifications=[{"label": "7", "score": 0.75}, {"label": "1", "score": 0.01}],
            served_by=SERVED,
        ),
        """LABEL  SCORE
7      0.7500
1      0.0100
m@1 on r-1, queue 1.5 ms, compute 2.0 ms, batch 3
""",
    ),
    (
        nlp_pb2.EmbedResponse(embeddings=[{"values": [0.5] * 8}]),
        """VALUES
[0.5000, 0.5000, 0.5000, 0.5000, 0.5000, 0.5000, ...] (8 values)
@ on , queue 0.0 ms, compute 0.0 ms, batch 0
""",
    ),
    (
        vision_pb2.DetectResponse(
            detections=[
                {
                    "label": "a cat",
                    "score": 0.5,
                    "pixel_box": {"left": 0, "top": 12.25, "right": 1200.5, "bottom": 80},
                    "normalized_box": {"left": 0, "top": 0.1, "right": 1, "bottom": 0.625},
                }
            ],
            image_width=1201,
            image_height=128,
            served_by=SERVED,
        ),
        """image width  1201
image height  128
LABEL  SCORE   PIXEL BOX               NORMALIZED BOX
a cat  0.5000  0, 12.25 to 1200.5, 80  0, 0.1 to 1, 0.625
m@1 on r-1, queue 1.5 ms, compute 2.0 ms, batch 3
""",
    ),
    (
        nlp_pb2.ExtractEntitiesResponse(
            results=[
                {"entities": [{"text": "Ada", "type": "PER", "score": 0.5, "start": 0, "end": 3}]},
                {},
                {
                    "entities": [
                        {"text": "Bergen", "type": "LOC", "score": 0.75, "start": 3, "end": 9},
                        {"text": "Rome", "type": "LOC", "score": 0.5, "start": 11, "end": 15},
                    ]
                },
            ],
            served_by=SERVED,
        ),
        """#  TEXT    TYPE  SCORE   START  END
0  Ada     PER   0.5000  0      3
2  Bergen  LOC   0.7500  3      9
2  Rome    LOC   0.5000  11     15
m@1 on r-1, queue 1.5 ms, compute 2.0 ms, batch 3
""",
    ),
    (
        vision_pb2.EmbedImageResponse(
            image_embeddings=[{"values": [0.5] * 4}, {"values": [-0.5] * 4}],
            text_embeddings=[{"values": [0.25] * 16, "truncated": True}],
            served_by=SERVED,
        ),
        """image embeddings
VALUES
[0.5000, 0.5000, 0.5000, 0.5000] (4 values)
[-0.5000, -0.5000, -0.5000, -0.5000] (4 values)
text embeddings
VALUES                                                             TRUNCATED
[0.2500, 0.2500, 0.2500, 0.2500, 0.2500, 0.2500, ...] (16 values)  True
m@1 on r-1, queue 1.5 ms, compute 2.0 ms, batch 3
""",
    ),
    (
        nlp_pb2.ExtractEntitiesResponse(
            results=[{"entities": [{"text": "Ada", "type": "PER", "score": 0.5, "start": 4, "end": 7}]}],
            served_by=SERVED,
        ),
        """TEXT  TYPE  SCORE   START  END
Ada   PER   0.5000  4      7
m@1 on r-1, queue 1.5 ms, compute 2.0 ms, batch 3
""",
    ),
    (
        nlp_pb2.ExtractEntitiesResponse(results=[{}], served_by=SERVED),
        "no entities\nm@1 on r-1, queue 1.5 ms, compute 2.0 ms, batch 3\n",
    ),
    (
        nlp_pb2.AnswerQuestionResponse(
            answers=[{"text": "in Rome", "score": 0.5, "start": 4, "end": 11}],
            no_answer_score=0.125,
            served_by=SERVED,
        ),
        """no answer score  0.1250
TEXT     SCORE   START  END
in Rome  0.5000  4      11
m@1 on r-1, queue 1.5 ms, compute 2.0 ms, batch 3
""",
    ),
    (
        speech_pb2.RecognizeResponse(
            transcript="hello [world]",
            confidence=0.5,
            audio_duration={"seconds": 1, "nanos": 250_000_000},
            served_by=SERVED,
        ),
        """transcript  hello [world]
confidence  0.5000
audio duration  1.25 s
no words
m@1 on r-1, queue 1.5 ms, compute 2.0 ms, batch 3
""",
    ),
    (
        translation_pb2.ListLanguagesResponse(
            languages=[{"language_code": "en", "display_name": "English", "target_languages": ["fr", "de"]}],
            served_by=SERVED,
        ),
        """LANGUAGE CODE  DISPLAY NAME  TARGET LANGUAGES
en             English       fr, de
m@1 on r-1, queue 1.5 ms, compute 2.0 ms, batch 3
""",
    ),
    (
        recommendation_pb2.RecordEventsResponse(recorded_count=2, served_by=SERVED),
        "recorded count  2\nm@1 on r-1, queue 1.5 ms, compute 2.0 ms, batch 3\n",
    ),
    (
        router_pb2.WatchResponse(type=router_pb2.CHANGE_TYPE_ADDED, replica={"name": "nlp-1", "pid": 7}),
        "type  added\nreplica  name=nlp-1  pid=7\n",
    ),
]


def lines(shown: str) -> list[str]:
    """What is shown, line by line; columns are padded to their width."""
    return [line.rstrip() for line in shown.splitlines() if line.strip()]


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console.out, "width", 200)


def filled(message: Message, depth: int = 0) -> Message:
    """`message` with something in every field."""
    if isinstance(message, struct_pb2.Struct):
        message.update({"[/red] x": ["[/red] x", 1.0, None]})
        return message
    for field in message.DESCRIPTOR.fields:
        if field.message_type is not None:
            if depth > 3:
                continue
            inner = getattr(message, field.name)
            filled(inner.add() if field.is_repeated else inner, depth + 1)
            continue
        value: object = {
            FieldDescriptor.CPPTYPE_STRING: b"\x00\xff"
            if field.type == FieldDescriptor.TYPE_BYTES
            else "[/red] x",
            FieldDescriptor.CPPTYPE_BOOL: True,
            FieldDescriptor.CPPTYPE_FLOAT: math.inf,
            FieldDescriptor.CPPTYPE_DOUBLE: math.nan,
        }.get(field.cpp_type, 1)
        if field.is_repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)
    return message


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize(("message", "expected"), SHOWN, ids=lambda each: type(each).__name__)
def test_an_answer_is_shown_whole(
    message: Message, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    render.show(message)
    assert lines(capsys.readouterr().out) == lines(expected)


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize(
    "kind",
    sorted(
        {
            method.output_type.full_name
            for name in (*SERVICES, "router")
            for method in descriptor(name).methods
        }
    ),
)
@pytest.mark.parametrize("full", [False, True], ids=["empty", "full"])
def test_every_answer_of_the_contract_can_be_shown(
    kind: str, full: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    found = next(
        method.output_type
        for name in (*SERVICES, "router")
        for method in descriptor(name).methods
        if method.output_type.full_name == kind
    )
    message = message_factory.GetMessageClass(found)()
    render.show(filled(message) if full else message)
    shown = capsys.readouterr().out
    assert shown or not full
    if full and any(field.name != "served_by" for field in found.fields):
        assert "[/red] x" in shown or "1" in shown


def test_an_enum_value_of_a_newer_release_is_shown_as_its_number(capsys: pytest.CaptureFixture[str]) -> None:
    render.show(router_pb2.WatchResponse(type=99))  # type: ignore[arg-type]
    assert "type  99" in capsys.readouterr().out


def test_an_empty_list_is_said_to_be_one(capsys: pytest.CaptureFixture[str]) -> None:
    render.show([])
    assert capsys.readouterr().out == "nothing\n"

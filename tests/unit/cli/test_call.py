from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from meshwork.cli.app import main
from meshwork.contract import SERVICES, descriptor
from meshwork.errors import InvalidArgument, ModelNotFound, Overloaded
from meshwork.nlp.v1 import nlp_pb2
from meshwork.pipeline.v1 import pipeline_pb2
from meshwork.recommendation.v1 import recommendation_pb2 as recommendation
from meshwork.router.v1 import router_pb2
from meshwork.speech.v1 import speech_pb2
from meshwork.translation.v1 import translation_pb2
from meshwork.vision.v1 import vision_pb2
from tests.unit.recording_server import Recorder

ALL = {(service, method.name) for service in (*SERVICES, "router") for method in descriptor(service).methods}

# (service, rpc, words, the request that they make); FILE is a file that holds b"abc".
CALLS: list[tuple[str, str, str, Any]] = [
    ("vision", "Classify", "FILE", vision_pb2.ClassifyRequest(image={"content": b"abc"})),
    (
        "vision",
        "Classify",
        "FILE --top-k 2 --model digits@1",
        vision_pb2.ClassifyRequest(image={"content": b"abc"}, top_k=2, model="digits@1"),
    ),
    (
        "vision",
        "Classify",
        "data:image/png;base64,eA==",
        vision_pb2.ClassifyRequest(image={"uri": "data:image/png;base64,eA=="}),
    ),
    (
        "vision",
        "Classify",
        "FILE cat dog",
        vision_pb2.ClassifyRequest(image={"content": b"abc"}, labels=["cat", "dog"]),
    ),
    (
        "vision",
        "Detect",
        "FILE --min-score 0.25 --max-results 3",
        vision_pb2.DetectRequest(image={"content": b"abc"}, min_score=0.25, max_results=3),
    ),
    (
        "vision",
        "EmbedImage",
        "--image FILE --image data:image/png;base64,eA== --text one",
        vision_pb2.EmbedImageRequest(
            images=[{"content": b"abc"}, {"uri": "data:image/png;base64,eA=="}], texts=["one"]
        ),
    ),
    ("vision", "EmbedImage", "", vision_pb2.EmbedImageRequest()),
    ("nlp", "Embed", "one two", nlp_pb2.EmbedRequest(texts=["one", "two"])),
    ("nlp", "ClassifyText", "t a b", nlp_pb2.ClassifyTextRequest(text="t", labels=["a", "b"])),
    ("nlp", "ClassifyText", "t", nlp_pb2.ClassifyTextRequest(text="t")),
    (
        "nlp",
        "ExtractEntities",
        "one two --offset-encoding utf16_units",
        nlp_pb2.ExtractEntitiesRequest(
            texts=["one", "two"], offset_encoding=nlp_pb2.OFFSET_ENCODING_UTF16_UNITS
        ),
    ),
    (
        "nlp",
        "AnswerQuestion",
        "who? nobody --top-k 2",
        nlp_pb2.AnswerQuestionRequest(question="who?", context="nobody", top_k=2),
    ),
    (
        "nlp",
        "MatchTexts",
        "q a b --top-k 1",
        nlp_pb2.MatchTextsRequest(query="q", candidates=["a", "b"], top_k=1),
    ),
    ("nlp", "Generate", "hello", nlp_pb2.GenerateRequest(prompt="hello")),
    (
        "nlp",
        "Generate",
        "--message user:hi --message assistant:a:b --max-output-tokens 5 --stop x --temperature .5 --seed 0",
        nlp_pb2.GenerateRequest(
            messages=[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "a:b"}],
            max_output_tokens=5,
            stop=["x"],
            temperature=0.5,
            seed=0,
        ),
    ),
    ("speech", "Recognize", "FILE", speech_pb2.RecognizeRequest(audio={"content": b"abc"})),
    (
        "speech",
        "Recognize",
        "FILE --encoding linear16 --sample-rate-hertz 8000 --channel-count 2",
        speech_pb2.RecognizeRequest(
            audio={
                "content": b"abc",
                "encoding": speech_pb2.AUDIO_ENCODING_LINEAR16,
                "sample_rate_hertz": 8000,
                "channel_count": 2,
            }
        ),
    ),
    (
        "speech",
        "Synthesize",
        "hello --voice en-GB --rate 1.5 --encoding WAV",
        speech_pb2.SynthesizeRequest(
            text="hello", voice="en-GB", speaking_rate=1.5, encoding=speech_pb2.AUDIO_ENCODING_WAV
        ),
    ),
    ("speech", "ListVoices", "--language fr", speech_pb2.ListVoicesRequest(language_code="fr")),
    (
        "translation",
        "TranslateText",
        "hi there --to fr --from en",
        translation_pb2.TranslateTextRequest(
            texts=["hi", "there"], target_language="fr", source_language="en"
        ),
    ),
    ("translation", "DetectLanguage", "bonjour", translation_pb2.DetectLanguageRequest(text="bonjour")),
    ("translation", "ListLanguages", "", translation_pb2.ListLanguagesRequest()),
    (
        "recommendation",
        "RecordEvents",
        "alice x y --request-id 7",
        recommendation.RecordEventsRequest(
            events=[{"user": "alice", "item": "x"}, {"user": "alice", "item": "y"}], request_id="7"
        ),
    ),
    (
        "recommendation",
        "Recommend",
        "--user alice --count 3 --include-seen --categories a --categories b",
        recommendation.RecommendRequest(
            user="alice", count=3, include_seen=True, filter={"categories": ["a", "b"]}
        ),
    ),
    (
        "recommendation",
        "Recommend",
        "--history x --history y",
        recommendation.RecommendRequest(history={"items": ["x", "y"]}),
    ),
    (
        "recommendation",
        "SimilarItems",
        "x --count 2",
        recommendation.SimilarItemsRequest(item="x", count=2),
    ),
    ("router", "ListServices", "", router_pb2.ListServicesRequest()),
    ("router", "ListReplicas", "--service nlp", router_pb2.ListReplicasRequest(service="nlp")),
    ("router", "ListModels", "--service nlp", router_pb2.ListModelsRequest(service="nlp")),
    ("router", "Watch", "--service nlp", router_pb2.WatchRequest(service="nlp")),
    (
        "pipeline",
        "Run",
        """user=alice image=@FILE n:=3 list:=[1,"a"] {"more":{"x":null}} --model suggest --request-id id""",
        pipeline_pb2.RunRequest(
            inputs={"user": "alice", "image": "YWJj", "n": 3, "list": [1, "a"], "more": {"x": None}},
            model="suggest",
            request_id="id",
        ),
    ),
    ("router", "GetMesh", "", router_pb2.GetMeshRequest()),
    (
        "router",
        "ListEvents",
        "--service nlp --subject nlp-1",
        router_pb2.ListEventsRequest(service="nlp", subject="nlp-1"),
    ),
    ("router", "WatchEvents", "--service nlp", router_pb2.WatchEventsRequest(service="nlp")),
    ("router", "WatchLoad", "--service nlp", router_pb2.WatchLoadRequest(service="nlp")),
]


def dashed(method: str) -> str:
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in method)[1:]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "media"
    path.write_bytes(b"abc")
    return path


def run(recorder: Recorder, *words: str, **options: Any) -> Result:
    return CliRunner().invoke(main, ["call", *words, "--address", recorder.address], **options)


def test_each_rpc_of_the_contract_is_called_below() -> None:
    assert {(service, method) for service, method, _, _ in CALLS} == ALL


@pytest.mark.parametrize(("service", "method", "words", "request_"), CALLS)
def test_words_make_the_request(
    recorder: Recorder, file: Path, service: str, method: str, words: str, request_: Any
) -> None:
    given = [word.replace("FILE", str(file)) for word in words.split()]
    result = run(recorder, service, dashed(method), *given, "--json")
    assert result.exit_code == 0, result.output
    (call,) = recorder.calls
    assert call.method == method
    assert call.request == request_


@pytest.mark.parametrize(("service", "method"), sorted(ALL))
def test_the_help_of_each_rpc_explains_its_parameters(service: str, method: str) -> None:
    result = CliRunner().invoke(main, ["call", service, dashed(method), "--help"])
    assert result.exit_code == 0
    assert "--timeout" in result.output


def test_a_unique_beginning_names_a_method_and_another_does_not(recorder: Recorder) -> None:
    assert run(recorder, "translation", "trans", "hi", "--to", "fr").exit_code == 0
    assert recorder.calls[0].method == "TranslateText"
    assert run(recorder, "router", "list-").exit_code == 2
    assert run(recorder, "nlp", "nonsense").exit_code == 2


def test_media_is_read_from_standard_input(recorder: Recorder) -> None:
    assert run(recorder, "vision", "classify", "-", input=b"\x00\xffabc").exit_code == 0
    assert recorder.calls[0].request.image.content == b"\x00\xffabc"


def test_a_file_that_is_not_there_is_said_in_a_sentence(recorder: Recorder, tmp_path: Path) -> None:
    result = run(recorder, "vision", "classify", str(tmp_path / "nothing.png"))
    assert result.exit_code == 1
    assert "nothing.png" in result.stderr
    assert not recorder.calls


def test_the_timeout_is_the_deadline_of_the_call(recorder: Recorder) -> None:
    assert run(recorder, "nlp", "embed", "x", "--timeout", "5").exit_code == 0
    assert recorder.calls[0].remaining_s is not None
    assert 0 < recorder.calls[0].remaining_s <= 5.5


def test_a_stream_has_a_deadline_only_if_it_is_given_one(recorder: Recorder) -> None:
    assert run(recorder, "router", "watch").exit_code == 0
    assert run(recorder, "router", "watch", "--timeout", "5").exit_code == 0
    endless, bounded = (call.remaining_s for call in recorder.calls)
    assert endless is None or endless > 1e6
    assert bounded is not None
    assert bounded <= 5.5


def test_lists_are_gathered_from_all_their_pages(recorder: Recorder) -> None:
    recorder.answers["ListServices"] = [router_pb2.ListServicesResponse(services=[{"name": "nlp"}])]
    result = run(recorder, "router", "list-services", "--json")
    assert json.loads(result.stdout) == [{"name": "nlp"}]


def test_a_stream_prints_each_answer(recorder: Recorder) -> None:
    recorder.answers["Watch"] = [
        router_pb2.WatchResponse(type=router_pb2.CHANGE_TYPE_ADDED, replica={"name": name})
        for name in ("nlp-1", "nlp-2")
    ]
    result = run(recorder, "router", "watch")
    assert result.exit_code == 0
    assert result.stdout.index("nlp-1") < result.stdout.index("nlp-2")


def test_a_text_is_printed_as_it_comes_and_what_it_took_on_standard_error(recorder: Recorder) -> None:
    recorder.answers["Generate"] = [
        nlp_pb2.GenerateResponse(text="It rains "),
        nlp_pb2.GenerateResponse(text="[bold]here\x1b[2J\n"),
        nlp_pb2.GenerateResponse(text=".", finish_reason=nlp_pb2.FINISH_REASON_LENGTH, output_token_count=7),
    ]
    result = run(recorder, "nlp", "generate", "What?")
    assert result.stdout == "It rains [bold]here[2J\n.\n"
    assert "finish reason length, output token count 7" in result.stderr
    as_json = run(recorder, "nlp", "generate", "What?", "--json")
    assert '"text": "It rains "' in as_json.stdout


def test_a_message_without_a_role_is_told_how(recorder: Recorder) -> None:
    result = run(recorder, "nlp", "generate", "--message", "hello")
    assert result.exit_code == 2
    assert "ROLE" in result.stderr


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("alice", "NAME=TEXT"),
        ("count:=three", "JSON"),
        ("{user", "JSON"),
        ("image=@nowhere.png", "nowhere.png"),
    ],
)
def test_an_entry_that_is_none_is_told_how(recorder: Recorder, word: str, says: str) -> None:
    result = run(recorder, "pipeline", "run", word)
    assert result.exit_code == 2
    assert says in result.stderr
    assert not recorder.calls


def test_a_mapping_is_shown_as_json_with_its_files_cut(recorder: Recorder) -> None:
    outputs = {"title": "[red] x", "audio": "A" * 1000}
    recorder.answers["Run"] = [pipeline_pb2.RunResponse(outputs=outputs)]
    shown = run(recorder, "pipeline", "run", "user=alice").stdout
    assert '"title": "[red] x"' in shown
    assert '"AAAAAAAAAAAAAAAAAAAA... (1000 characters)"' in shown


@pytest.mark.parametrize("to", ["file", "-", ""])
def test_bytes_of_an_answer_go_where_output_says(recorder: Recorder, tmp_path: Path, to: str) -> None:
    recorder.answers["Synthesize"] = [
        speech_pb2.SynthesizeResponse(audio_content=b"RIFF\x00\xff", voice="en")
    ]
    path = tmp_path / "out.wav"
    output = {"file": ["-o", str(path)], "-": ["-o", "-"], "": []}[to]
    result = run(recorder, "speech", "synthesize", "hello", *output)
    assert result.exit_code == 0
    assert (path.exists() and path.read_bytes() == b"RIFF\x00\xff") == (to == "file")
    assert (b"RIFF\x00\xff" in result.stdout_bytes) == (to == "-")
    assert "6 bytes" in result.stderr or to == "-"


def test_an_error_is_a_sentence_for_people_and_an_object_for_programs(recorder: Recorder) -> None:
    recorder.errors = [ModelNotFound.among("zebra", "nlp", ["minilm@1"])] * 2
    for_people = run(recorder, "nlp", "embed", "x", "--model", "zebra")
    assert for_people.exit_code == 1
    assert for_people.stderr.startswith("NOT_FOUND")
    assert "minilm@1" in for_people.stderr
    assert not for_people.stdout
    for_programs = run(recorder, "nlp", "embed", "x", "--model", "zebra", "--json")
    assert for_programs.exit_code == 1
    error = json.loads(for_programs.stdout)["error"]
    assert (error["code"], error["reason"]) == ("NOT_FOUND", "MODEL_NOT_FOUND")
    assert error["metadata"]["models"] == "minilm@1"


def test_an_error_says_when_to_come_back_and_its_text_is_no_markup(recorder: Recorder) -> None:
    recorder.errors = [
        Overloaded("full", retry_after_s=2.5),
        InvalidArgument("should be [bold]", field="t[3]"),
    ]
    assert "Try again in 2.5 s" in run(recorder, "nlp", "embed", "x").stderr
    assert "t[3]: should be [bold]" in run(recorder, "nlp", "embed", "x").stderr

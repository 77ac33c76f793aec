from __future__ import annotations

from typing import Any

import pytest

from meshwork.serving.card import CardError
from meshwork.serving.sources import open_directory
from services.pipeline.plan import read_plan
from services.pipeline.tasks.steps import Pipeline

DIGIT = {"name": "digit", "method": "vision.Classify", "request": {"image": {"content": "$inputs.image"}}}


def words(text: str, **more: Any) -> dict[str, Any]:
    return {"name": "words", "method": "speech.Synthesize", "request": {"text": text, **more}}


def plan_of(*steps: Any, **outputs: Any) -> Any:
    return {"steps": list(steps), "outputs": outputs or {"all": "$digit"}}


@pytest.mark.parametrize("name", ["read-aloud", "suggest"])
def test_the_starters_fit_the_contract(name: str) -> None:
    plan = Pipeline.load(open_directory(f"starter://{name}", "pipeline"), "cpu").plan
    assert plan.inputs == ({"image"} if name == "read-aloud" else {"user"})


def test_a_step_needs_the_steps_that_it_refers_to() -> None:
    plan = read_plan(plan_of(DIGIT, words("$digit.classifications[0].label for $inputs.who")), "card.yaml")
    assert [(step.path, step.needs) for step in plan.steps] == [
        ("vision.Classify", frozenset()),
        ("speech.Synthesize", {"digit"}),
    ]
    assert plan.inputs == {"image", "who"}


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"steps": [], "outputs": {"a": 1}}, "parameters.steps: should be a list of 1 to 100"),
        ({"steps": [DIGIT]}, "parameters.outputs: should be a mapping"),
        ({**plan_of(DIGIT), "step": 1}, "parameters.step: a pipeline has steps and outputs"),
        (plan_of("digit"), r"steps\[0\]: should have name, method and request"),
        (plan_of({**DIGIT, "metod": 1}), r"steps\[0\]: should have name, method and request"),
        (plan_of({**DIGIT, "name": "inputs"}), r"steps\[0\]: name: .*not 'inputs'"),
        (plan_of({**DIGIT, "name": 7}), r"steps\[0\]: name: .*not 7"),
        (plan_of(DIGIT, DIGIT), r"steps\[1\]: name: .*no other step's"),
        (plan_of({**DIGIT, "method": "sight.Classify"}), r"\(digit\): method: .*vision, nlp"),
        (plan_of({**DIGIT, "method": "pipeline.Run"}), r"\(digit\): method: .*not 'pipeline.Run'"),
        (plan_of({**DIGIT, "method": "vision.See"}), "should be one of vision's unary methods Classify"),
        (plan_of({**DIGIT, "method": "nlp.Generate"}), "should be one of nlp's unary methods Embed"),
        (plan_of({**DIGIT, "request": "image"}), r"\(digit\): request: should be a mapping"),
        (plan_of({**DIGIT, "request": {"picture": 1}}), "request.picture: ClassifyRequest has no such field"),
        (plan_of({**DIGIT, "request": {"image": {"bytes": 1}}}), "request.image.bytes: Image has no"),
        (plan_of({**DIGIT, "request": {"top_k": "many"}}), r"\(digit\): request: Failed to parse top_k"),
        (plan_of(words("$digit.x"), DIGIT), r"\(words\): request: \$digit.x: refers to no step above"),
        (plan_of(words("$words.x")), r"\(words\): request: \$words.x: refers to no step above"),
        (plan_of(DIGIT, words("$digit.label")), r"\$digit: has no field label; it has: classifications"),
        (plan_of(DIGIT, words("$digit[0]")), r"\$digit: is no list"),
        (plan_of(DIGIT, words("$digit.classifications.label")), "is a list; say which entry"),
        (plan_of(DIGIT, words("$digit.classifications[0].label.x")), "label: has no field x"),
        (plan_of(DIGIT, words("$inputs")), r"\$inputs: should name an input"),
        (plan_of(DIGIT, words("$inputs[0]")), "should name an input"),
        (plan_of(DIGIT, words("5$")), r"\(words\): request: '5\$': a \$ should begin"),
        (plan_of(DIGIT, a="$words.audio_content"), r"outputs: \$words.audio_content: refers to no step"),
    ],
)
def test_what_is_wrong_is_named_by_step_and_field_when_the_card_is_read(parameters: Any, says: str) -> None:
    with pytest.raises(CardError, match=f"card.yaml: {says}" if says.startswith(("p", "o")) else says):
        read_plan(parameters, "card.yaml")

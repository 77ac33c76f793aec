"""Served answers equal transformers' own, on the same weights: images of mixed sizes, batched."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from meshwork.model_config import ModelConfig
from meshwork.serving.card import ModelCard, ModelDirectory
from meshwork.serving.models import ModelTable
from meshwork.serving.task import Task
from meshwork.vision.v1 import vision_pb2 as pb
from services.vision.service import VisionService
from services.vision.tasks.classify import ImageInput
from services.vision.tasks.detect import DetectInput
from services.vision.tasks.embed import ImageToEmbed, TextToEmbed
from services.vision.tasks.image_classification import ImageClassification
from tests.unit.contexts import FakeContext
from tests.unit.services.vision.checkpoints import encoded, photo

SIZES = [(80, 60), (60, 80), (33, 120), (64, 64), (200, 150), (80, 60), (7, 5)]
PHOTOS = [photo(seed, *size) for seed, size in enumerate(SIZES)]
CAPTIONS = ["a cat", "a photo of a dog and a cat, in the snow", "dog", "наїжачений кіт"]
CALLER: Any = FakeContext()


def reference(kind: str, folder: Path) -> tuple[Any, Any]:
    """transformers' own network and processor."""
    network = getattr(transformers, kind).from_pretrained(folder).eval()
    return network, transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")


def answers(task: Any, inputs: list[Any]) -> list[Any]:
    """Each input's answer, all inputs that may share a batch in one."""
    prepared = [task.preprocess(each) for each in inputs]
    groups: dict[Any, list[int]] = {}
    for index, each in enumerate(prepared):
        assert task.cost(each) > 0
        groups.setdefault(task.group(each), []).append(index)
    outputs: dict[int, Any] = {}
    for members in groups.values():
        raws = task.forward([prepared[index] for index in members])
        for index, raw in zip(members, raws, strict=True):
            outputs[index] = task.postprocess(prepared[index], raw)
    return [outputs[index] for index in range(len(inputs))]


def scaled(logits: torch.Tensor, many: bool) -> torch.Tensor:
    return logits.sigmoid() if many else logits.softmax(-1)


@pytest.fixture(scope="module", autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.mark.parametrize("name", ["vit", "resnet", "convnext", "many-classes"])
async def test_classes_and_scores_are_the_references(
    table: ModelTable, checkpoints: dict[str, Path], name: str
) -> None:
    task = (await table.acquire(Task, "Classify", name, CALLER)).task
    network, processor = reference("AutoModelForImageClassification", checkpoints[name])
    served = answers(task, [ImageInput(content=encoded(image), top_k=100) for image in PHOTOS])
    for image, scored in zip(PHOTOS, served, strict=True):
        logits = network(**processor(images=image, return_tensors="pt")).logits[0]
        wanted = scaled(logits, name == "many-classes").sort(descending=True)
        np.testing.assert_allclose([each.score for each in scored], wanted.values, atol=1e-5)
        assert [each.label for each in scored] == [f"kind {index}" for index in wanted.indices]
    tops = {round(scored[0].score, 3) for scored in served}
    assert len(tops) > 3, "the checkpoint should tell the photos apart, or a mix-up would not be seen"


@pytest.mark.parametrize("name", ["detr", "rt-detr"])
@pytest.mark.parametrize("threshold", [0.05, 0.3])
async def test_objects_are_the_references_in_pixels_of_the_image_sent(
    table: ModelTable, checkpoints: dict[str, Path], name: str, threshold: float
) -> None:
    task = (await table.acquire(Task, "Detect", name, CALLER)).task
    network, processor = reference("AutoModelForObjectDetection", checkpoints[name])
    inputs = [DetectInput(content=encoded(image), min_score=threshold, max_results=1000) for image in PHOTOS]
    served = answers(task, inputs)
    assert any(each.found for each in served)
    for image, detected in zip(PHOTOS, served, strict=True):
        assert (detected.width, detected.height) == image.size
        given = processor(images=image, return_tensors="pt")
        (wanted,) = processor.post_process_object_detection(
            network(**given), threshold=threshold, target_sizes=[image.size[::-1]]
        )
        order = wanted["scores"].argsort(descending=True, stable=True)
        edges = torch.tensor([image.width, image.height] * 2)
        boxes = torch.minimum(wanted["boxes"].clamp(min=0), edges)[order].reshape(-1, 4)
        np.testing.assert_allclose(
            [each.score for each in detected.found], wanted["scores"][order], atol=1e-5
        )
        assert [each.label for each in detected.found] == [f"kind {i}" for i in wanted["labels"][order]]
        got = [(each.left, each.top, each.right, each.bottom) for each in detected.found]
        np.testing.assert_allclose(np.reshape(got, (-1, 4)), boxes, atol=2e-3)


async def test_vectors_of_images_and_texts_are_the_references(
    table: ModelTable, checkpoints: dict[str, Path]
) -> None:
    task = (await table.acquire(Task, "EmbedImage", "clip", CALLER)).task
    network, processor = reference("CLIPModel", checkpoints["clip"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoints["clip"])
    inputs = [
        *(ImageToEmbed(content=encoded(image), field="images") for image in PHOTOS),
        *(TextToEmbed(text=text, field="texts") for text in CAPTIONS),
    ]
    got = np.stack([each.vector for each in answers(task, inputs)])
    pixels = torch.cat([processor(images=image, return_tensors="pt").pixel_values for image in PHOTOS])
    texts = tokenizer(CAPTIONS, padding=True, return_tensors="pt")
    wanted = torch.cat(
        [network.get_image_features(pixels).pooler_output, network.get_text_features(**texts).pooler_output]
    )
    np.testing.assert_allclose(got, torch.nn.functional.normalize(wanted), atol=1e-5)
    assert np.abs(got @ got.T - np.eye(len(got))).max() < 0.999, "no two should be alike"


async def test_labels_score_as_transformers_own_pipeline_scores_them(
    service: VisionService, checkpoints: dict[str, Path]
) -> None:
    pipe = transformers.pipeline("zero-shot-image-classification", model=str(checkpoints["clip"]))
    labels = ["cat", "dog", "a very long word for it", "x"]
    for _ in range(2):  # the second time the labels are known
        responses = await asyncio.gather(
            *(
                service.Classify(
                    pb.ClassifyRequest(image=pb.Image(content=encoded(image)), labels=labels), CALLER
                )
                for image in PHOTOS
            )
        )
        for image, response in zip(PHOTOS, responses, strict=True):
            wanted = pipe(image, candidate_labels=labels)
            assert response.served_by.model == "clip"
            assert [each.label for each in response.classifications] == [each["label"] for each in wanted]
            scores = [each.score for each in response.classifications]
            np.testing.assert_allclose(scores, [each["score"] for each in wanted], atol=1e-4)


async def test_many_callers_at_once_get_each_their_own_answer(
    service: VisionService, checkpoints: dict[str, Path]
) -> None:
    network, processor = reference("AutoModelForImageClassification", checkpoints["vit"])
    photos = [photo(seed, 40 + seed % 7, 40 + seed % 5) for seed in range(40)]
    responses = await asyncio.gather(
        *(
            service.Classify(
                pb.ClassifyRequest(image=pb.Image(content=encoded(image)), model="vit", top_k=12), CALLER
            )
            for image in photos
        )
    )
    wanted = network(**processor(images=photos, return_tensors="pt")).logits.softmax(-1)
    for response, scores in zip(responses, wanted, strict=True):
        got = {each.label: each.score for each in response.classifications}
        np.testing.assert_allclose([got[f"kind {i}"] for i in range(12)], scores, atol=1e-5)


async def test_boxes_of_a_turned_photo_lie_on_the_upright_one(service: VisionService) -> None:
    upright = photo(3, 90, 60)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(upright.transpose(Image.Transpose.ROTATE_90), exif=exif)
    plain, by_exif = [
        await service.Detect(
            pb.DetectRequest(image=pb.Image(content=content), model="detr", min_score=0.01), CALLER
        )
        for content in (encoded(upright), turned)
    ]
    assert (by_exif.image_width, by_exif.image_height) == (90, 60)
    assert list(plain.detections) == list(by_exif.detections) != []
    for each in plain.detections:
        pixels, fractions = each.pixel_box, each.normalized_box
        assert 0 <= fractions.left <= fractions.right <= 1
        assert 0 <= fractions.top <= fractions.bottom <= 1
        assert (fractions.left * 90, fractions.bottom * 60) == pytest.approx((pixels.left, pixels.bottom))


@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec:FutureWarning")  # torch's own
def test_other_engines_give_the_same_classes(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESHWORK_CACHE", str(tmp_path))
    inputs = [ImageInput(content=encoded(image), top_k=100) for image in PHOTOS]
    wanted, *others = [
        answers(ImageClassification.load(directory(checkpoints["many-classes"], engine=name), "cpu"), inputs)
        for name in ("torch", "onnxruntime", "openvino")
    ]
    for got in others:
        for one, other in zip(wanted, got, strict=True):
            assert [each.label for each in one] == [each.label for each in other]
            np.testing.assert_allclose(
                [each.score for each in one], [each.score for each in other], atol=1e-4
            )


async def test_bfloat16_stays_near_the_reference(checkpoints: dict[str, Path]) -> None:
    exact, near = [
        answers(
            ImageClassification.load(directory(checkpoints["resnet"], precision=precision), "cpu"),
            [ImageInput(content=encoded(image), top_k=100) for image in PHOTOS],
        )
        for precision in ("float32", "bfloat16")
    ]
    for wanted, got in zip(exact, near, strict=True):
        scores = {each.label: each.score for each in got}
        assert max(abs(each.score - scores[each.label]) for each in wanted) < 0.05


def directory(folder: Path, **settings: Any) -> ModelDirectory:
    card = ModelCard(
        name="m", version="1", service="vision", task="image-classification", methods=("Classify",),
        **settings,
    )  # fmt: skip
    return ModelDirectory(path=folder, card=card, source=str(folder))


async def test_a_hugging_face_directory_names_its_own_task(table: ModelTable) -> None:
    tasks = {entry.card.name: entry.card.task for entry in table.entries}
    assert tasks["resnet"] == tasks["convnext"] == "image-classification"
    assert tasks["detr"] == tasks["rt-detr"] == "object-detection"
    assert tasks["clip"] == "clip"
    for described in table.describe():
        assert not described.error
        assert described.memory_bytes > 0


async def test_a_directory_that_does_not_fit_says_what_is_wrong(
    table: ModelTable, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    from tests.unit.services.vision.checkpoints import clip, set_in, vit

    lacking, other = tmp_path / "lacking", tmp_path / "other"
    vit(lacking)
    (lacking / "preprocessor_config.json").unlink()
    clip(other)
    set_in(other / "config.json", architectures=["ChineseCLIPModel"], model_type="chinese_clip")
    for config, cause in [
        (ModelConfig(source=str(lacking)), "preprocessor_config.json"),
        (ModelConfig(source=str(other)), "chinese"),
        (ModelConfig(source=str(checkpoints["clip"]), name="c", parameters={"phrase": "x"}), "{label}"),
        (ModelConfig(source=str(checkpoints["vit"]), name="v", task="object-detection"), "box"),
    ]:
        await table.add(config)
        described = table.describe()[-1]
        assert cause in described.error.lower() or cause in described.error
        await table.remove(config)

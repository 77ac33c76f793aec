import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from meshwork.serving.card import CardError, ModelDirectory
from meshwork.serving.sources import open_directory
from services.vision.tasks.classify import ImageInput
from services.vision.tasks.digits import Digits
from training.digits import accuracy, split
from training.photographs import clean, photograph


def copied(folder: Path) -> ModelDirectory:
    return replace(open_directory("starter://digits", "vision"), path=folder, source=str(folder))


def test_held_out_digits_are_read(digits: Digits) -> None:
    _, _, images, truths = split()
    plain = [
        (clean(image, 40, dark_on_light=True), int(truth))
        for image, truth in zip(images, truths, strict=True)
    ]
    assert accuracy(digits, iter(plain)) >= 0.98


@pytest.mark.parametrize("dark_on_light", [True, False])
def test_photographs_of_held_out_digits_are_read(digits: Digits, dark_on_light: bool) -> None:
    _, _, images, truths = split()
    random = np.random.default_rng(7)  # other photographs than the card's figures come from
    pictures = (
        (photograph(image, random, dark_on_light=dark_on_light, sides=(50, 300)), int(truth))
        for image, truth in zip(images[:150], truths[:150], strict=True)
    )
    assert accuracy(digits, pictures) >= 0.96


def test_the_held_out_digits_are_the_same_each_time_and_not_learned_from() -> None:
    first, again = split(), split()
    assert np.array_equal(first[2], again[2])
    assert len(first[2]) == 360
    learned = {image.tobytes() for image in first[0]}
    assert sum(image.tobytes() in learned for image in first[2]) == 0


def test_company_in_the_batch_does_not_change_an_answer(digits: Digits, one_png: bytes) -> None:
    drawing = digits.preprocess(ImageInput(content=one_png, top_k=3))
    other = replace(drawing, ink=drawing.ink.T.copy())
    alone = digits.forward([drawing])[0]
    assert np.abs(digits.forward([other, drawing, other])[1] - alone).max() < 1e-5


def test_a_directory_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="is missing"):
        Digits.load(copied(tmp_path), "cpu")


def test_broken_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"not safetensors at all")
    with pytest.raises(CardError, match="does not fit"):
        Digits.load(copied(tmp_path), "cpu")


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_file({"head.1.weight": torch.zeros(3, 3)}, tmp_path / "model.safetensors")
    with pytest.raises(CardError, match="does not fit"):
        Digits.load(copied(tmp_path), "cpu")


def test_serving_imports_no_training_library() -> None:
    script = (
        "import sys, services.vision.__main__, services.vision.service, services.vision.tasks.digits as d\n"
        "from meshwork.serving.sources import open_directory\n"
        "d.Digits.load(open_directory('starter://digits', 'vision'), 'cpu').warm_up()\n"
        "heavy = {'transformers', 'sklearn', 'scipy', 'torchvision', 'torch._dynamo', 'training'}\n"
        "print(*heavy & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr

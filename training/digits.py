"""Makes vision's starter `digits`: `python -m training.digits`, about five minutes on one free core.

Of scikit-learn's 1,797 handwritten digits, 360 are set aside before anything else, the same ones
each time and as many of each digit. The others are photographed by `training.photographs`, every
photograph goes through the service's own preprocessing, and `DigitCnn` learns from what comes out.
The card then gets what was measured on the 360; `samples/` gets photographs of some of them.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional

from meshwork.serving.sources import open_directory
from services.vision.networks.digit_cnn import DigitCnn
from services.vision.tasks.classify import ImageInput
from services.vision.tasks.digits import Digits
from services.vision.tasks.ink import normalised_ink
from training.photographs import clean, photograph

ROOT = Path(__file__).resolve().parents[1]
STARTER = ROOT / "services/vision/starters/digits"
SEED = 20
HELD_OUT = 360
PHOTOGRAPHS = 8  # of each digit
EPOCHS = 8
BATCH = 128

Array = NDArray[np.float32]

CARD = {
    "name": "digits",
    "version": "1",
    "service": "vision",
    "task": "digits",
    "methods": ["Classify"],
    "licence": "BSD-3-Clause",
    "description": "One handwritten digit, 0 to 9, dark on light or light on dark, of any size.",
    "limits": [
        "One digit an image; it names a digit even where there is none, or several.",
        "The digit must stand alone: ruled lines through it, or the edge of the paper beside it, mislead it.",
        "Upright within about 15 degrees.",
        "Learned from the handwriting of 43 people; the held-out digits are other drawings, "
        "not all of them by other people. Printed digits are harder for it (see quality).",
    ],
}


def split() -> tuple[Array, NDArray[np.int64], Array, NDArray[np.int64]]:
    """Images [n, 8, 8] of 0 to 16 and digits [n]: to learn from, then held out."""
    digits = load_digits()
    parts = train_test_split(
        digits.images.astype(np.float32),
        digits.target,
        test_size=HELD_OUT,
        stratify=digits.target,
        random_state=SEED,
    )
    return parts[0], parts[2], parts[1], parts[3]


def lessons(images: Array, digits: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Every image as it is and photographed several times, as the network sees it."""
    random = np.random.default_rng(SEED)
    inks, targets = [], []
    began = time.monotonic()
    for index, (image, digit) in enumerate(zip(images, digits, strict=True)):
        for _ in range(PHOTOGRAPHS):
            dark = bool(random.random() < 0.5)
            picture = photograph(image, random, dark_on_light=dark, sides=(40, 160))
            inks.append(normalised_ink(picture))
        for side in (8, int(random.integers(20, 120))):
            plain = clean(image, side, dark_on_light=bool(random.random() < 0.5))
            inks.append(normalised_ink(plain.convert("RGB")))
        targets += [int(digit)] * (PHOTOGRAPHS + 2)
        if index % 100 == 99:
            print(
                f"photographed {index + 1} of {len(images)} digits, {time.monotonic() - began:.0f} s",
                flush=True,
            )
    return torch.from_numpy(np.stack(inks)), torch.tensor(targets)


def varied(ink: Tensor, random: torch.Generator) -> Tensor:
    """The batch turned, slanted, stretched and moved a little: [b, 32, 32] -> [b, 32, 32]."""
    batch = len(ink)
    uniform = torch.rand(batch, 6, generator=random) * 2 - 1
    turn, slant = uniform[:, 0] * 0.14, uniform[:, 1] * 0.12
    wide, high = 1 + uniform[:, 2] * 0.12, 1 + uniform[:, 3] * 0.1
    rows = torch.stack(
        [
            torch.stack([wide * turn.cos(), slant - turn.sin(), uniform[:, 4] * 0.06], 1),
            torch.stack([turn.sin(), high * turn.cos(), uniform[:, 5] * 0.06], 1),
        ],
        1,
    )  # [b, 2, 3]
    grid = functional.affine_grid(rows, [batch, 1, *ink.shape[1:]], align_corners=False)
    return functional.grid_sample(ink.unsqueeze(1), grid, align_corners=False).squeeze(1)


def train(ink: Tensor, digits: Tensor) -> DigitCnn:
    """Fits the network, from nothing."""
    torch.manual_seed(SEED)
    random = torch.Generator().manual_seed(SEED)
    network = DigitCnn()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.02)
    steps = EPOCHS * (len(ink) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.03)
    began = time.monotonic()
    for epoch in range(EPOCHS):
        network.train()
        total = 0.0
        order = torch.randperm(len(ink), generator=random)
        for start in range(0, len(ink) - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            loss = loss_of(network(varied(ink[chosen], random)), digits[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        mean = total / (len(ink) // BATCH)
        print(f"epoch {epoch + 1} of {EPOCHS}: loss {mean:.3f}, {time.monotonic() - began:.0f} s", flush=True)
    return network.eval()


def accuracy(model: Digits, pictures: Iterator[tuple[Image.Image, int]]) -> float:
    """Share of the pictures, sent as PNG files, whose digit the model reads right."""
    right = []
    for picture, digit in pictures:
        file = io.BytesIO()
        picture.save(file, "PNG")
        drawing = model.preprocess(ImageInput(content=file.getvalue(), top_k=1))
        best = model.postprocess(drawing, model.forward([drawing])[0])[0]
        right.append(best.label == str(digit))
    return float(np.mean(right))


def printed() -> Iterator[tuple[Image.Image, int]]:
    """The ten digits in Pillow's own typeface, in five sizes."""
    for size in (20, 32, 48, 80, 140):
        for digit in range(10):
            picture = Image.new("L", (2 * size, 2 * size), 255)
            ImageDraw.Draw(picture).text(
                (size, size), str(digit), fill=0, font=ImageFont.load_default(size), anchor="mm"
            )
            yield picture, digit


def measure(model: Digits, images: Array, digits: NDArray[np.int64]) -> list[dict[str, object]]:
    """The figures of the card, on images that were set aside."""
    held = f"{len(images)} held-out digits"

    def taken(draw: Callable[[Array, np.random.Generator], Image.Image]) -> Iterator[tuple[Image.Image, int]]:
        random = np.random.default_rng(SEED + 1)
        return ((draw(image, random), int(digit)) for image, digit in zip(images, digits, strict=True))

    def photographed(dark: bool) -> Iterator[tuple[Image.Image, int]]:
        return taken(lambda image, random: photograph(image, random, dark_on_light=dark, sides=(40, 1200)))

    def scaled(dark: bool) -> Iterator[tuple[Image.Image, int]]:
        return taken(lambda image, random: clean(image, int(random.integers(8, 400)), dark_on_light=dark))

    sets = {
        f"{held}, clean, scaled to 8 to 400 pixels, black on white": scaled(True),
        f"{held}, clean, scaled to 8 to 400 pixels, white on black": scaled(False),
        f"{held}, photographed (synthetic), dark on light": photographed(True),
        f"{held}, photographed (synthetic), light on dark": photographed(False),
        "the ten digits printed in Pillow's typeface, five sizes (never trained on)": printed(),
    }
    figures: list[dict[str, object]] = []
    for dataset, pictures in sets.items():
        value = round(accuracy(model, pictures), 4)
        figures.append({"metric": "accuracy", "value": value, "dataset": dataset})
        print(f"accuracy {value:.4f} on {dataset}", flush=True)
    return figures


def write_card(quality: list[dict[str, object]]) -> None:
    """Writes card.yaml with the measured figures."""
    text = yaml.safe_dump({**CARD, "quality": quality}, sort_keys=False, allow_unicode=True, width=110)
    (STARTER / "card.yaml").write_text(text, encoding="utf-8")


def write_samples(images: Array, digits: NDArray[np.int64]) -> None:
    """Photographs of a held-out three, five and seven, by a seed that keeps them small and legible."""
    random = np.random.default_rng(SEED + 9)
    for digit, name, dark in ((3, "three", False), (5, "five", True), (7, "seven", True)):
        image = images[np.flatnonzero(digits == digit)[1]]
        picture = photograph(image, random, dark_on_light=dark, sides=(160, 240))
        picture.quantize(64).save(ROOT / f"samples/{name}.png", optimize=True)


def main() -> None:
    """Trains, saves, measures, writes the card and the samples."""
    torch.set_num_threads(1)
    STARTER.mkdir(parents=True, exist_ok=True)
    images, digits, held_images, held_digits = split()
    network = train(*lessons(images, digits))
    weights = STARTER / "model.safetensors"
    save_file(network.state_dict(), weights)
    weights.chmod(0o644)  # safetensors makes it its owner's alone
    write_card([])
    model = Digits.load(open_directory(str(STARTER), "vision"), "cpu")
    write_card(measure(model, held_images, held_digits))
    write_samples(held_images, held_digits)


if __name__ == "__main__":
    main()

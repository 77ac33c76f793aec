"""The three workloads' weights and requests, the same on every machine, and the answers that are right.

| workload | network | input |
|---|---|---|
| text | BERT layout, 4 layers of 256, two classes, random weights | 2,000 texts of 4 to 256 tokens |
| vector | product with a 64 x 8 matrix | 512 vectors |
| image | ResNet-18, 1,000 classes, random weights | 64 JPEG files of 500 x 375 pixels, about 30 kB each |

Networks are Hugging Face directories, so that everyone loads the same files. Random weights cost what
trained ones do; the last layers are scaled so that the scores spread, as a wrong answer could else
pass for a right one. Reference answers come from one input at a time, in float32, unpadded.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
    ResNetConfig,
    ResNetForImageClassification,
)

from benchmarks.peers import workloads
from benchmarks.peers.places import DATA, IMAGE_MODEL, TEXT_MODEL, VECTOR_MODEL

VOCABULARY = 8000
LONGEST = 256  # tokens
SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}


def make() -> None:
    """Writes `.bench/data`; takes a minute or two."""
    DATA.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    words = _tokenizer()
    texts = list(_texts(words))
    (DATA / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    _text_model(texts)
    vectors = _vectors()
    images = [_jpeg(seed) for seed in range(100, 164)]
    for index, image in enumerate(images):
        (DATA / f"image{index:02d}.jpg").write_bytes(image)
    _image_model(images[:16])

    text, image_classes = workloads.Text(), workloads.Image()
    np.savez(
        DATA / "reference.npz",
        text=np.concatenate([text([each]) for each in texts]),
        vector=workloads.Vector()(vectors),
        image=np.concatenate([image_classes.probabilities([each]) for each in images]),
    )


class _Product(torch.nn.Module):
    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.get_buffer("weight")


def _vectors() -> npt.NDArray[np.float32]:
    """Saves the matrix, as an array and as a network in torch.export's form; gives the inputs."""
    chosen = np.random.default_rng(5)
    weight = chosen.standard_normal((64, 8)).astype(np.float32)
    VECTOR_MODEL.mkdir(exist_ok=True)
    np.save(VECTOR_MODEL / "weight.npy", weight)
    shapes = {"x": {0: torch.export.Dim.DYNAMIC}}
    program = torch.export.export(
        _Product(torch.from_numpy(weight)), (torch.zeros(2, 64),), dynamic_shapes=shapes
    )
    torch.export.save(program, VECTOR_MODEL / "vector.pt2")
    vectors = chosen.standard_normal((512, 64)).astype(np.float32)
    np.save(DATA / "vectors.npy", vectors)
    return vectors


def _tokenizer() -> list[str]:
    """Saves a WordPiece tokenizer of made-up words; gives the whole words."""
    chosen = random.Random(7)
    syllables = [first + vowel for first in "bcdfghjklmnprstvwz" for vowel in "aeiou"]
    syllables += ["an", "er", "in", "on", "st", "th"]
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = [*SPECIAL.values(), "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    vocabulary += list(".,!?;:'\"-0123456789")
    known = set(vocabulary)
    while len(vocabulary) < VOCABULARY:
        word = "".join(chosen.choice(syllables) for _ in range(chosen.choice([1, 2, 2, 3, 3, 4])))
        if chosen.random() < 0.15:
            word = f"##{word}"
        if word not in known:
            known.add(word)
            vocabulary.append(word)
    tokenizer = Tokenizer(
        models.WordPiece({word: index for index, word in enumerate(vocabulary)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(mark, vocabulary.index(mark)) for mark in ("[CLS]", "[SEP]")],
    )
    tokenizer.enable_truncation(LONGEST)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=LONGEST, mask_token="[MASK]", **SPECIAL
    ).save_pretrained(TEXT_MODEL)
    return [word for word in vocabulary if word.isalpha() and len(word) > 1]


def _texts(words: list[str]) -> Iterator[str]:
    """Sentences of common and rare words; lengths are lognormal, as those of real texts."""
    chosen = np.random.default_rng(11)
    chosen.shuffle(words)
    share = 1 / (np.arange(len(words)) + 10)
    share /= share.sum()
    for _ in range(2000):
        count = max(2, int(chosen.lognormal(np.log(20.5), 0.9)))
        picked = [str(word) for word in chosen.choice(words, count, p=share)]
        # A few words that the vocabulary has only in pieces.
        picked = [f"{word}x" if chosen.random() < 0.04 else word for word in picked]
        yield " ".join(picked).capitalize() + "."


@torch.inference_mode()
def _text_model(texts: list[str]) -> None:
    config = BertConfig(
        num_hidden_layers=4,
        hidden_size=256,
        num_attention_heads=4,
        intermediate_size=1024,
        vocab_size=VOCABULARY,
        max_position_embeddings=LONGEST,
        initializer_range=0.06,
        id2label={0: "negative", 1: "positive"},
        label2id={"negative": 0, "positive": 1},
    )
    network: Any = BertForSequenceClassification(config)
    network.eval()
    tokenizer = Tokenizer.from_file(str(TEXT_MODEL / "tokenizer.json"))
    logits = torch.cat(
        [network(torch.tensor([encoded.ids])).logits for encoded in tokenizer.encode_batch(texts[:300])]
    )
    scale = 1.5 / (logits[:, 0] - logits[:, 1]).std()
    network.classifier.weight.mul_(scale)
    network.classifier.bias.copy_(-logits.mean(0) * scale)
    network.save_pretrained(TEXT_MODEL)


@torch.no_grad()
def _image_model(images: list[bytes]) -> None:
    names = {index: f"class {index}" for index in range(1000)}
    config = ResNetConfig(
        hidden_sizes=[64, 128, 256, 512],
        depths=[2, 2, 2, 2],
        layer_type="basic",
        id2label=names,
        label2id={name: index for index, name in names.items()},
    )
    network: Any = ResNetForImageClassification(config)
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None  # the statistics of one pass, as they are
    pixels = torch.from_numpy(np.stack([workloads.pixels(image) for image in images]))
    network.train()(pixels)
    features = network.eval().resnet(pixels).pooler_output.flatten(1)
    last = network.classifier[-1]
    last.weight.mul_(2.5 / last(features - features.mean(0)).std())
    last.bias.copy_(-last.weight @ features.mean(0))
    network.save_pretrained(IMAGE_MODEL)
    (IMAGE_MODEL / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "image_processor_type": "ViTImageProcessor",
                "do_resize": True,
                "size": {"height": workloads.SIDE, "width": workloads.SIDE},
                "resample": 2,
                "do_rescale": True,
                "rescale_factor": 1 / 255,
                "do_normalize": True,
                "image_mean": workloads.MEAN.tolist(),
                "image_std": workloads.STD.tolist(),
            },
            indent=2,
        ),
        encoding="utf-8",
    )


def _jpeg(seed: int) -> bytes:
    """A photograph-like picture: noise at four scales."""
    chosen = np.random.default_rng(seed)
    picture: npt.NDArray[np.float32] = np.zeros((375, 500, 3), np.float32)
    for cells, strength in ((4, 90), (12, 50), (40, 25), (125, 12)):
        noise = Image.fromarray(chosen.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        coarse = np.asarray(noise.resize((500, 375), Image.Resampling.BICUBIC), np.float32)
        picture += (coarse / 255 - 0.5) * strength * 2
    file = io.BytesIO()
    Image.fromarray(np.clip(picture / 2 + 128, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=92)
    return file.getvalue()

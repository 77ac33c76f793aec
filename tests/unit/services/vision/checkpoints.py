"""Tiny networks with random weights, saved as Hugging Face directories: what a user would download."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers.pre_tokenizers import ByteLevel

CLASSES = 12


def vit(folder: Path) -> None:
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, image_size=32,
        patch_size=8, num_labels=CLASSES, id2label=names(CLASSES),
    )  # fmt: skip
    save(folder, ViTForImageClassification(config), ViTImageProcessorPil(size={"height": 32, "width": 32}))


def resnet(folder: Path) -> None:
    from transformers import ConvNextImageProcessorPil, ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=CLASSES,
        id2label=names(CLASSES),
    )  # fmt: skip
    processor = ConvNextImageProcessorPil(size={"shortest_edge": 64}, crop_pct=0.875, resample=3)
    save(folder, ResNetForImageClassification(config), processor)


def convnext(folder: Path) -> None:
    from transformers import ConvNextConfig, ConvNextForImageClassification, ConvNextImageProcessorPil

    config = ConvNextConfig(
        hidden_sizes=[8, 16, 16, 24], depths=[1, 1, 1, 1], num_labels=CLASSES, id2label=names(CLASSES)
    )
    processor = ConvNextImageProcessorPil(size={"shortest_edge": 64})
    save(folder, ConvNextForImageClassification(config), processor)


def many_classes(folder: Path) -> None:
    """A ViT whose classes do not exclude each other, on images of any size: greys, of the edge's size."""
    from transformers import BitImageProcessorPil, ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3,
        id2label=names(3), problem_type="multi_label_classification",
    )  # fmt: skip
    processor = BitImageProcessorPil(size={"shortest_edge": 40}, do_center_crop=False)
    save(folder, ResNetForImageClassification(config), processor)


def clip(folder: Path) -> None:
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), "ca", "cat</w>", "do", "dog</w>"]
    marks = ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: index for index, piece in enumerate([*pieces, *marks])}
    merges = [("c", "a"), ("ca", "t</w>"), ("d", "o"), ("do", "g</w>")]
    end = vocabulary["<|endoftext|>"]
    narrow: dict[str, Any] = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64
    }  # fmt: skip
    config = CLIPConfig(
        text_config={
            **narrow, "vocab_size": len(vocabulary), "max_position_embeddings": 40, "eos_token_id": end,
            "bos_token_id": end - 1, "pad_token_id": end,
        },
        vision_config={**narrow, "image_size": 32, "patch_size": 8},
        projection_dim=24,
    )  # fmt: skip
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, do_convert_rgb=True
    )
    save(folder, CLIPModel(config), processor)
    CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=40).save_pretrained(folder)


def detr(folder: Path) -> None:
    from transformers import DetrConfig, DetrForObjectDetection, DetrImageProcessorPil, ResNetConfig

    backbone = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = DetrConfig(
        backbone_config=backbone, use_timm_backbone=False, d_model=32, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=32, decoder_ffn_dim=32,
        num_queries=9, num_labels=5, id2label=names(5),
    )  # fmt: skip
    processor = DetrImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 100})
    save(folder, DetrForObjectDetection(config), processor)


def rt_detr(folder: Path) -> None:
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrImageProcessorPil
    from transformers.models.rt_detr import RTDetrResNetConfig

    backbone = RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = RTDetrConfig(
        backbone_config=backbone, encoder_hidden_dim=32, encoder_in_channels=[8, 16, 16], d_model=32,
        feat_strides=[8, 16, 32], encoder_ffn_dim=32, decoder_ffn_dim=32, encoder_attention_heads=4,
        decoder_attention_heads=4, decoder_layers=1, encoder_layers=1, num_queries=20, num_denoising=0,
        decoder_in_channels=[32, 32, 32], num_labels=5, id2label=names(5), encode_proj_layers=[2],
        freeze_backbone_batch_norms=False,
    )  # fmt: skip
    save(folder, RTDetrForObjectDetection(config), RTDetrImageProcessorPil(size={"height": 64, "width": 64}))


def names(count: int) -> dict[int, str]:
    return {index: f"kind {index}" for index in range(count)}


def save(folder: Path, network: Any, processor: Any) -> None:
    """Saves both, the network with weights drawn wide enough for its answers to differ."""
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.dim() > 1:
                fan = parameter.shape[1:].numel()
                parameter.normal_(0, (2 / fan) ** 0.5, generator=generator)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.3, generator=generator)
        norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        if norms:  # without what real activations measure, each layer would see less of the image
            for norm in norms:
                norm.momentum = None
            network.train()(torch.rand(8, 3, 64, 64, generator=generator) * 2 - 1)
    network.save_pretrained(folder)
    processor.save_pretrained(folder)


CHECKPOINTS: dict[str, Callable[[Path], None]] = {
    "vit": vit, "resnet": resnet, "convnext": convnext, "many-classes": many_classes, "clip": clip,
    "detr": detr, "rt-detr": rt_detr,
}  # fmt: skip


def drop_processor(folder: Path) -> None:
    """Leaves a directory without its image processor."""
    (folder / "preprocessor_config.json").unlink()


def set_in(file: Path, **entries: Any) -> None:
    """Changes entries of a JSON file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **entries}))


def photo(seed: int, width: int, height: int) -> Image.Image:
    """A smooth random picture."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()

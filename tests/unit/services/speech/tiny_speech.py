"""CTC and VITS networks small enough for tests, with random weights, and recordings for them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    HubertConfig,
    HubertForCTC,
    VitsConfig,
    VitsModel,
    VitsTokenizer,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
    WavLMConfig,
    WavLMForCTC,
)

from meshwork.model_config import ModelConfig
from meshwork.serving.card import ModelCard, ModelDirectory
from meshwork.serving.load import LoadMeter
from meshwork.serving.models import ModelTable
from meshwork.speech.v1 import speech_pb2 as pb
from services.speech.__main__ import SPEC
from services.speech.service import SpeechService
from services.speech.tasks.audio import AudioInput
from tests.unit.contexts import FakeContext

torch.set_num_threads(1)  # threads of networks this small only wait for each other

RATE_HZ = 16_000
CONTEXT: Any = FakeContext()
_CTC: dict[str, tuple[Any, Any]] = {
    "wav2vec2": (Wav2Vec2Config, Wav2Vec2ForCTC),
    "hubert": (HubertConfig, HubertForCTC),
    "wavlm": (WavLMConfig, WavLMForCTC),
}


def recording(seconds: float, seed: int) -> np.ndarray:
    """A wavering tone over noise, [n_samples] at 16 kHz."""
    random = np.random.default_rng(seed)
    at = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    tone = np.sin(2 * np.pi * (150 + 300 * random.random()) * at * (1 + 0.2 * np.sin(5 * at)))
    loud = np.abs(np.sin((1 + 3 * random.random()) * at))
    return (0.3 * tone * loud + 0.05 * random.standard_normal(len(at))).astype(np.float32)


def save_ctc(folder: Path, *, kind: str = "wav2vec2", norm: str = "layer", seed: int = 0) -> Path:
    """Writes a CTC network of six letters, its feature extractor and its tokenizer."""
    folder.mkdir(exist_ok=True)
    tokens = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdef"]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    torch.manual_seed(seed)
    config_class, model_class = _CTC[kind]
    config = config_class(
        vocab_size=len(tokens),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        conv_dim=(16, 16, 16),
        conv_kernel=(10, 4, 4),
        conv_stride=(5, 8, 8),
        num_feat_extract_layers=3,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        feat_extract_norm=norm,
        do_stable_layer_norm=norm == "layer",
        initializer_range=0.5,
        pad_token_id=0,
    )
    model_class(config).save_pretrained(folder)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=norm == "layer")
    tokenizer = Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    Wav2Vec2Processor(feature_extractor=extractor, tokenizer=tokenizer).save_pretrained(folder)
    return folder


def save_vits(folder: Path, *, speakers: int = 1, seed: int = 0) -> Path:
    """Writes a VITS network that reads English letters."""
    folder.mkdir(exist_ok=True)
    letters = [*"kzjqvxwybpgmfucldhrsinotae' ", "<unk>"]
    (folder / "vocab.json").write_text(json.dumps({letter: index for index, letter in enumerate(letters)}))
    torch.manual_seed(seed)
    config = VitsConfig(
        vocab_size=len(letters),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        ffn_dim=32,
        flow_size=16,
        spectrogram_bins=9,
        num_speakers=speakers,
        speaker_embedding_size=8 if speakers > 1 else 0,
        upsample_initial_channel=16,
        upsample_rates=[4, 4],
        upsample_kernel_sizes=[8, 8],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1, 3]],
        prior_encoder_num_flows=2,
        prior_encoder_num_wavenet_layers=2,
        posterior_encoder_num_wavenet_layers=2,
        duration_predictor_num_flows=2,
        duration_predictor_filter_channels=16,
        depth_separable_num_layers=2,
    )
    VitsModel(config).save_pretrained(folder)
    tokenizer = VitsTokenizer(
        str(folder / "vocab.json"), pad_token="k", language="eng", phonemize=False, is_uroman=False
    )
    tokenizer.save_pretrained(folder)
    return folder


def directory(folder: Path, *, precision: str = "float32", **parameters: Any) -> ModelDirectory:
    """The folder with a card made for it."""
    card = ModelCard(
        name="tiny",
        version="1",
        service="speech",
        task="any",
        methods=("any",),
        precision=precision,
        parameters=parameters,
    )
    return ModelDirectory(path=folder, card=card, source=str(folder))


def pcm(samples: np.ndarray) -> bytes:
    """Samples as 16-bit integers."""
    return (samples * 32767).astype("<i2").tobytes()


def audio(samples: np.ndarray, language: str = "") -> AudioInput:
    """Samples as a caller sends them."""
    return AudioInput(content=pcm(samples), raw=True, sample_rate_hz=RATE_HZ, language=language)


def request(samples: np.ndarray, **fields: Any) -> pb.RecognizeRequest:
    """The same as a request."""
    sent = pb.Audio(content=pcm(samples), encoding=pb.AUDIO_ENCODING_LINEAR16, sample_rate_hertz=RATE_HZ)
    return pb.RecognizeRequest(audio=sent, **fields)


@asynccontextmanager
async def serving(config: ModelConfig) -> AsyncIterator[SpeechService]:
    """The service with one model."""
    models = ModelTable(
        "speech", "speech-test", SPEC.tasks, "cpu", LoadMeter(), architectures=SPEC.architectures
    )
    await models.add(config)
    assert not models.describe()[0].error, models.describe()[0].error
    context: Any = type("Context", (), {"models": models})
    yield SpeechService(context)
    await models.close()

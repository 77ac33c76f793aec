"""Causal language models of random weights, small enough to run in a test, as Hugging Face directories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

torch.set_num_threads(1)  # more only wait for each other on matrices this small

VOCABULARY = 300  # bytes, then words, then special tokens
END = VOCABULARY - 1
CONTEXT = 256
WORDS = ["Ġthe", "Ġa", "th", "he", "in", "Ġ2", "er", "an", "ou", "Ġs"]
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message.role == 'nobody' %}"
    "{{ raise_exception('nobody may not speak') }}{% endif %}"
    "{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)

# Large enough to make the likeliest token stand out, whatever the rounding.
COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.3,
    "max_position_embeddings": CONTEXT,
    "bos_token_id": END,
    "eos_token_id": END,
    "pad_token_id": None,
}
LAYOUTS = {
    "gpt2": ("GPT2", {"n_embd": 64}),
    "llama": ("Llama", {"num_key_value_heads": 2, "hidden_size": 64, "intermediate_size": 96}),
    "llama-rope-scaled": (
        "Llama",
        {
            "hidden_size": 64,
            "intermediate_size": 96,
            "tie_word_embeddings": True,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 10000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            },
        },
    ),
    "qwen2": ("Qwen2", {"num_key_value_heads": 2, "hidden_size": 64, "intermediate_size": 96}),
    "qwen2-sliding": (
        "Qwen2",
        {
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_key_value_heads": 4,
            "use_sliding_window": True,
            "sliding_window": 16,
            "max_window_layers": 1,
        },
    ),
    "qwen3": (
        "Qwen3",
        {"num_key_value_heads": 1, "head_dim": 32, "hidden_size": 64, "intermediate_size": 96},
    ),
}


def network(layout: str, **changes: Any) -> Any:
    """A network of random weights, always the same; `layout` is one of LAYOUTS."""
    import transformers

    family, own = LAYOUTS[layout]
    config = getattr(transformers, f"{family}Config")(**{**COMMON, **own, **changes})
    kind = getattr(transformers, f"{family}{'LMHeadModel' if family == 'GPT2' else 'ForCausalLM'}")
    torch.manual_seed(1)
    return kind(config).eval()


def tokenizer() -> Any:
    """A byte-level tokenizer whose every token the networks know."""
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*letters, *WORDS]
    names += [f"<|{number}|>" for number in range(len(names), VOCABULARY)]
    bpe = models.BPE(vocab={name: index for index, name in enumerate(names)}, merges=[("t", "h"), ("h", "e")])
    inner = Tokenizer(bpe)
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(name, special=True) for name in names[len(letters) + len(WORDS) :]])
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=names[END])


def save(folder: Path, layout: str = "llama", *, chat: bool = False, **changes: Any) -> Path:
    """Writes network and tokenizer as Hugging Face lays them out."""
    network(layout, **changes).save_pretrained(folder)
    spoken = tokenizer()
    if chat:
        spoken.chat_template = CHAT_TEMPLATE
    spoken.save_pretrained(folder)
    return folder


def reference(net: Any, prompt: list[int], most: int, **options: Any) -> list[int]:
    """What transformers itself writes behind `prompt`."""
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        out = net.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=most,
            do_sample=False,
            pad_token_id=0,
            **options,
        )
    written: list[int] = out[0, len(prompt) :].tolist()
    return written

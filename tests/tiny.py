"""Real Hugging Face checkpoints, a few megabytes each, made on the spot in a second or two.

Random weights suit what only has to run: conversion, packaging, deploying. What judges quality needs a model
with an opinion: `make_trained` teaches one a few facts, so that its next-token distribution is peaked.

The dimensions dodge two faults. They are multiples of 256, so that int4 and int8 quantise in blocks of 32 and
of 128 alike: onnxruntime 1.31 fails on asymmetric weights of a single block. And no projection is as wide as
the vocabulary: builder 0.18 takes such a matrix for the output head and writes a wrong model without a word.
The families are those that builder 0.18 converts; Gemma3 is not among them, because it cannot read the
`rope_parameters` that transformers 5 writes for it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

#: What the tokenizer is trained on: short, varied, and with the characters that tests like to meet.
TEXT = """
The ticket says that the printer prints nothing since Monday, and that the invoice came twice.
Please reset my password; the link in the message expired before I could open it. Thank you!
What is the capital of France? The capital of France is Paris. Which colour is the sky? The sky is blue.
A baker sells bread, a gardener grows roses, and a sailor reads the wind.
Numbers: 0 1 2 3 4 5 6 7 8 9 10 42 100 2048.
{"category": "billing", "priority": "high", "product": "mobile app", "answer": null,
 "open": true, "items": [1, 2]}
Grüße aus Köln, mañana por la mañana, où est la gare? Naïve café. Привет, мир. こんにちは世界。 🙂 🚀
def add(a, b):
    return a + b
You are a helpful assistant. system user assistant Hello there, how are you today? I am fine, and you?
"""

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")  # their ids are 0, 1 and 2
CONTEXT = 4096
VOCAB = 576

#: Facts that `make_trained` teaches, as (question, answer).
FACTS = tuple(
    (f"Which colour is the {thing}?", f"The {thing} is {colour}.")
    for thing, colour in (
        ("sky", "blue"),
        ("grass", "green"),
        ("snow", "white"),
        ("coal", "black"),
        ("rose", "red"),
        ("lemon", "yellow"),
        ("carrot", "orange"),
        ("plum", "purple"),
    )
)


def make_tokenizer(vocab: int = VOCAB) -> Any:
    """A byte-level BPE tokenizer with ChatML markers, trained on `TEXT`: any string survives a round trip."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator([TEXT], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def make_checkpoint(
    folder: Path,
    family: str = "llama",
    *,
    tied: bool | None = None,
    seed: int = 0,
    vocab: int = VOCAB,
    layers: int = 2,
    hidden: int = 256,
    heads: int = 4,
    dtype: str = "float32",
) -> Path:
    """Write a checkpoint with seeded random weights to `folder`.

    `family`: "llama", "qwen2", "qwen3", "phi3" or "gemma".
    `tied`: whether the output head shares the embedding; None takes what the family usually does.
    The same arguments give the same bytes.
    """
    import torch
    from transformers import AutoModelForCausalLM

    config = _config(family, tied=tied, vocab=vocab, layers=layers, hidden=hidden, heads=heads)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    _save(model, make_tokenizer(vocab), folder)
    return folder


def make_trained(folder: Path, *, seed: int = 0, steps: int = 120) -> Path:
    """Write a tied Llama that knows `FACTS`: asked one in ChatML, greedy decoding gives its answer."""
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = make_tokenizer()
    texts = [tokenizer.apply_chat_template(conversation(*fact), tokenize=False) for fact in FACTS]
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(_config("llama", tied=True), dtype=torch.float32)
        optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
        for _ in range(steps):
            loss = model(**batch, labels=labels).loss
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
    _save(model, tokenizer, folder)
    return folder


def conversation(question: str, answer: str | None = None) -> list[dict[str, str]]:
    """The messages of one turn, the answer included if given."""
    messages = [{"role": "user", "content": question}]
    return messages if answer is None else [*messages, {"role": "assistant", "content": answer}]


def make_sharded(folder: Path, checkpoint: Path, shards: int = 3) -> Path:
    """Write `checkpoint` again to `folder`, its weights dealt out to `shards` files with an index."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    shutil.copytree(checkpoint, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    with safe_open(checkpoint / "model.safetensors", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    index: dict[str, str] = {}
    for number in range(shards):
        name = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        part = dict(list(tensors.items())[number::shards])
        save_file(part, folder / name, metadata={"format": "pt"})
        index |= dict.fromkeys(part, name)
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    text = json.dumps({"metadata": {"total_size": size}, "weight_map": dict(sorted(index.items()))}, indent=2)
    (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")
    return folder


def make_adapter(
    folder: Path,
    checkpoint: Path,
    *,
    seed: int = 0,
    rank: int = 4,
    alpha: int = 8,
    targets: tuple[str, ...] = ("q_proj", "o_proj"),
    **options: Any,
) -> Path:
    """Write a LoRA adapter for `checkpoint` that changes it: B is random too, not zero as before training.

    `options` are more of peft's LoraConfig.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        base = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
        lora = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets), task_type="CAUSAL_LM", **options)
        model = get_peft_model(base, lora)
        for name, parameter in model.named_parameters():
            if "lora_B" in name or "lora_embedding_A" in name:
                torch.nn.init.normal_(parameter, std=0.2)
    model.peft_config["default"].base_model_name_or_path = "tiny"
    model.save_pretrained(folder, save_embedding_layers=False)  # else peft asks the hub about the base
    return folder


def _config(
    family: str,
    *,
    tied: bool | None = None,
    vocab: int = VOCAB,
    layers: int = 2,
    hidden: int = 256,
    heads: int = 4,
) -> Any:
    from transformers import GemmaConfig, LlamaConfig, Phi3Config, Qwen2Config, Qwen3Config

    families: dict[str, tuple[str, Any, bool, dict[str, Any]]] = {
        "llama": ("LlamaForCausalLM", LlamaConfig, True, {}),
        "qwen2": ("Qwen2ForCausalLM", Qwen2Config, False, {}),
        "qwen3": ("Qwen3ForCausalLM", Qwen3Config, True, {"head_dim": hidden // heads}),
        "phi3": ("Phi3ForCausalLM", Phi3Config, False, {"original_max_position_embeddings": CONTEXT}),
        "gemma": (
            "GemmaForCausalLM",
            GemmaConfig,
            True,
            {"head_dim": hidden // heads, "hidden_activation": "gelu_pytorch_tanh"},
        ),
    }
    architecture, kind, usually_tied, extra = families[family]
    config = kind(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 2),
        max_position_embeddings=CONTEXT,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        tie_word_embeddings=usually_tied if tied is None else tied,
        **extra,
    )
    config.architectures = [architecture]
    return config


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    model.generation_config.update(bos_token_id=1, eos_token_id=2, pad_token_id=0)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "LICENSE").write_text("Made for a test; free to use.\n", encoding="utf-8")

"""The trainer of the example: conversations in, a LoRA adapter and its figures on held-out cases out.

The adapter learns only the last assistant turn of each conversation. What is measured is what is stored: the trained
weights are written as bfloat16, read back, merged in float32, and that model answers the held-out cases beside the
untouched base. With the same files, seed, threads and library versions the adapter comes out byte for byte the same.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scripts.cases.cases import load, load_schema
from scripts.checkpoint import tokenizer as tokenizers
from scripts.checkpoint.load import load as load_model
from scripts.common import json_files
from scripts.common.errors import IngotError
from scripts.finetune.data import Example, read_examples, refuse_leaks
from scripts.finetune.measure import measure

#: The linear layers of a Llama block; small ranks everywhere survive quantisation better than a big one somewhere.
LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
LIBRARIES = ("torch", "transformers", "peft", "safetensors")
IGNORED = -100  # torch's cross_entropy leaves this label out


@dataclass(frozen=True)
class Hyperparameters:
    """How the adapter is trained.

    `batch_tokens` counts padding, but not what all prompts share. Dropout costs as much time as the matrix products
    on a CPU; the small rank regularises instead.
    """

    epochs: int = 3
    rank: int = 3
    alpha: int = 12
    dropout: float = 0.0
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.06
    batch_tokens: int = 768
    seed: int = 7
    threads: int = 2


def finetune(
    base: Path,
    train: Path,
    evaluation: Path,
    schema: Path,
    output: Path,
    *,
    base_name: str,
    parameters: Hyperparameters | None = None,
) -> dict[str, Any]:
    """Train an adapter for `base` (a Hugging Face checkpoint folder) and write it, with its figures, to `output`.

    `base_name` is what `adapter_config.json` calls the base: a name that means the same on every machine. Returns what
    `figures.json` holds. Raises `IngotError` on bad data, before anything heavy is imported.
    """
    parameters = parameters or Hyperparameters()
    validator = load_schema(schema)
    examples = read_examples(train, validator)
    cases = [case for case in load(evaluation) if not case.tools]  # those are asked in the runtime alone
    refuse_leaks(train, examples, evaluation, cases)

    import torch
    from peft import PeftModel
    from transformers import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    torch.set_num_threads(parameters.threads)
    torch.use_deterministic_algorithms(True)
    started = time.monotonic()
    tokenizer = tokenizers.load(base)
    model = _trained(_load(base, "eager"), tokenizer, examples, parameters, train)  # short rows: faster than sdpa
    trained = time.monotonic()
    _save(model, base_name, output)
    del model
    print("finetune: the base answers the held-out cases", flush=True)
    before = measure(_load(base), tokenizer, cases, validator)
    print("finetune: the tuned model answers the held-out cases", flush=True)
    merged = PeftModel.from_pretrained(_load(base), str(output)).merge_and_unload()
    after = measure(merged, tokenizer, cases, validator)
    figures = {
        "base": before,
        "finetuned": after,
        "train_examples": len(examples),
        "held_out_cases": len(cases),
        "train_seconds": round(trained - started, 1),
        "seconds": round(time.monotonic() - started, 1),
        "parameters": asdict(parameters),
        "compute": "bfloat16 autocast (AMX)" if _fast_bfloat16() else "float32",
        "versions": {name: version(name) for name in LIBRARIES},
    }
    json_files.write(output / "figures.json", figures)
    for name in ("schema_valid", "expectations"):
        print(f"finetune: {name} {before[name]} % → {after[name]} %", flush=True)
    return figures


def _load(base: Path, attention: str = "sdpa") -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return load_model(AutoModelForCausalLM, base, dtype=torch.float32, attn_implementation=attention)


def _fast_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 matrices in hardware; without, autocast only slows it down."""
    import torch

    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


def _encode(tokenizer: Any, example: Example) -> tuple[list[int], int]:
    """Token ids of the conversation up to the end-of-turn token, and how many of them are prompt."""
    prompt = tokenizer.apply_chat_template(example.messages[:-1], tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template(example.messages, tokenize=False)
    if not whole.startswith(prompt):
        raise IngotError(
            "chat template", "the answer's turn does not continue the prompt", "This base cannot be tuned here"
        )
    asked = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    answered = tokenizer(whole[len(prompt) :].rstrip("\n"), add_special_tokens=False)["input_ids"]
    return asked + answered, len(asked)


def _shared(prompts: Sequence[list[int]]) -> int:
    """How many leading tokens all prompts have in common."""
    first, last = min(prompts), max(prompts)
    return next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))


def _batches(lengths: Sequence[int], batch_tokens: int, shuffle: random.Random) -> list[list[int]]:
    """Indices grouped by similar length, padded size at most `batch_tokens`, groups in random order."""
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i] + shuffle.randint(0, 8), i))
    batches: list[list[int]] = [[]]
    for index in order:
        longest = max([lengths[index], *(lengths[i] for i in batches[-1])])
        if batches[-1] and longest * (len(batches[-1]) + 1) > batch_tokens:
            batches.append([])
        batches[-1].append(index)
    shuffle.shuffle(batches)
    return batches


def _trained(model: Any, tokenizer: Any, examples: Sequence[Example], p: Hyperparameters, source: Path) -> Any:
    """The base with a trained LoRA on it. Prints a line every few steps, with what is left of the time."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(p.seed)
    config = LoraConfig(
        task_type="CAUSAL_LM", r=p.rank, lora_alpha=p.alpha, lora_dropout=p.dropout, target_modules=list(LINEAR_LAYERS)
    )
    model = get_peft_model(model, config)
    encoded = [_encode(tokenizer, example) for example in examples]
    shared = _shared([ids[: asked - 1] for ids, asked in encoded])
    shuffle = random.Random(p.seed)
    schedule = [
        b for _ in range(p.epochs) for b in _batches([len(ids) - shared for ids, _ in encoded], p.batch_tokens, shuffle)
    ]
    weights = [w for w in model.parameters() if w.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=p.learning_rate, weight_decay=p.weight_decay)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, _warm_then_cosine(len(schedule), p.warmup))
    model.train()
    started, shown, recent = time.monotonic(), 0.0, list[float]()
    for step, indices in enumerate(schedule, start=1):
        loss = _loss(model, [encoded[i] for i in indices], shared, tokenizer.pad_token_id)
        if not math.isfinite(loss.item()):
            raise IngotError(source, f"the loss is {loss.item()} at step {step}", "Lower the learning rate")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        rate.step()
        optimizer.zero_grad(set_to_none=True)
        recent = [*recent[-19:], loss.item()]
        now = time.monotonic()
        if now - shown > 10 or step == len(schedule):
            left = (now - started) / step * (len(schedule) - step)
            print(
                f"finetune: step {step} of {len(schedule)}, loss {sum(recent) / len(recent):.4f}, {left:.0f} s left",
                flush=True,
            )
            shown = now
    return model


def _warm_then_cosine(steps: int, warmup: float) -> Callable[[int], float]:
    warm = max(1, round(steps * warmup))
    return lambda step: min(
        (step + 1) / warm, 0.5 * (1 + math.cos(math.pi * max(0, step - warm) / max(1, steps - warm)))
    )


def _loss(model: Any, batch: Sequence[tuple[list[int], int]], shared: int, pad: int) -> Any:
    """Mean cross-entropy of the answers' tokens; each of the `batch` is token ids and the length of the prompt.

    The first `shared` tokens, which all prompts have in common, go through the model once for the whole batch, and the
    vocabulary's logits are made for the answers only: together that halves the time.
    """
    import torch
    from transformers import DynamicCache

    width = max(len(ids) for ids, _ in batch)
    padding = [width - len(ids) for ids, _ in batch]
    ids = torch.tensor([ids + [pad] * more for (ids, _), more in zip(batch, padding, strict=True)])
    mask = torch.tensor([[1] * (width - more) + [0] * more for more in padding])
    labels = torch.tensor(
        [[IGNORED] * n + ids[n:] + [IGNORED] * more for (ids, n), more in zip(batch, padding, strict=True)]
    )
    causal = model.get_base_model()
    target = labels[:, shared + 1 :]
    with torch.autocast("cpu", torch.bfloat16, enabled=_fast_bfloat16()):
        cache = DynamicCache(config=causal.config)
        if shared:
            causal.model(input_ids=ids[:1, :shared], past_key_values=cache, use_cache=True)
            cache.batch_repeat_interleave(len(batch))
        hidden = causal.model(
            input_ids=ids[:, shared:], attention_mask=mask, past_key_values=cache, use_cache=True
        ).last_hidden_state[:, :-1]
        logits = causal.lm_head(hidden[target != IGNORED])
    return torch.nn.functional.cross_entropy(logits.float(), target[target != IGNORED])


def _save(model: Any, base_name: str, output: Path) -> None:
    """Write adapter_model.safetensors (bfloat16) and adapter_config.json in peft's format, without paths or times."""
    import torch
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    output.mkdir(parents=True)
    tensors = {
        name: tensor.to(torch.bfloat16).contiguous()
        for name, tensor in sorted(get_peft_model_state_dict(model).items())
    }
    save_file(tensors, output / "adapter_model.safetensors", metadata={"format": "pt"})
    config = model.peft_config["default"].to_dict() | {"base_model_name_or_path": base_name, "inference_mode": True}
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    json_files.write(output / "adapter_config.json", dict(sorted(plain.items())))

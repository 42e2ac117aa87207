"""Inputs that people really have, made on the spot: tiny models with sharp logits, and ways to save them badly.

A model as fresh as `tiny.make_checkpoint` leaves it is nearly uniform: whatever is done to it, its answers hardly
change. Here its matrices are scaled up, so that a wrong weight shows in the logits.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from scripts.checkpoint.build import build
from scripts.checkpoint.sources import Source
from scripts.common.errors import IngotError
from scripts.results import remarks
from tests import tiny

WEIGHTS, ADAPTER = "model.safetensors", "adapter_model.safetensors"
#: A template that ends a turn with the text's end, unlike ChatML.
PLAIN = (
    "{% for m in messages %}{{ '### ' + m['role'] + ':\n' + m['content'] + '<|endoftext|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### assistant:\n' }}{% endif %}"
)


def sharp(folder: Path, family: str = "llama", **options: Any) -> Path:
    """A checkpoint whose answers depend visibly on every weight, norms included."""
    tiny.make_checkpoint(folder, family, **options)
    generator = torch.Generator().manual_seed(5)
    tensors = load_file(folder / WEIGHTS)
    for value in tensors.values():
        noise = torch.randn(value.shape, generator=generator).to(value.dtype)
        value.copy_(value * 4 if value.dim() == 2 else value + 0.3 * noise)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def rewrite(path: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    """Replace the tensors of a safetensors file."""
    tensors = {name: value.contiguous().clone() for name, value in change(load_file(path)).items()}
    save_file(tensors, path, metadata={"format": "pt"})


def rename(path: Path, new: Callable[[str], str]) -> None:
    """Rename the tensors of a safetensors file."""
    rewrite(path, lambda tensors: {new(name): value for name, value in tensors.items()})


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; None removes one."""
    value = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({k: v for k, v in value.items() if v is not None}), encoding="utf-8")


def copy(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target))


def adapter(folder: Path, base: Any, **options: Any) -> Any:
    """Write an adapter as peft itself saves it, changed everywhere from what it began with; returns peft's model.

    `base`: a checkpoint's folder, or a model.
    """
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"], **options}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32) if isinstance(base, Path) else base
        wrapped = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))
        with torch.no_grad():
            for name, value in wrapped.named_parameters():
                if any(part in name for part in ("lora_", "trainable_tokens_delta", "modules_to_save")):
                    value.add_(torch.randn_like(value) * 0.03)
    wrapped.peft_config["default"].base_model_name_or_path = "base"
    wrapped.save_pretrained(folder, save_embedding_layers=False)
    return wrapped.eval()


class Made:
    """A checkpoint that was built, to ask questions of."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def model(self) -> Any:
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32)

    @property
    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.folder)

    @property
    def config(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "config.json").read_text(encoding="utf-8")))

    @property
    def remarks(self) -> str:
        """What was said of it, a line each."""
        return "\n".join(f"{remark.subject}: {remark.text}" for remark in remarks.read(self.folder))


def make(output: Path, source: Path, *adapters: Path, **options: Any) -> Made:
    """Build a checkpoint as the stage does."""
    build(Source(path=source), output, adapters=adapters, **options)
    return Made(output)


def refusal(output: Path, source: Path, *adapters: Path, **options: Any) -> str:
    """The line that a build answers a bad input with; nothing is left behind."""
    try:
        build(Source(path=source), output, adapters=adapters, **options)
    except IngotError as error:
        assert not output.exists()
        assert error.remedy, "an error must name a remedy"
        assert "\n" not in str(error)
        return str(error)
    raise AssertionError("the input was not refused")


@torch.no_grad()  # type: ignore[untyped-decorator]
def kl(truth: Any, other: Any, tokens: int = 120, vocab: int = tiny.VOCAB) -> float:
    """KL divergence of `other` from `truth` on random tokens, mean over positions, in nats."""
    ids = torch.randint(3, vocab, (1, tokens), generator=torch.Generator().manual_seed(3))
    first, second = (torch.log_softmax(model.eval()(ids).logits[0].double(), -1) for model in (truth, other))
    return float((first.exp() * (first - second)).sum(-1).mean())

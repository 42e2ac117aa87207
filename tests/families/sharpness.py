"""Would a fault show? What a checkpoint of the table differs by from itself with one thing in it a little wrong.

A model that is nearly sure of each token, or of none, or whose layers weigh little beside its embedding, is exported
within any gate whatever its export does. So each checkpoint is damaged in transformers, one fault at a time, as a
faulty export of it would be: the least of what the faults cost must be above the gate that the export is held to.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.common import json_files
from scripts.families import supported
from scripts.quality import changes
from scripts.quality.streamed import load_streamed
from tests import tiny

#: How much every second number of a norm has too much, and what the base of a rotary embedding is multiplied by.
NORM, BASE = 1.1, 1.5
#: The mean entropy, in nats, of the next token: 576 tokens that are all alike have 6.4.
ENTROPY = (1.5, 2.5)
_TOKENS = 300


@dataclass(frozen=True)
class Sharpness:
    """`entropy`: of the next token, nats, on average; `faults`: what each costs, mean KL in nats."""

    entropy: float
    faults: dict[str, float]

    @property
    def least(self) -> float:
        """What the fault costs that shows least."""
        return min(self.faults.values())


def of(checkpoint: Path) -> Sharpness:
    """How sharp the logits of `checkpoint` are, and what faults cost."""
    import torch
    import transformers

    named = json_files.read(checkpoint / "config.json")["architectures"][0]
    model = load_streamed(getattr(transformers, named), checkpoint)
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    ids = torch.tensor([tokenizer(tiny.TEXT * 10)["input_ids"]])
    text = ids[:, :_TOKENS]
    with torch.inference_mode():
        truth = _log_probabilities(model, text)
        faults = {}
        for name, fault in _faults(model):
            with fault:
                faults[name] = _kl(truth, _log_probabilities(model, text))
        if window := _window(model):
            passage = ids[:, : window + changes.AFTER]
            around = _log_probabilities(model, passage)
            with _without_window(model):
                lost = _log_probabilities(model, passage)
            faults["window"] = _kl(around[window - changes.BEFORE :], lost[window - changes.BEFORE :])
        entropy = float(-(truth.exp() * truth).sum(-1).mean())
    return Sharpness(entropy, faults)


def _window(model: Any) -> int:
    """The sliding window, 0 where none is within the context."""
    settings = model.config.get_text_config()
    window = supported.windows(settings.to_dict()) or 0
    return window if window < settings.max_position_embeddings else 0


def _log_probabilities(model: Any, ids: Any) -> Any:
    import torch

    return torch.log_softmax(model(input_ids=ids, use_cache=False).logits[0].double(), dim=-1)


def _kl(truth: Any, other: Any) -> float:
    return float((truth.exp() * (truth - other)).sum(-1).mean())


def _faults(model: Any) -> Iterator[tuple[str, AbstractContextManager[None]]]:
    """Each norm by itself, a twentieth too large on average and not evenly so: what follows may be a norm again;
    another base of all rotary embeddings; learned positions that are one off.
    """
    text = model.get_decoder()
    rotary = [name for name, module in text.named_modules() if type(module).__name__.endswith("RotaryEmbedding")]
    for name, module in text.named_modules():
        if "Norm" in type(module).__name__:
            yield name, _changed(module, _uneven)
    if rotary:
        yield "rotary base", _other_base(text, rotary)
    for name, module in text.named_modules():
        if name.rpartition(".")[2] in ("wpe", "embed_positions"):
            yield name, _changed(module, _one_off)


@contextmanager
def _changed(module: Any, change: Callable[[Any], Any]) -> Iterator[None]:
    """Have what `module` gives changed meanwhile."""
    handle = module.register_forward_hook(lambda _, __, output: change(output))
    try:
        yield
    finally:
        handle.remove()


def _uneven(output: Any) -> Any:
    output = output.clone()
    output[..., ::2] *= NORM
    return output


def _one_off(output: Any) -> Any:
    return output.roll(1, -2)


@contextmanager
def _other_base(text: Any, names: list[str]) -> Iterator[None]:
    kept = {name: text.get_submodule(name) for name in names}
    for name, module in kept.items():
        config = copy.deepcopy(module.config)
        rope = config.rope_parameters
        for table in [table for table in rope.values() if isinstance(table, dict)] or [rope]:
            table["rope_theta"] *= BASE
        text.set_submodule(name, type(module)(config))
    try:
        yield
    finally:
        for name, module in kept.items():
            text.set_submodule(name, module)


@contextmanager
def _without_window(model: Any) -> Iterator[None]:
    settings = model.config.get_text_config()
    kept = settings.sliding_window
    settings.sliding_window = 10 * settings.max_position_embeddings
    try:
        yield
    finally:
        settings.sliding_window = kept


def refused(found: Sharpness, gate: float) -> str:
    """Why a checkpoint would hide a fault; empty where it would not."""
    low, high = ENTROPY
    if not low < found.entropy < high:
        return f"the entropy of its tokens, {found.entropy:.2g} nats, is not between {low} and {high}"
    hidden = [name for name, kl in found.faults.items() if kl <= gate]
    return f"a fault in {hidden[0]} costs {found.faults[hidden[0]]:.1g} nats" if hidden else ""

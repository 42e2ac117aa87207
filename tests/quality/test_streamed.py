"""The model that holds one layer at a time gives, bit for bit, what the whole one in float32 does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from scripts.checkpoint.load import load
from scripts.quality.streamed import load_streamed
from tests.families.checkpoints import FAMILIES, make


def kind_of(folder: Path) -> Any:
    return getattr(transformers, json.loads((folder / "config.json").read_text())["architectures"][0])


def logits(model: Any, pieces: tuple[int, ...]) -> torch.Tensor:
    torch.manual_seed(0)
    cache, found = None, []
    with torch.inference_mode():
        for size in pieces:
            ids = torch.randint(3, 300, (1, size))
            result = model(input_ids=ids, past_key_values=cache, use_cache=True)
            cache = result.past_key_values
            found.append(result.logits[0])
    return torch.cat(found)


def both(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    pieces = (100, 30, 1, 1)
    whole = load(kind_of(folder), folder, dtype=torch.float32, attn_implementation="eager").eval()
    return logits(load_streamed(kind_of(folder), folder), pieces), logits(whole, pieces)


#: Tied and not, a window, experts that are stored apart, a convolution, weights of two types, a wrapper with pictures.
SAMPLE = ("llama", "gemma 3, nested", "lfm2, experts", "gpt-oss", "qwen3.5")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in SAMPLE else pytest.mark.long) for name in FAMILIES]
)
def test_the_same_logits(name: str, tmp_path: Path) -> None:
    streamed, whole = both(make(name, tmp_path / "model"))
    assert torch.equal(streamed, whole)


def test_what_it_holds_does_not_grow_with_the_layers(tmp_path: Path) -> None:
    def lent(layers: int) -> int:
        folder = make("llama", tmp_path / str(layers), num_hidden_layers=layers)
        model = load_streamed(kind_of(folder), folder)
        logits(model, (20, 1))
        turns = [hook.__self__ for module in model.modules() for hook in module._forward_pre_hooks.values()]
        pool = turns[0]._buffers._free
        return sum(buffer.nbytes for free in pool.values() for buffer in free)

    assert 0 < lent(8) == lent(2)


def test_a_parameter_that_is_reached_for_out_of_turn_is_no_number(tmp_path: Path) -> None:
    folder = make("llama", tmp_path / "model")
    model = load_streamed(kind_of(folder), folder)
    layer = model.model.layers[0]
    assert layer.mlp.up_proj.weight.isnan().all()
    assert layer.mlp.up_proj.weight.dtype == torch.float32
    assert layer.mlp.up_proj.weight.untyped_storage().nbytes() == 4

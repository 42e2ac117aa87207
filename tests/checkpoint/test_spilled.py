"""Weights on the disk instead of in memory: the same numbers, each in a file of its own, tied ones in one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

from scripts.checkpoint.load import load, stored_type
from scripts.checkpoint.spilled import Spill
from tests.families.checkpoints import make


@pytest.mark.parametrize("name", ["llama", "lfm2, experts", "gpt-oss"])
def test_a_loaded_model_is_the_same_and_in_files(name: str, tmp_path: Path) -> None:
    folder = make(name, tmp_path / "model")
    spill = Spill(tmp_path / "weights")
    spilled = spill.load(transformers.AutoModelForCausalLM, folder)
    whole = load(transformers.AutoModelForCausalLM, folder, dtype=torch.float32)
    for (key, value), expected in zip(spilled.named_parameters(), whole.parameters(), strict=True):
        assert value.dtype == torch.float32, key
        assert torch.equal(value, expected), key
    on_disk = sum(path.stat().st_size for path in (tmp_path / "weights").iterdir())
    assert on_disk == sum(value.nbytes for value in whole.parameters())
    assert spilled.config.dtype == torch.float32


def test_what_a_module_is_given_anew_goes_to_the_same_file(tmp_path: Path) -> None:
    module = torch.nn.Linear(4, 3)
    spill = Spill(tmp_path / "weights")
    spill.keep(module)
    place = module.weight.data_ptr()
    module.weight.data = torch.full((3, 4), 2.0)
    spill.keep(module)
    assert module.weight.data_ptr() == place
    found = torch.from_file(str(tmp_path / "weights/0.bin"), size=12)
    assert torch.equal(found, torch.full((12,), 2.0))


def test_the_type_that_weights_are_mapped_in(tmp_path: Path) -> None:
    assert stored_type(make("llama", tmp_path / "bf16")) == torch.bfloat16
    mixed = make("llama", tmp_path / "mixed")
    from safetensors.torch import load_file, save_file

    tensors = load_file(mixed / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"].float()
    save_file(tensors, mixed / "model.safetensors", metadata={"format": "pt"})
    assert stored_type(mixed) == torch.float32

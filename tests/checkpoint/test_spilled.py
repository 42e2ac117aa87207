"""Weights on the disk instead of in memory: the same numbers, each in a file of its own, tied ones in one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from scripts.checkpoint.load import load, load_as_stored
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


def widened(folder: Path, *parts: str) -> Path:
    """A checkpoint with the tensors that have one of `parts` in their names stored as float32, and no longer round."""
    tensors = load_file(folder / "model.safetensors")
    for name, value in tensors.items():
        if any(part in name for part in parts):
            tensors[name] = value.float() * (1 + 2.0**-12)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_weights_stay_in_the_type_that_most_are_stored_in_and_none_is_rounded(tmp_path: Path) -> None:
    folder = widened(make("llama", tmp_path / "mixed"), "norm", "layers.1.mlp.up_proj")
    mixed = load_as_stored(transformers.AutoModelForCausalLM, folder)
    whole = load(transformers.AutoModelForCausalLM, folder, dtype=torch.float32)
    for (name, value), expected in zip(mixed.named_parameters(), whole.parameters(), strict=True):
        kind = torch.float32 if "norm" in name or "up_proj" in name else torch.bfloat16
        assert value.dtype == kind, name
        assert torch.equal(value.float(), expected), name


def test_weights_that_the_model_has_by_another_name_are_not_rounded_either(tmp_path: Path) -> None:
    """The experts of Mixtral's files are one matrix in transformers' class, which the files do not name."""
    folder = widened(make("mixtral", tmp_path / "mixed"), "experts.1.w2")
    mixed = load_as_stored(transformers.AutoModelForCausalLM, folder)
    whole = load(transformers.AutoModelForCausalLM, folder, dtype=torch.float32)
    for (name, value), expected in zip(mixed.named_parameters(), whole.parameters(), strict=True):
        assert torch.equal(value.float(), expected), name

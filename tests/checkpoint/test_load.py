"""Whoever loads a model, through whichever library, is told what transformers would make up."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from scripts.checkpoint.load import all_loads_checked, load
from scripts.common.errors import IngotError
from tests.checkpoint.program import copy


@pytest.fixture
def lacking(tiny_llama: Path, tmp_path: Path) -> Path:
    folder = copy(tiny_llama, tmp_path / "lacking")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("kind", [AutoModelForCausalLM, LlamaForCausalLM])
def test_a_load_that_would_make_a_tensor_up_is_refused_by_its_name(lacking: Path, kind: type) -> None:
    with pytest.raises(IngotError, match=r"lack model\.norm\.weight"):
        load(kind, lacking)


def test_so_is_a_load_by_another_library_and_afterwards_all_is_as_before(lacking: Path, tiny_llama: Path) -> None:
    with all_loads_checked():
        with pytest.raises(IngotError, match=r"lack model\.norm\.weight"):
            AutoModelForCausalLM.from_pretrained(lacking)
        assert isinstance(AutoModelForCausalLM.from_pretrained(tiny_llama), LlamaForCausalLM)
        _, account = LlamaForCausalLM.from_pretrained(tiny_llama, output_loading_info=True)
        assert not account["missing_keys"]
    assert isinstance(AutoModelForCausalLM.from_pretrained(lacking), LlamaForCausalLM)

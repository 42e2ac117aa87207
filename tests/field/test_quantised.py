"""A base whose weights are quantised: read exactly where transformers can, else refused by its method's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.checkpoint.load import load
from tests.families.checkpoints import make_mxfp4
from tests.field.inputs import adapter, edit, kl, make, refusal


def test_an_adapter_merges_into_gpt_oss_as_it_is_published(tmp_path: Path) -> None:
    import torch
    from transformers import GptOssForCausalLM

    base = make_mxfp4(tmp_path / "base")
    model = load(GptOssForCausalLM, base, dtype=torch.float32)
    vocab = model.config.vocab_size
    truth = adapter(tmp_path / "adapter", model, target_modules=["q_proj", "v_proj"])
    made = make(tmp_path / "out", base, tmp_path / "adapter")
    assert "quantization_config" not in made.config
    assert kl(truth, made.model, vocab=vocab) < 1e-6


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "fp8", "compressed-tensors", "mxfp4"])
def test_any_other_quantised_base_is_refused_by_its_method(weights: Path, tmp_path: Path, method: str) -> None:
    edit(weights / "config.json", quantization_config={"quant_method": method})
    assert f"already quantised ({method})" in refusal(tmp_path / "out", weights)


@pytest.mark.parametrize("value", [[1], "gptq", 4, {"bits": 4}])
def test_a_quantisation_of_another_type_is_no_traceback(weights: Path, tmp_path: Path, value: object) -> None:
    edit(weights / "config.json", quantization_config=value)
    assert "already quantised" in refusal(tmp_path / "out", weights)

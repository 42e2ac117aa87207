"""A config.json that says two things, nothing, or what can't be: one is kept and said, or it is refused by its key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import tiny
from tests.field.inputs import WEIGHTS, adapter, edit, kl, make, refusal, rename, rewrite
from tests.field.test_weights import truth

YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}


def based(folder: Path, **scaling: Any) -> Any:
    """The model with rotary positions of base 500,000 and a scaling, as its config would say it in one place."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder)
    config.rope_parameters = {"rope_theta": 500000.0, **(scaling or {"rope_type": "default"})}
    return AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=torch.float32)


def test_a_scaling_that_was_added_as_cards_say_leaves_the_base_of_positions_as_it_was(
    llama: Path, weights: Path, tmp_path: Path
) -> None:
    """Transformers takes `rope_scaling` alone, and the base falls back to 10,000."""
    edit(weights / "config.json", rope_parameters={"rope_theta": 500000.0, "rope_type": "default"}, rope_scaling=YARN)
    made = make(tmp_path / "out", weights)
    due = based(llama, **YARN | {"rope_type": "yarn"})
    assert kl(due, made.model, tokens=600) < 1e-9
    assert kl(truth(weights), made.model, tokens=600) > 1e-2
    assert "rope_scaling (yarn) is put into rope_parameters" in made.remarks


def test_positions_as_version_4_says_them_stay_as_they_are(llama: Path, weights: Path, tmp_path: Path) -> None:
    edit(weights / "config.json", rope_parameters=None, rope_theta=500000.0)
    made = make(tmp_path / "out", weights)
    assert kl(based(llama), made.model) == 0
    assert made.remarks == ""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rope_theta": 500000.0}, "rope_parameters.rope_theta is 10000.0, but rope_theta is 500000.0"),
        ({"rope_scaling": {"type": "linear", "rope_type": "yarn", "factor": 2.0}}, "rope_type yarn and type linear"),
        ({"rope_scaling": {"factor": 2.0}}, "a factor of 2.0 and no rope_type"),
        (
            {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}, "rope_scaling": YARN},
            "positions are scaled in two ways, rope_parameters linear and rope_scaling yarn",
        ),
    ],
)
def test_positions_that_are_said_in_two_ways_are_refused(
    weights: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    edit(weights / "config.json", **changes)
    assert words in refusal(tmp_path / "out", weights)


def test_what_a_config_leaves_to_its_class_is_said(weights: Path, tmp_path: Path) -> None:
    edit(weights / "config.json", rope_parameters=None, rms_norm_eps=None)
    said = make(tmp_path / "out", weights).remarks
    assert "does not say rope_theta and rms_norm_eps" in said
    assert "rope_theta 10000.0, rms_norm_eps 1e-06" in said


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
def test_an_id_without_a_row_reaches_no_runtime(llama: Path, weights: Path, tmp_path: Path, name: str) -> None:
    edit(weights / name, eos_token_id=[2, 99999], pad_token_id=tiny.VOCAB)
    made = make(tmp_path / "out", weights)
    assert kl(truth(llama), made.model) == 0
    value = json.loads((made.folder / name).read_text(encoding="utf-8"))
    assert value["eos_token_id"] == [2]
    assert value["pad_token_id"] is None
    assert f"{name}: eos_token_id 99999 is left out: the embedding has the rows 0 to 575" in made.remarks


def test_code_that_was_published_for_a_class_of_transformers_is_left_out(
    llama: Path, weights: Path, tmp_path: Path
) -> None:
    """As Phi-3's and Phi-3.5's configs have it."""
    mapped = {"AutoConfig": "configuration_x.XConfig", "AutoModelForCausalLM": "modeling_x.LlamaForCausalLM"}
    edit(weights / "config.json", auto_map=mapped)
    (weights / "modeling_x.py").write_text("raise SystemExit('never run me')")
    made = make(tmp_path / "out", weights)
    assert kl(truth(llama), made.model) == 0
    assert "auto_map" not in made.config
    assert "auto_map left out: LlamaForCausalLM is transformers' own" in made.remarks
    edit(weights / "config.json", auto_map=mapped | {"AutoModelForCausalLM": "modeling_x.MyLlama"})
    assert "wants remote code (auto_map)" in refusal(tmp_path / "refused", weights)


@pytest.mark.parametrize("changes", [{"dtype": "auto"}, {"torch_dtype": "int8"}, {"quantization_config": {}}])
def test_a_type_or_table_that_says_nothing_of_the_weights_is_left_out(
    llama: Path, weights: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    edit(weights / "config.json", **changes)
    made = make(tmp_path / "out", weights)
    assert kl(truth(llama), made.model) == 0
    assert not set(changes) & set(made.config)


def test_a_vocabulary_that_is_not_counted_is_counted(llama: Path, weights: Path, tmp_path: Path) -> None:
    edit(weights / "config.json", vocab_size=None)
    made = make(tmp_path / "out", weights)
    assert made.config["vocab_size"] == tiny.VOCAB
    assert kl(truth(llama), made.model) == 0


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_generation_config_that_is_none_is_refused_by_its_name(weights: Path, tmp_path: Path, text: str) -> None:
    (weights / "generation_config.json").write_text(text)
    assert "generation_config.json: " in refusal(tmp_path / "out", weights)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (None, 'Add "architectures": ["LlamaForCausalLM"]'),
        ("LlamaForCausalLM", 'Add "architectures": ["LlamaForCausalLM"]'),
        (["LlamaModel"], "The nearest that can be converted is LlamaForCausalLM"),
        (["PeftModelForCausalLM"], "The nearest that can be converted is LlamaForCausalLM"),
    ],
)
def test_a_class_that_is_none_is_refused_with_that_of_the_models_type(
    weights: Path, tmp_path: Path, names: object, words: str
) -> None:
    edit(weights / "config.json", architectures=names)
    assert words in refusal(tmp_path / "out", weights)


@pytest.mark.parametrize("prefix", ["student.", "llm.", "_forward_module.", "policy.model.", "transformer."])
def test_one_prefix_before_every_name_is_undone(llama: Path, weights: Path, tmp_path: Path, prefix: str) -> None:
    rename(weights / WEIGHTS, lambda name: prefix + name)
    made = make(tmp_path / "out", weights)
    assert kl(truth(llama), made.model) == 0
    assert "21 tensors renamed" in made.remarks


def test_two_models_in_one_file_are_refused(weights: Path, tmp_path: Path) -> None:
    rewrite(
        weights / WEIGHTS, lambda t: {f"{who}.{name}": value for name, value in t.items() for who in ("one", "two")}
    )
    assert "nothing called one.lm_head.weight" in refusal(tmp_path / "out", weights)


def test_the_value_head_of_reinforcement_learning_is_left_out(llama: Path, weights: Path, tmp_path: Path) -> None:
    rewrite(weights / WEIGHTS, lambda t: t | {"v_head.summary.weight": torch.ones(1, 256)})
    made = make(tmp_path / "out", weights)
    assert kl(truth(llama), made.model) == 0
    assert "not used by this class of model: v_head.summary.weight" in made.remarks


def test_a_matrix_of_zeros_is_a_remark(weights: Path, tmp_path: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    rewrite(weights / WEIGHTS, lambda t: t | {name: t[name] * 0})
    assert f"{name}: is zero everywhere" in make(tmp_path / "out", weights).remarks


def test_an_adapter_beside_a_model_that_nobody_named_is_a_remark(llama: Path, weights: Path, tmp_path: Path) -> None:
    adapter(tmp_path / "adapter", llama)
    for path in (tmp_path / "adapter").glob("adapter_*"):
        path.rename(weights / path.name)
    assert "an adapter lies beside the model, and is not merged" in make(tmp_path / "out", weights).remarks


def test_rows_of_the_head_alone_are_refused_with_a_remedy_that_works(weights: Path, tmp_path: Path) -> None:
    rewrite(weights / WEIGHTS, lambda t: t | {"lm_head.weight": torch.ones(640, 256)})
    line = refusal(tmp_path / "out", weights)
    assert "lm_head.weight has 640 rows, and the embedding 576" in line
    assert "resize_token_embeddings" in line


def test_a_head_under_another_name_is_not_taken_for_a_layer_as_wide_as_the_vocabulary(
    weights: Path, tmp_path: Path
) -> None:
    rename(weights / WEIGHTS, lambda name: name.replace("lm_head", "output"))
    line = refusal(tmp_path / "out", weights)
    assert "the weights lack lm_head.weight" in line
    assert "nothing called output.weight" in line


def test_a_shard_in_another_folder_is_refused_as_that(weights: Path, tmp_path: Path) -> None:
    (weights / "parts").mkdir()
    (weights / WEIGHTS).rename(weights / "parts" / "a.safetensors")
    names = dict.fromkeys(truth_names(weights), "parts/a.safetensors")
    (weights / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    assert "names parts/a.safetensors, which is not beside it" in refusal(tmp_path / "out", weights)


def truth_names(folder: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(folder / "parts" / "a.safetensors", "pt") as file:
        return list(file.keys())


def test_a_template_that_is_not_jinja_is_refused_by_its_line(weights: Path, tmp_path: Path) -> None:
    (weights / "chat_template.jinja").write_text("{% for m in messages %}\n{{ m.content ")
    assert "its chat template is not Jinja: line 2" in refusal(tmp_path / "out", weights)

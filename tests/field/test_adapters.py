"""Adapters against peft: merged, a model answers as peft's own does without merging; else it is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.field.inputs import ADAPTER, PLAIN, adapter, copy, edit, kl, make, refusal, rename, rewrite
from tests.tiny import CHAT_TEMPLATE, SPECIAL, VOCAB

#: What a merged model may differ by from the same one unmerged: rounding.
SAME = 1e-6

KINDS: dict[str, dict[str, Any]] = {
    "LoRA": {},
    "rsLoRA": {"use_rslora": True},
    "every linear layer": {"target_modules": "all-linear"},
    "targets by a pattern": {"target_modules": r".*\.(q_proj|k_proj)"},
    "one layer of two": {"layers_to_transform": [1], "layers_pattern": "layers"},
    "not all of the targets": {"exclude_modules": r".*layers\.0\.self_attn\.q_proj"},
    "ranks and alphas by module": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.1.mlp.down_proj": 32}},
    "DoRA": {"use_dora": True},
    "orthogonal": {"init_lora_weights": "orthogonal", "target_modules": ["q_proj"]},
    "PiSSA": {"init_lora_weights": "pissa"},
    "OLoRA": {"init_lora_weights": "olora"},
    "a head saved whole": {"modules_to_save": ["lm_head"]},
    "embedding and head saved whole": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "norms saved whole": {"modules_to_save": ["input_layernorm"]},
    "LoRA on the embedding": {"target_modules": ["q_proj", "embed_tokens"]},
    "LoRA on the head": {"target_modules": ["q_proj", "lm_head"]},
    "trained tokens": {"trainable_token_indices": {"embed_tokens": [1, 2, 5]}},
}


@pytest.mark.parametrize("base", ["llama", "qwen2"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_merged_model_answers_as_peft_does_unmerged(
    base: str, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source: Path = request.getfixturevalue(base)
    truth = adapter(tmp_path / "adapter", source, **KINDS[kind])
    made = make(tmp_path / "out", source, tmp_path / "adapter")
    assert kl(truth, made.model) < SAME
    assert kl(AutoModelForCausalLM.from_pretrained(source), made.model) > 1000 * SAME
    assert "renamed" not in made.remarks


def test_tied_layers_that_an_adapter_keeps_tied_stay_so(qwen2: Path, tmp_path: Path) -> None:
    options = {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}
    truth = adapter(tmp_path / "adapter", qwen2, **options)
    made = make(tmp_path / "out", qwen2, tmp_path / "adapter")
    assert kl(truth, made.model) < SAME


def test_biases_of_its_own_are_merged_where_the_base_has_biases_and_else_refused(
    llama: Path, qwen2: Path, tmp_path: Path
) -> None:
    options = {"lora_bias": True, "target_modules": ["q_proj", "v_proj"]}
    truth = adapter(tmp_path / "adapter", qwen2, **options)
    assert kl(truth, make(tmp_path / "out", qwen2, tmp_path / "adapter").model) < SAME
    adapter(tmp_path / "other", llama, **options)
    assert "the base layer has no bias" in refusal(tmp_path / "refused", llama, tmp_path / "other")


NAMES: dict[str, Callable[[str], str]] = {
    "with a vision model's prefix": lambda n: n.replace("model.layers", "language_model.layers"),
    "with the vision model's newer prefix": lambda n: n.replace(
        "model.model.layers", "model.model.language_model.layers"
    ),
    "with the adapter's name": lambda n: n.replace(".weight", ".default.weight"),
    "with the adapter's own name": lambda n: n.replace(".weight", ".tickets.weight"),
    "compiled": lambda n: n.replace("base_model.model.", "base_model.model._orig_mod."),
    "of the distributed model": lambda n: "module." + n,
    "without peft's prefix": lambda n: n.removeprefix("base_model.model."),
    "of one model among several": lambda n: n.replace("base_model.model.", "base_model.model.policy."),
}


@pytest.mark.parametrize("names", NAMES)
def test_an_adapter_under_other_names_is_merged_and_its_names_are_told(llama: Path, tmp_path: Path, names: str) -> None:
    truth = adapter(tmp_path / "adapter", llama)
    rename(tmp_path / "adapter" / ADAPTER, NAMES[names])
    made = make(tmp_path / "out", llama, tmp_path / "adapter")
    assert kl(truth, made.model) < SAME
    assert "12 tensors renamed as peft calls them" in made.remarks


def test_tokens_that_an_adapter_adds_come_with_its_tokenizer_and_template(tied: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tied)
    tokenizer.add_tokens(["<tool>", "<think>"], special_tokens=True)
    tokenizer.chat_template = CHAT_TEMPLATE.replace("assistant", "tool")
    model = AutoModelForCausalLM.from_pretrained(tied)
    model.resize_token_embeddings(VOCAB + 2)
    truth = adapter(tmp_path / "adapter", model, modules_to_save=["embed_tokens", "lm_head"])
    tokenizer.save_pretrained(tmp_path / "adapter")
    made = make(tmp_path / "out", tied, tmp_path / "adapter")
    assert kl(truth, made.model, vocab=VOCAB + 2) < SAME
    assert len(made.tokenizer) == made.config["vocab_size"] == VOCAB + 2
    assert made.tokenizer.chat_template == tokenizer.chat_template
    assert "its tokenizer is used, which adds 2 tokens (<tool>, <think>)" in made.remarks
    assert "chat template: that of the adapter adapter is used" in made.remarks


def test_an_embedding_that_was_only_resized_comes_along(tied: Path, tmp_path: Path) -> None:
    """Peft saves a resized embedding beside the LoRA, under the base's own name."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tied)
    tokenizer.add_tokens(["<tool>"], special_tokens=True)
    model = AutoModelForCausalLM.from_pretrained(tied)
    model.resize_token_embeddings(VOCAB + 1)
    truth = adapter(tmp_path / "adapter", model)
    truth.save_pretrained(tmp_path / "adapter", save_embedding_layers=True)
    tokenizer.save_pretrained(tmp_path / "adapter")
    made = make(tmp_path / "out", tied, tmp_path / "adapter")
    assert kl(truth, made.model, vocab=VOCAB + 1) < SAME
    assert made.config["tie_word_embeddings"] is True


def test_the_adapters_template_and_end_are_used_and_what_differs_is_said(llama: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    adapter(tmp_path / "adapter", llama)
    tokenizer = AutoTokenizer.from_pretrained(llama)
    tokenizer.chat_template, tokenizer.eos_token = PLAIN, SPECIAL[0]
    tokenizer.save_pretrained(tmp_path / "adapter")
    made = make(tmp_path / "out", llama, tmp_path / "adapter")
    assert made.tokenizer.chat_template == PLAIN
    assert made.tokenizer.eos_token == SPECIAL[0]
    assert "ends a text with '<|endoftext|>', the base model's with '<|im_end|>'" in made.remarks
    assert "whose own differs" in made.remarks


def test_a_base_without_a_template_speaks_that_of_its_adapter(weights: Path, tmp_path: Path) -> None:
    adapter(tmp_path / "adapter", weights)
    (weights / "chat_template.jinja").rename(tmp_path / "adapter" / "chat_template.jinja")
    made = make(tmp_path / "out", weights, tmp_path / "adapter")
    assert made.tokenizer.chat_template == CHAT_TEMPLATE
    assert "not the base model's, which has none" in made.remarks


def test_two_adapters_with_different_templates_need_a_choice(llama: Path, tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder, template in zip(folders, (PLAIN, CHAT_TEMPLATE), strict=True):
        adapter(folder, llama)
        (folder / "chat_template.jinja").write_text(template)
    assert "one and two bring different chat templates" in refusal(tmp_path / "out", llama, *folders)
    (tmp_path / "mine.jinja").write_text(CHAT_TEMPLATE)
    made = make(tmp_path / "out", llama, *folders, template=str(tmp_path / "mine.jinja"))
    assert made.tokenizer.chat_template == CHAT_TEMPLATE


@pytest.mark.parametrize("parent", ["adapter", "."])
def test_a_trainers_folder_is_read_as_it_stands(llama: Path, tmp_path: Path, parent: str) -> None:
    """Olive puts the adapter into a folder of its name; trainers leave states and checkpoints beside it."""
    folder = tmp_path / "run"
    truth = adapter(folder / parent, llama)
    (folder / "optimizer.pt").write_bytes(b"x")
    (folder / "trainer_state.json").write_text("{}")
    copy(folder / parent, tmp_path / "copy").rename(folder / "checkpoint-10")
    assert kl(truth, make(tmp_path / "out", llama, folder).model) < SAME


def test_a_run_with_checkpoints_alone_says_which_there_are(llama: Path, tmp_path: Path) -> None:
    for step in (500, 1000, 90):
        adapter(tmp_path / "run" / f"checkpoint-{step}", llama)
    line = refusal(tmp_path / "out", llama, tmp_path / "run")
    assert "checkpoint-90, checkpoint-500, checkpoint-1000" in line
    assert str(tmp_path / "run" / "checkpoint-1000") in line


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "aLoRA": ({"alora_invocation_tokens": [1, 7]}, "an activated LoRA (aLoRA)"),
    "repeated layers": ({"layer_replication": [[0, 2], [1, 2]]}, "repeats layers"),
    "LoftQ": ({"init_lora_weights": "loftq"}, "training began from a changed base"),
    "CorDA": ({"init_lora_weights": "corda"}, "training began from a changed base"),
    "LoRA-GA": ({"init_lora_weights": "lora_ga"}, "training began from a changed base"),
    "an unknown start": ({"init_lora_weights": 7}, "training began from a changed base"),
    "a classifier": ({"task_type": "SEQ_CLS"}, "trained for SEQ_CLS"),
    "another method": ({"peft_type": "IA3"}, "adapter of type IA3"),
    "rank 0": ({"r": 0}, "r is 0"),
    "rank -4": ({"r": -4}, "r is -4"),
    "rank x": ({"r": "x"}, "r is 'x'"),
    "rank 10^9": ({"r": 10**9}, "r is 1000000000"),
    "rank 3.5": ({"r": 3.5}, "r is 3.5"),
    "a rank other than the tensors'": ({"r": 8}, "lora_A.weight is [4, 768], and [8, 768] is due"),
    "alpha as text": ({"lora_alpha": "16"}, "lora_alpha is '16'"),
    "endless alpha": ({"lora_alpha": 1e300}, "lora_alpha is 1e+300"),
    "a rank's pattern as a list": ({"rank_pattern": [1]}, "rank_pattern is not a table"),
    "a pattern without end": ({"rank_pattern": {"(a+)+$": 4}}, "could take for ever"),
    "a target as a number": ({"target_modules": 5}, "target_modules is neither"),
    "more targets than tensors": (
        {"target_modules": ["q_proj", "v_proj", "down_proj", "o_proj"]},
        "it leaves model.layers",
    ),
    "DoRA without its tensors": ({"use_dora": True}, "which its weights lack"),
    "tokens that there are not": ({"trainable_token_indices": [600]}, "it trains token 600"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_an_adapter_that_cannot_be_merged_is_refused_as_what_it_is(llama: Path, tmp_path: Path, kind: str) -> None:
    adapter(tmp_path / "adapter", llama)
    changes, words = REFUSED[kind]
    edit(tmp_path / "adapter" / "adapter_config.json", **changes)
    assert words in refusal(tmp_path / "out", llama, tmp_path / "adapter")


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_an_adapter_that_changes_its_base_is_merged_alone_and_whole_only(
    llama: Path, tmp_path: Path, start: str
) -> None:
    adapter(tmp_path / "first", llama, init_lora_weights=start)
    adapter(tmp_path / "second", llama)
    assert "adapter weight 0.5" in refusal(tmp_path / "out", llama, tmp_path / "first", weights=[0.5])
    both = (tmp_path / "second", tmp_path / "first")
    assert "beside another adapter" in refusal(tmp_path / "out", llama, *both)


@pytest.mark.parametrize(
    ("options", "module"),
    [
        ({"modules_to_save": ["lm_head"]}, "lm_head"),
        ({"use_dora": True}, "model.layers.0.mlp.down_proj"),
        ({"trainable_token_indices": {"embed_tokens": [1]}}, "model.embed_tokens"),
    ],
)
def test_two_adapters_whose_sum_depends_on_their_order_are_refused(
    llama: Path, tmp_path: Path, options: dict[str, Any], module: str
) -> None:
    adapter(tmp_path / "first", llama, **options)
    adapter(tmp_path / "second", llama, target_modules=["down_proj", "embed_tokens", "lm_head"])
    both = (tmp_path / "second", tmp_path / "first")
    assert f"changes {module}, which second changes too" in refusal(tmp_path / "out", llama, *both)


def test_two_adapters_of_different_modules_merge_whatever_their_kind(llama: Path, tmp_path: Path) -> None:
    adapter(tmp_path / "first", llama, use_dora=True, target_modules=["q_proj"], modules_to_save=["lm_head"])
    adapter(tmp_path / "second", llama, target_modules=["down_proj"])
    both = (tmp_path / "first", tmp_path / "second")
    made = [make(tmp_path / name, llama, *order) for name, order in (("a", both), ("b", both[::-1]))]
    assert kl(made[0].model, made[1].model) < SAME


def test_an_adapter_of_another_part_of_a_model_is_not_taken_for_one_of_its_text_model(
    llama: Path, tmp_path: Path
) -> None:
    adapter(tmp_path / "adapter", llama)
    rename(tmp_path / "adapter" / ADAPTER, lambda n: n.replace("model.model.layers", "model.vision_tower.model.layers"))
    words = "it changes vision_tower.model.layers.0.mlp.down_proj"
    assert words in refusal(tmp_path / "out", llama, tmp_path / "adapter")


def test_an_adapter_that_says_no_alpha_is_scaled_as_peft_scales_it_and_told(llama: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    adapter(tmp_path / "adapter", llama)
    edit(tmp_path / "adapter" / "adapter_config.json", lora_alpha=None)
    truth = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(llama), tmp_path / "adapter").eval()
    made = make(tmp_path / "out", llama, tmp_path / "adapter")
    assert kl(truth, made.model) < SAME
    assert "says no lora_alpha: 8 is taken, as peft does" in made.remarks
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"lora_alpha": None}))
    assert "lora_alpha is None where a finite number is due" in refusal(tmp_path / "no", llama, tmp_path / "adapter")


def test_an_adapter_of_integers_is_refused_as_what_it_is(llama: Path, tmp_path: Path) -> None:
    adapter(tmp_path / "adapter", llama)
    rewrite(tmp_path / "adapter" / ADAPTER, lambda t: {n: (v * 100).to(torch.int8) for n, v in t.items()})
    assert "is I8, and an adapter's numbers are floats" in refusal(tmp_path / "out", llama, tmp_path / "adapter")


def test_an_adapter_that_changes_nothing_is_refused(llama: Path, tmp_path: Path) -> None:
    adapter(tmp_path / "adapter", llama)
    rewrite(tmp_path / "adapter" / ADAPTER, lambda t: {n: v * 0 if "lora_B" in n else v for n, v in t.items()})
    assert "changes nothing" in refusal(tmp_path / "out", llama, tmp_path / "adapter")


def test_an_adapter_with_weight_0_is_refused(llama: Path, tmp_path: Path) -> None:
    adapter(tmp_path / "adapter", llama)
    assert "it would change nothing" in refusal(tmp_path / "out", llama, tmp_path / "adapter", weights=[0.0])


def test_a_tensor_without_a_place_is_refused_by_its_full_name(llama: Path, tmp_path: Path) -> None:
    adapter(tmp_path / "adapter", llama)
    name = "base_model.model.model.layers.0.mlp.router.lora_A.weight"
    rewrite(tmp_path / "adapter" / ADAPTER, lambda tensors: tensors | {name: torch.ones(4, 256)})
    assert "it changes model.layers.0.mlp.router" in refusal(tmp_path / "out", llama, tmp_path / "adapter")


def test_two_adapters_in_one_file_are_refused(llama: Path, tmp_path: Path) -> None:
    adapter(tmp_path / "adapter", llama)
    rewrite(
        tmp_path / "adapter" / ADAPTER,
        lambda t: {n.replace(".weight", f".{who}.weight"): v for n, v in t.items() for who in ("a", "b")},
    )
    assert "adapter for another base" in refusal(tmp_path / "out", llama, tmp_path / "adapter")


def test_an_adapter_as_gguf_is_refused_as_what_it_is(llama: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter.gguf").write_bytes(b"GGUF" + bytes(20))
    assert "a GGUF file, not an adapter's folder" in refusal(tmp_path / "out", llama, tmp_path / "adapter.gguf")


def test_weights_of_the_base_that_an_adapter_holds_are_taken_as_peft_does_and_told(llama: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    held = "base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight"
    plain = adapter(tmp_path / "adapter", llama)
    rewrite(
        tmp_path / "adapter" / ADAPTER,
        lambda t: {**t, held: torch.randn(256, 256, generator=torch.Generator().manual_seed(0)) * 0.1},
    )
    made = make(tmp_path / "out", llama, tmp_path / "adapter")
    truth = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(llama), tmp_path / "adapter").eval()
    assert kl(truth, made.model) < SAME
    assert kl(plain, made.model) > 1000 * SAME
    assert f"holds 1 weights of its base, {held} the first" in made.remarks
    adapter(tmp_path / "other", llama)
    assert "holds it whole" in refusal(tmp_path / "refused", llama, tmp_path / "adapter", tmp_path / "other")


def test_keys_of_a_newer_peft_do_not_hinder(llama: Path, tmp_path: Path) -> None:
    truth = adapter(tmp_path / "adapter", llama)
    edit(tmp_path / "adapter" / "adapter_config.json", some_later_option=None, another="off")
    made = make(tmp_path / "out", llama, tmp_path / "adapter")
    assert kl(truth, made.model) < SAME
    assert "another" in made.remarks


def test_a_config_saved_with_a_byte_order_mark_is_read(llama: Path, tmp_path: Path) -> None:
    truth = adapter(tmp_path / "adapter", llama)
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text())), encoding="utf-8-sig")
    assert kl(truth, make(tmp_path / "out", llama, tmp_path / "adapter").model) < SAME

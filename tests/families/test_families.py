"""Families that people fine-tune come out as transformers computes them, at every length at which they change."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest

from scripts.checkpoint.preflight import check_exporter, check_source
from scripts.common.errors import IngotError
from scripts.convert import calibration
from scripts.convert.quantize import quantize
from scripts.families import mobius, supported
from scripts.quality import changes, compare
from tests import tiny
from tests.families import checkpoints, measure, sharpness, table

#: One for each kind of bridge; the others run in `make test-all`.
SAMPLE = ("phi3", "qwen3, yarn", "gemma 3, nested", "smollm3", "qwen3.5", "mistral 3, ministral 3", "gemma 4", "olmo 3")


def is_exact(name: str, folder: Path) -> measure.Result:
    checkpoint = checkpoints.make(name, folder / "checkpoint")
    assert not sharpness.refused(sharpness.of(checkpoint), measure.GATE)
    result = measure.judged(checkpoint, folder)
    assert result.export.verdict == "passed", result.export.reasons
    assert result.worst <= measure.GATE
    return result


@pytest.mark.parametrize("name", SAMPLE)
def test_an_export_is_what_transformers_computes(name: str, tmp_path: Path) -> None:
    is_exact(name, tmp_path)


@pytest.mark.parametrize("name", ["qwen3.5", "mixtral", "phi3"])
def test_what_calibrates_takes_a_graph_of_either_exporter(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Positions in three dimensions, inputs in mobius' words, and queries, keys and values in one matrix; each input of
    a matrix in a turn of its own, as in a model of billions.
    """
    monkeypatch.setattr(calibration, "WINDOW", 128)
    monkeypatch.setattr(calibration, "_BUDGET", 1)
    measure.judged_export(name, tmp_path)
    calibrated = {"type": "WeightOnlyQuantization", "algorithm": "gptq"}
    kl = {}
    for recipe, options in {"head": {"head_bits": 4}, "tokens": {"head_bits": 4, "eight_bit_tokens": 0.5},
                            "bits": {"target_bits": 7.5}}.items():  # fmt: skip
        given = {"passes": [calibrated | options]}
        texts = [tmp_path / "text.txt"]
        quantize(tmp_path / "export", given, tmp_path / recipe, tmp_path / "prepared", texts, context=512)
        kl[recipe] = compare.run(tmp_path / recipe, tmp_path / "reference", tmp_path / "export", {}).kl or math.inf
    assert kl["bits"] < kl["tokens"] < kl["head"] < math.inf


@pytest.mark.long
@pytest.mark.parametrize("name", table.converted())
def test_a_family_comes_through_to_an_answer_however_it_is_stored(name: str) -> None:
    row = table.run(name)
    if file := os.environ.get("FAMILY_FIGURES"):
        table.record(row, Path(file))
    for figures in filter(None, (row, row.get("variant"))):
        assert figures.get("verdict") == "passed", figures
        assert figures["export"] <= measure.GATE < figures["fault"]
        assert figures["int8"] < figures.get("int4", math.inf)
        assert figures["answers"], figures


def test_the_readme_has_a_row_for_each_family() -> None:
    text = (measure.ROOT / "README.md").read_text(encoding="utf-8")
    rows = text.partition(table.BEGIN)[2].partition(table.END)[0].splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows] == table.names()
    assert not [row for row in rows if "| no |" in row]


@pytest.mark.parametrize("name", [name for name, family in checkpoints.FAMILIES.items() if family.refused])
def test_what_cannot_be_converted_is_refused_by_its_config(name: str, tmp_path: Path) -> None:
    family = checkpoints.FAMILIES[name]
    checkpoint = checkpoints.make(name, tmp_path / "checkpoint")
    with pytest.raises(IngotError, match=family.refused):
        check_source(checkpoint)


def test_a_window_that_the_graph_lacks_is_refused_though_the_text_ends_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scripts.convert import bridges

    kept = tuple(bridge for bridge in bridges.BRIDGES if bridge.name != "window on every layer")
    monkeypatch.setattr(bridges, "BRIDGES", kept)
    result = measure.judged_export("mistral, window beyond the text", tmp_path)
    assert (result.export.kl or 0.0) <= measure.GATE
    assert result.export.verdict == "refused"
    assert any("around the sliding window" in reason for reason in result.export.reasons)


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"architectures": ["LlamaForCausalLM"], "head_dim": 40}, "heads of 40"),
        ({"architectures": ["LlamaForCausalLM"], "hidden_size": 96, "num_attention_heads": 4}, "heads of 24"),
        ({"architectures": ["LlamaForCausalLM"], "hidden_act": "relu6"}, "relu6"),
        ({"architectures": ["LlamaForCausalLM"], "rope_scaling": {"type": "spiral"}}, "spiral"),
        ({"architectures": ["Mistral3ForConditionalGeneration"], "text_config": {"head_dim": 40}}, "heads of 40"),
        ({"architectures": ["WhisperForConditionalGeneration"]}, "not a text model"),
        ({"architectures": ["Gemma4ForConditionalGeneration"], "enable_moe_block": True}, "enable_moe_block"),
        ({"architectures": ["Gemma4ForConditionalGeneration"]}, "hidden_size_per_layer_input = 256"),
        ({"architectures": ["Qwen9ForCausalLM"]}, "nearest that can be converted is Qwen"),
        ({"architectures": []}, "names no class of model"),
        ({"model_type": "llama"}, r'Add "architectures": \["LlamaForCausalLM"\]'),
    ],
)
def test_a_trait_that_cannot_be_is_named(config: dict[str, Any], word: str, tmp_path: Path) -> None:
    with pytest.raises(IngotError, match=word):
        supported.check(tmp_path / "config.json", config)


def test_a_layer_as_wide_as_the_vocabulary_is_refused_in_a_nested_config_too(tmp_path: Path) -> None:
    checkpoint = checkpoints.make("gemma 3, nested", tmp_path / "checkpoint", intermediate_size=tiny.VOCAB)
    with pytest.raises(IngotError, match="as many outputs as the vocabulary"):
        check_exporter(check_source(checkpoint), None)


def test_mobius_makes_a_layer_as_wide_as_the_vocabulary(tmp_path: Path) -> None:
    checkpoint = checkpoints.make("llama", tmp_path / "checkpoint", intermediate_size=tiny.VOCAB)
    with pytest.raises(IngotError, match='exporter = "mobius"'):
        check_exporter(check_source(checkpoint), None)
    result = measure.judged(checkpoint, tmp_path, exporter="mobius")
    assert result.worst <= measure.GATE


def test_a_refusal_names_one_architecture_and_not_all(tmp_path: Path) -> None:
    with pytest.raises(IngotError) as caught:
        supported.check(tmp_path / "config.json", {"architectures": ["Qwen2ForCausalLm"]})
    assert sum(name in str(caught.value) for name in supported.architectures()) == 1


def test_a_plain_model_is_judged_after_a_short_prompt_alone() -> None:
    from transformers import LlamaConfig

    assert list(changes.find(LlamaConfig(max_position_embeddings=8192), 4096)) == [changes.PROMPT]


def test_a_model_is_judged_where_its_window_and_its_contexts_end() -> None:
    from transformers import MistralConfig

    config = MistralConfig(
        sliding_window=512,
        max_position_embeddings=8192,
        rope_parameters={**checkpoints.YARN, "original_max_position_embeddings": 1024},
    )
    found = changes.find(config, 4096)
    assert {512, 1024} < set(found)
    assert max(found) > 4000


def test_the_passage_is_fed_across_a_change_at_once_and_token_by_token() -> None:
    spans = changes.spans({64: "a", 256: "b"})
    [(seen, whole)] = changes.passes(spans, 100, changes.WHOLE)
    assert seen == spans
    assert any(start < 256 < stop for start, stop in whole)
    first, second = changes.passes(spans, 100, changes.STEPS)
    assert (first[0], second[0]) == ([spans[0]], [spans[1]])
    assert {(at, at + 1) for at in range(250, 260)} <= set(second[1])
    for pieces, last in ((whole, spans[1]), (first[1], spans[0]), (second[1], spans[1])):
        assert [start for start, _ in pieces] == [0, *(stop for _, stop in pieces[:-1])]
        assert pieces[-1][1] == last.stop


def test_the_list_of_families_is_made_from_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    from scripts.convert import listing

    text = listing.as_text()
    assert "  Gemma3ForCausalLM\n" in text
    assert "  SeedOssForCausalLM (as LlamaForCausalLM)\n" in text
    assert "WhisperForConditionalGeneration: it is not a text model" in text
    assert "  Olmo2ForCausalLM (by mobius)\n" in text
    monkeypatch.setattr(supported, "builders_own", lambda: frozenset({"LlamaForCausalLM"}))
    monkeypatch.setattr(mobius, "installed", lambda: frozenset({"olmo2"}))
    assert supported.architectures() == ("LlamaForCausalLM", "Olmo2ForCausalLM", "SeedOssForCausalLM")

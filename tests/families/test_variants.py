"""Families come through however their checkpoints are stored: tied or not, tokens added, padded, in any float type."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.families import checkpoints, measure, variants


def test_each_trait_meets_each_other_among_the_variants() -> None:
    made = [variants.of(name) for name, family in checkpoints.FAMILIES.items() if not family.refused]
    assert {(one.dtype, one.vocabulary, one.shards) for one in made} == {
        (dtype, vocabulary, shards)
        for dtype in variants.DTYPES
        for vocabulary in ("tokens added", "padded")
        for shards in (1, 3)
    }
    assert {one.tied for one in made} == {True, False}


@pytest.mark.parametrize("name", ["llama", "gemma 4, text"])  # Gemma 4 has numbers of its layers among them
def test_norms_in_float32_beside_bfloat16_are_not_rounded(name: str, tmp_path: Path) -> None:
    checkpoint = checkpoints.make(name, tmp_path / "checkpoint", float_vectors=True)
    assert measure.judged(checkpoint, tmp_path).worst < 1e-6


def test_a_checkpoint_stored_in_more_bits_than_its_config_says_is_not_rounded(tmp_path: Path) -> None:
    checkpoint = checkpoints.make("qwen2", tmp_path / "checkpoint", dtype="float32")
    file = checkpoint / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**config, "dtype": "bfloat16"}), encoding="utf-8")
    assert measure.judged(checkpoint, tmp_path).worst < 1e-6

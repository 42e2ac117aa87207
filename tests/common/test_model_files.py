"""Which files belong to a model, and which a trainer merely left beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.common import model_files
from scripts.common.model_files import files_in, holds_tokenizer, is_model_file, is_tokenizer_file, is_weight_file

PARTS = [
    *("config.json", "generation_config.json", "preprocessor_config.json", "model.safetensors.index.json"),
    *("model.safetensors", "model-00001-of-00002.safetensors", "tokenizer.json", "tokenizer.model", "spiece.model"),
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt"),
    *("chat_template.jinja", "chat_template.json", "LICENSE", "LICENCE.md", "NOTICE.txt", "USE_POLICY.md"),
]
LEFTOVERS = [
    *("optimizer.pt", "optimizer.safetensors", "scheduler.pt", "rng_state.pth", "rng_state_0.pth", "training_args.bin"),
    *("trainer_state.json", "pytorch_model.bin", "events.out.tfevents.1", "README.md", "modeling_mine.py", ".DS_Store"),
    *("adapter_config.json", "adapter_model.safetensors", "latest", "zero_to_fp32.py", "wandb.json"),
]


@pytest.mark.parametrize("name", PARTS)
def test_what_save_pretrained_writes_belongs_to_a_model(name: str) -> None:
    assert is_model_file(name)


@pytest.mark.parametrize("name", LEFTOVERS)
def test_what_a_trainer_leaves_does_not_belong_to_a_model(name: str) -> None:
    assert not is_model_file(name)


@pytest.mark.parametrize("folder", ["checkpoint-500", "global_step500", "runs\\may"])
def test_a_nested_file_does_not_belong_to_a_model_whatever_its_name(folder: str) -> None:
    separator = "\\" if "\\" in folder else "/"
    assert not any(is_model_file(f"{folder}{separator}{name}") for name in PARTS)


@pytest.mark.parametrize("folder", ["model", "data/model", "components/tokenizer"])
def test_a_file_where_a_job_puts_its_model_belongs_to_it(folder: str) -> None:
    assert all(is_model_file(f"{folder}/{name}") for name in PARTS)
    assert not any(is_model_file(f"{folder}/{name}") for name in LEFTOVERS)
    assert is_model_file(f"{folder}/")
    assert is_model_file(f"{folder.split('/')[0]}/")
    assert is_model_file("additional_chat_templates/rag.jinja")
    assert not is_model_file("additional_chat_templates/notes.txt")
    assert not any(map(is_model_file, ["checkpoint-500/", "runs/", "model/checkpoint-500/", "data/"[:-1]]))
    assert model_files.is_adapter_file("adapter/adapter_config.json")


def test_weights_and_tokenizer_files_are_told_apart() -> None:
    assert [name for name in PARTS if is_weight_file(name)] == ["model.safetensors", "model-00001-of-00002.safetensors"]
    assert is_tokenizer_file("chat_template.jinja")
    assert not is_tokenizer_file("config.json")


def test_a_trainers_folder_with_a_dangling_link_lists_the_models_files_alone(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json", "optimizer.pt", "trainer_state.json"):
        (tmp_path / name).touch()
    (tmp_path / "checkpoint-500").mkdir()
    (tmp_path / "checkpoint-500" / "model.safetensors").touch()
    (tmp_path / "chat_template.jinja").symlink_to(tmp_path / "gone")
    assert [path.name for path in files_in(tmp_path)] == ["config.json", "model.safetensors", "tokenizer.json"]


@pytest.mark.parametrize("names", [["tokenizer.json"], ["spiece.model"], ["vocab.json", "merges.txt"]])
def test_any_form_of_vocabulary_is_a_tokenizer(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        assert not holds_tokenizer(tmp_path)
        (tmp_path / name).touch()
    assert holds_tokenizer(tmp_path)


def test_every_file_of_an_adapter_is_known() -> None:
    assert all(map(model_files.is_adapter_file, ["adapter_config.json", "adapter_model.safetensors", "tokenizer.json"]))
    assert not model_files.is_adapter_file("optimizer.pt")

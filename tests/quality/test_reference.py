from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scripts.common import json_files
from scripts.common.errors import IngotError
from scripts.quality import reference
from scripts.quality.logits import GenaiModel

PROJECT = Path(__file__).parents[2]


def test_pieces_with_a_cache_give_what_one_pass_gives(tiny_trained: Path, truth: Path) -> None:
    import torch
    import transformers

    (text,) = reference.load(truth).texts
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_trained, dtype=torch.float32)
    with torch.inference_mode():
        whole = model(torch.from_numpy(text.tokens[None, :-1].astype(np.int64))).logits[0].log_softmax(-1).numpy()
    pieces = list(text.log_probabilities())
    assert len(pieces) > 1
    np.testing.assert_allclose(np.concatenate(pieces), whole, rtol=1e-3, atol=1e-3)


def test_the_same_model_and_text_give_the_same_bytes(
    tiny_trained: Path, text: Path, truth: Path, tmp_path: Path
) -> None:
    reference.build(tiny_trained, {"facts": text}, tmp_path / "again")
    for file in sorted(path for path in truth.rglob("*") if path.is_file()):
        assert (tmp_path / "again" / file.relative_to(truth)).read_bytes() == file.read_bytes(), file.name


def test_no_more_tokens_are_taken_than_asked_for(tiny_trained: Path, text: Path, tmp_path: Path) -> None:
    reference.build(tiny_trained, {"a": text, "b": text}, tmp_path / "out", tokens=40)
    assert [len(entry.tokens) for entry in reference.load(tmp_path / "out").texts] == [40, 40]


def test_a_reference_that_lost_a_piece_is_refused_by_name(truth: Path, tmp_path: Path) -> None:
    shutil.copytree(truth, tmp_path / "copy")
    (tmp_path / "copy" / "facts" / "00001.npy").unlink()
    with pytest.raises(IngotError, match=r"00001\.npy: is missing"):
        reference.load(tmp_path / "copy")


def test_a_text_longer_than_the_context_is_cut_to_it(tiny_trained: Path, text: Path, tmp_path: Path) -> None:
    short = shutil.copytree(tiny_trained, tmp_path / "checkpoint")
    config = json_files.read(short / "config.json")
    for context, tokens in ((64, 56), (40, 32)):
        json_files.write(short / "config.json", config | {"max_position_embeddings": context})
        reference.build(short, {"facts": text}, tmp_path / str(context))
        assert len(reference.load(tmp_path / str(context)).texts[0].tokens) == tokens
    json_files.write(short / "config.json", config | {"max_position_embeddings": 39})
    with pytest.raises(IngotError, match=r"config\.json: its context of 39 tokens is too short"):
        reference.build(short, {"facts": text}, tmp_path / "39")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "is empty"),
        (b" \n\t", "is empty"),
        (b"Too short.", "too short"),
        (b"\xff\xfe\x00bytes", "not UTF-8"),
    ],
)
def test_a_text_that_proves_nothing_is_an_error(tiny_llama: Path, tmp_path: Path, content: bytes, found: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(IngotError, match=found) as error:
        reference.build(tiny_llama, {"text": path}, tmp_path / "out")
    assert str(path) in str(error.value)


def test_a_missing_text_is_told_in_one_line_before_anything_heavy(tiny_llama: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "scripts.quality", "reference"]
    options = ["--checkpoint", tiny_llama, "--text", tmp_path / "no such.txt", "--output", tmp_path / "out"]
    done = subprocess.run([*command, *map(str, options)], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no such.txt: there is no such file" in done.stderr
    assert "Traceback" not in done.stderr
    assert not {"torch", "transformers"} & {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}


def test_a_folder_without_weights_is_an_error(tmp_path: Path, text: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(IngotError, match="no safetensors"):
        reference.build(tmp_path, {"facts": text}, tmp_path / "out")


def test_texts_are_named_by_the_user_or_after_their_files(tmp_path: Path) -> None:
    odd = tmp_path / "a=b c.txt"
    odd.write_text("x")
    assert reference.parse_texts([str(odd), "own=eval/triage/text.txt"]) == {
        "a-b-c": odd,
        "own": Path("eval/triage/text.txt"),
    }
    assert list(reference.parse_texts(["x/text.txt", "y/Text.txt", "z/text.txt"])) == ["text", "Text-2", "text-3"]
    with pytest.raises(IngotError, match="already"):
        reference.parse_texts(["own=x/text.txt", "Own=y/text.txt"])


def test_a_folder_that_is_no_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(IngotError, match=r"no genai_config\.json"):
        GenaiModel(tmp_path)

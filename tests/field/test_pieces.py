"""Tokenizers in the manner of SentencePiece: the ids of SentencePiece itself, in transformers and in the runtime."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

from scripts.common.model_files import AS_WRITTEN
from scripts.package import tokens
from tests import tiny
from tests.field.inputs import WEIGHTS, Made, edit, make, refusal, rewrite
from tests.field.test_speech import ROWS

LLAMA2 = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ ' ' + m['content'] + ' ' + eos_token }}"
    "{% else %}{{ bos_token + '[INST] ' + m['content'] + ' [/INST]' }}{% endif %}{% endfor %}"
)
#: Begins with words, not with a token.
WORDS = "{% for m in messages %}{{ '[' + m['role'] + '] ' + m['content'] + eos_token + '\n' }}{% endfor %}"
ZEPHYR = "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}{% endfor %}"
GEMMA = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<start_of_turn>' + m['role'] + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
)
PLAIN = {
    "model_type": "bpe",
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    "split_digits": True,
}
RUNS = ["\u2581" * n for n in range(2, 32)]
OF_GEMMA = {
    "add_dummy_prefix": False, "pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3, "pad_piece": "<pad>",
    "bos_piece": "<bos>", "eos_piece": "<eos>", "allow_whitespace_only_pieces": True,
    "user_defined_symbols": ["<start_of_turn>", "<end_of_turn>", "\n", "\n\n", *RUNS, "<b>"],
}  # fmt: skip
GENAI = {
    "model": {
        "type": "llama", "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "vocab_size": 520,
        "context_length": 128, "decoder": {"filename": "model.onnx"},
    },
    "search": {},
}  # fmt: skip


def train(folder: Path, **options: Any) -> SentencePieceProcessor:
    """Put a SentencePiece model into a checkpoint's folder, in place of its tokenizer."""
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).unlink()
    text = folder / "text"
    text.write_text(tiny.TEXT * 3 + "def f(x):\n        return x\n", encoding="utf-8")
    SentencePieceTrainer.train(
        input=str(text), model_prefix=str(folder / "tokenizer"), byte_fallback=True, character_coverage=1.0,
        minloglevel=2, **{"vocab_size": 520, **PLAIN, **options},
    )  # fmt: skip
    text.unlink()
    (folder / "tokenizer.vocab").unlink()
    truth = SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    rows = truth.get_piece_size()
    rewrite(folder / WEIGHTS, lambda t: {n: torch.ones(rows, 256) if n in ROWS else v for n, v in t.items()})
    edit(folder / "config.json", vocab_size=rows)
    return truth


def settings(folder: Path, template: str, **more: Any) -> None:
    value = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "chat_template": template, **more}
    (folder / "tokenizer_config.json").write_text(json.dumps(value))


def runtime_agrees(made: Made, scratch: Path) -> bool:
    """Whether the runtime gives the ids of transformers for all conversations that a package is held against."""
    folder = shutil.copytree(made.folder, scratch / "served", symlinks=True)
    (folder / "genai_config.json").write_text(json.dumps(GENAI))
    return tokens.compare(folder, made.tokenizer).compared >= tokens.MINIMUM


def pieces(made: Made, text: str) -> list[str]:
    ids = made.tokenizer(text, add_special_tokens=False).input_ids
    return list(made.tokenizer.convert_ids_to_tokens(ids))


@pytest.mark.parametrize("template", [LLAMA2, WORDS, ZEPHYR])
@pytest.mark.parametrize("legacy", [True, False, None])
def test_a_llamas_sentencepiece_is_read_as_it_was_trained(
    weights: Path, tmp_path: Path, legacy: bool | None, template: str
) -> None:
    truth = train(weights)
    said = {} if legacy is None else {"legacy": legacy}
    settings(weights, template, tokenizer_class="LlamaTokenizer", **said)
    made = make(tmp_path / "out", weights)
    assert "made of the other tokenizer files" in made.remarks
    assert ("does not say `legacy`" in made.remarks) is (legacy is None)
    before = "" if legacy is not False else " "  # what the template sees to
    for text in ("the thing and another", "Grüße \n\n 🙂", "a  b", "a"):
        assert made.tokenizer(before + text, add_special_tokens=False).input_ids == truth.encode(text)
    assert pieces(made, "</s>[x") == ["</s>", *(["\u2581["] if legacy is not False else ["["]), "x"]
    assert made.tokenizer.eos_token == "</s>"
    assert runtime_agrees(made, tmp_path)


def test_a_template_that_begins_with_words_begins_with_a_blank_where_the_tokenizer_puts_none(
    weights: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    train(weights)
    settings(weights, WORDS, tokenizer_class="LlamaTokenizer", legacy=False)
    made = make(tmp_path / "out", weights)
    assert "a blank is put before its text" in made.remarks
    theirs = AutoTokenizer.from_pretrained(weights)
    talk = tiny.conversation("What is it?", "A ticket.")
    rendered = [t.apply_chat_template(talk, tokenize=True, return_dict=False) for t in (made.tokenizer, theirs)]
    assert rendered[0] == rendered[1]


def test_a_gemmas_sentencepiece_is_read_as_it_was_trained(weights: Path, tmp_path: Path) -> None:
    truth = train(weights, **OF_GEMMA)
    settings(weights, GEMMA, tokenizer_class="GemmaTokenizer", bos_token="<bos>", eos_token="<eos>")
    made = make(tmp_path / "out", weights)
    runs = ("a" + " " * number + "b" for number in range(1, 32))
    for text in ("the thing", "def f(x):\n        return x", "x\n\n\ny", "<b>12", *runs):
        ids = made.tokenizer(text, add_special_tokens=False).input_ids
        assert ids == truth.encode(text)
        assert made.tokenizer.decode(ids, skip_special_tokens=True) == text
    assert runtime_agrees(made, tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model_type": "unigram", "vocab_size": 420}, "a unigram model"),
        ({"normalization_rule_name": "nmt_nfkc"}, "gives other ids than SentencePiece"),
        ({"split_digits": False}, "joins digits to what is beside them"),
        ({"remove_extra_whitespaces": True}, "gives other ids than SentencePiece, for 'a  b   c'"),
    ],
)
def test_a_sentencepiece_that_can_not_be_served_is_refused_with_the_reason(
    weights: Path, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    train(weights, **options)
    settings(weights, LLAMA2, tokenizer_class="LlamaTokenizer")
    line = refusal(tmp_path / "out", weights)
    assert "tokenizer.model: " in line and words in line


def test_a_tokenizer_json_that_is_no_bpe_is_refused_by_its_kind(weights: Path, tmp_path: Path) -> None:
    core = json.loads((weights / "tokenizer.json").read_text(encoding="utf-8"))
    core["model"] = {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.0]]}
    (weights / "tokenizer.json").write_text(json.dumps(core))
    assert "tokenizer.json: a Unigram model" in refusal(tmp_path / "out", weights)


@pytest.mark.parametrize("template", [LLAMA2, WORDS])
def test_what_transformers_5_saved_of_a_llama_gives_the_same_ids_in_the_runtime(
    weights: Path, tmp_path: Path, template: str
) -> None:
    """As any Llama or Mistral that is trained today: with Metaspace, which the runtime takes for something else."""
    from transformers import AutoTokenizer

    train(weights)
    settings(weights, template, tokenizer_class="LlamaTokenizer", legacy=False)
    theirs = AutoTokenizer.from_pretrained(weights)
    (weights / "tokenizer.model").unlink()
    theirs.save_pretrained(weights)
    theirs = AutoTokenizer.from_pretrained(weights)
    made = make(tmp_path / "out", weights)
    talk = [*tiny.conversation("  What\n is it?", "A ticket."), *tiny.conversation("")]
    ids = [t.apply_chat_template(talk, tokenize=True, return_dict=False) for t in (made.tokenizer, theirs)]
    assert ids[0] == ids[1]
    assert runtime_agrees(made, tmp_path)


def test_a_llamas_tokenizer_json_of_transformers_4_is_read_as_it_is_written(weights: Path, tmp_path: Path) -> None:
    """It puts a blank after each special token; the class of transformers 5 would not."""
    train(weights)
    settings(weights, LLAMA2, tokenizer_class="LlamaTokenizer", legacy=True)
    core = make(tmp_path / "first", weights).folder / "tokenizer.json"
    shutil.copy(core, weights / "tokenizer.json")
    (weights / "tokenizer.model").unlink()
    settings(weights, LLAMA2, tokenizer_class="LlamaTokenizerFast", legacy=False)
    made = make(tmp_path / "out", weights)
    assert "read as tokenizer.json is written" in made.remarks
    assert made.tokenizer.init_kwargs.get("tokenizer_class", AS_WRITTEN) == AS_WRITTEN
    assert pieces(made, "</s>[x") == ["</s>", "\u2581[", "x"]
    assert runtime_agrees(made, tmp_path)

"""Tokenizers and chat templates: every token has a row, and one template is chosen and said."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch

from tests.field.inputs import PLAIN, WEIGHTS, Made, edit, make, refusal, rewrite
from tests.tiny import CHAT_TEMPLATE, SPECIAL, VOCAB

ROWS = ("model.embed_tokens.weight", "lm_head.weight")


def add_tokens(folder: Path, *tokens: str, template: str | None = None) -> None:
    tokenizer = Made(folder).tokenizer
    tokenizer.add_tokens(list(tokens), special_tokens=True)
    tokenizer.chat_template = template or tokenizer.chat_template
    tokenizer.save_pretrained(folder)


def test_a_template_whose_marks_have_no_row_is_refused_by_token_and_rows(weights: Path, tmp_path: Path) -> None:
    add_tokens(weights, "<|turn|>", template=CHAT_TEMPLATE.replace("<|im_start|>", "<|turn|>"))
    line = refusal(tmp_path / "out", weights)
    assert f"token '<|turn|>' has id {VOCAB}, but the embedding has {VOCAB} rows" in line


def test_an_end_of_text_without_a_row_is_refused(weights: Path, tmp_path: Path) -> None:
    add_tokens(weights, "<|end|>")
    edit(weights / "tokenizer_config.json", eos_token="<|end|>")
    assert f"token '<|end|>' has id {VOCAB}" in refusal(tmp_path / "out", weights)


def test_a_vocabulary_larger_than_the_embedding_is_refused(weights: Path, tmp_path: Path) -> None:
    rewrite(weights / WEIGHTS, lambda t: {n: v[:500] if n in ROWS else v for n, v in t.items()})
    assert "has id 500, but the embedding has 500 rows" in refusal(tmp_path / "out", weights)


def test_a_token_without_a_row_that_nothing_asks_for_is_left_out(weights: Path, tmp_path: Path) -> None:
    """Gemma 3's text models have one: the mark of an image."""
    add_tokens(weights, "<image>")
    edit(weights / "tokenizer_config.json", image_token="<image>")
    made = make(tmp_path / "out", weights)
    assert "left out, having no row in the embedding: <image>" in made.remarks
    assert len(made.tokenizer) == VOCAB
    assert max(made.tokenizer("a <image> b").input_ids) < VOCAB


def named(folder: Path, **templates: str) -> None:
    (folder / "chat_template.jinja").unlink()
    value = [{"name": name, "template": text} for name, text in templates.items()]
    edit(folder / "tokenizer_config.json", chat_template=value)


def test_named_templates_without_a_default_are_refused_by_their_names_or_chosen_from(
    weights: Path, tmp_path: Path
) -> None:
    named(weights, chat=CHAT_TEMPLATE, rag=PLAIN)
    assert "has chat templates named chat, rag, and none is the default" in refusal(tmp_path / "out", weights)
    assert "those there are called chat, rag" in refusal(tmp_path / "out", weights, template="tool")
    made = make(tmp_path / "out", weights, template="rag")
    assert made.tokenizer.chat_template == PLAIN
    assert "the one named 'rag' is used" in made.remarks


def test_the_only_template_is_used_whatever_it_is_called(weights: Path, tmp_path: Path) -> None:
    named(weights, chat=PLAIN)
    made = make(tmp_path / "out", weights)
    assert made.tokenizer.chat_template == PLAIN
    assert "the one there is called 'chat'" in made.remarks


def test_a_template_file_is_used_before_all_others(weights: Path, tmp_path: Path) -> None:
    edit(weights / "tokenizer_config.json", chat_template=CHAT_TEMPLATE)
    (tmp_path / "mine.jinja").write_text(PLAIN, encoding="utf-8-sig")
    made = make(tmp_path / "out", weights, template=str(tmp_path / "mine.jinja"))
    assert made.tokenizer.chat_template == PLAIN
    assert "chat_template" not in json.loads((made.folder / "tokenizer_config.json").read_text())
    assert "mine.jinja: the chat template" in made.remarks


@pytest.mark.parametrize("value", [5, [], [{"name": "chat"}], {"default": 3}])
def test_a_template_of_another_type_is_refused(weights: Path, tmp_path: Path, value: object) -> None:
    (weights / "chat_template.jinja").unlink()
    edit(weights / "tokenizer_config.json", chat_template=value)
    assert "chat_template is neither a text" in refusal(tmp_path / "out", weights)


def test_a_model_without_a_template_is_refused_before_anything_heavy(weights: Path, tmp_path: Path) -> None:
    (weights / "chat_template.jinja").unlink()
    line = refusal(tmp_path / "out", weights)
    assert "has no chat template" in line
    assert 'template = "FILE.jinja" in models.toml' in line


def sentencepiece(path: Path) -> int:
    """Write a SentencePiece model, BPE with bytes, by hand (a protocol buffer); returns how many pieces it has."""
    pieces = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3), *((f"<0x{i:02X}>", 0.0, 6) for i in range(256))]
    words = ["\u2581", *"etaoinsrhdlucmfg", "th", "\u2581th", "he", "\u2581the", "in", "an", "re", "on", "\u2581a"]
    words += ["and", "\u2581and", "ing"]
    pieces += [(word, -float(rank), 1) for rank, word in enumerate(words)]

    def number(value: int) -> bytes:
        return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + number(value >> 7)

    def block(tag: int, content: bytes) -> bytes:
        return bytes([tag]) + number(len(content)) + content

    body = b"".join(
        block(0x0A, block(0x0A, text.encode()) + b"\x15" + struct.pack("<f", score) + b"\x18" + number(kind))
        for text, score, kind in pieces
    )
    trainer = b"\x18" + number(2) + b"\x20" + number(len(pieces)) + b"\x98\x02\x01"  # BPE, its size, byte fallback
    path.write_bytes(body + block(0x12, trainer) + block(0x1A, b"\x0a\x08identity\x18\x01\x20\x00\x28\x01"))
    return len(pieces)


def test_a_tokenizer_of_sentencepiece_alone_gets_the_file_that_the_runtime_needs(weights: Path, tmp_path: Path) -> None:
    from sentencepiece import SentencePieceProcessor

    for name in ("tokenizer.json", "tokenizer_config.json"):
        (weights / name).unlink()
    pieces = sentencepiece(weights / "tokenizer.model")
    rewrite(weights / WEIGHTS, lambda t: {n: torch.ones(pieces, 256) if n in ROWS else v for n, v in t.items()})
    settings = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (weights / "tokenizer_config.json").write_text(json.dumps({**settings, "legacy": True}))
    edit(weights / "config.json", vocab_size=pieces)
    made = make(tmp_path / "out", weights)
    assert (made.folder / "tokenizer.json").is_file()
    assert "tokenizer.json: made of the other tokenizer files" in made.remarks
    truth = SentencePieceProcessor(model_file=str(weights / "tokenizer.model"))
    for text in ("the thing and another", "Grüße \n\n 🙂", "a", ""):
        assert made.tokenizer(text, add_special_tokens=False).input_ids == truth.encode(text)
    assert made.tokenizer.eos_token == "</s>"
    assert SPECIAL[0] not in made.tokenizer.get_vocab()


def test_a_tokenizer_that_nothing_can_read_is_refused(weights: Path, tmp_path: Path) -> None:
    (weights / "tokenizer.json").unlink()
    (weights / "tokenizer.model").write_bytes(b"\xff" * 100)
    line = refusal(tmp_path / "out", weights)
    assert "can't make a tokenizer.json" in line

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from scripts.common.errors import IngotError
from scripts.package import tokens
from scripts.package.conversations import conversations, with_tools


def tokenizer(checkpoint: Path, template: str | None = None) -> Any:
    loaded = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
    loaded.chat_template = template or loaded.chat_template
    return loaded


@pytest.fixture
def package(onnx: Path, change: Callable[..., None]) -> Callable[[str], Path]:
    """An export whose tokenizer carries the given chat template."""

    def package(template: str) -> Path:
        change(onnx / "tokenizer_config.json", chat_template=template)
        return onnx

    return package


PLAIN = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}>{% endif %}"
)


def test_the_exports_ids_are_those_of_transformers(onnx: Path, checkpoint: Path) -> None:
    agreement = tokens.compare(onnx, tokenizer(checkpoint))
    assert agreement.compared == len(conversations([])) + len(with_tools()) >= 40
    assert (agreement.skipped, agreement.different, agreement.rendered, agreement.with_tools) == ({}, {}, {}, {})


def test_every_family_of_conversation_is_there() -> None:
    talks = conversations(["<|im_end|>"])
    bare = [talk for talk in talks.values() if talk[0]["role"] != "system"]
    assert len(bare) >= tokens.MINIMUM
    assert len(talks) - len(bare) >= 5
    roles = [[message["role"] for message in talk] for talk in talks.values()]
    assert sum(turns == ["user", "assistant"] * (len(turns) // 2) + ["user"] for turns in roles) >= tokens.MINIMUM
    assert {turns[-1] for turns in roles} == {"user", "assistant", "system"}
    assert max(map(len, roles)) > 50
    assert any("<|im_end|>" in message["content"] for talk in talks.values() for message in talk)


def test_a_template_that_drifted_is_shown_with_the_first_difference(package: Any, checkpoint: Path) -> None:
    spoilt = package(PLAIN.replace("<{{", "[{{"))
    with pytest.raises(IngotError) as caught:
        tokens.compare(spoilt, tokenizer(checkpoint, PLAIN))
    text = str(caught.value)
    assert "conversation 'one question'" in text
    assert "at character 0 '[user>What" in text
    assert "at token 0 of" in text
    assert "transformers has id" in text
    assert "runtime has id" in text


def test_jinja_that_the_runtime_lacks_is_refused_by_its_word(package: Any, checkpoint: Path) -> None:
    template = PLAIN.replace("m['content']", "m['content'].replace('a', 'a')")
    with pytest.raises(IngotError, match=r"can't render conversation 'one question'.*replace.*Its Jinja is a part"):
        tokens.compare(package(template), tokenizer(checkpoint, template))


def test_jinja_that_the_runtime_reads_otherwise_is_refused_with_the_first_difference(
    package: Any, checkpoint: Path
) -> None:
    """The runtime finds no text in a text, and raises nothing."""
    searching = PLAIN.replace("{{ m['content'] }}\n", "{{ 'found ' if 'France' in m['content'] }}{{ m['content'] }}")
    with pytest.raises(IngotError, match=r"unlike transformers: at character \d+ .* in place of '<user>found"):
        tokens.compare(package(searching), tokenizer(checkpoint, searching))


def test_conversations_that_the_template_refuses_are_listed_not_judged(package: Any, checkpoint: Path) -> None:
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + PLAIN
    agreement = tokens.compare(package(refusing), tokenizer(checkpoint, refusing))
    assert agreement.compared >= tokens.MINIMUM
    assert set(agreement.skipped.values()) == {"no system role"}
    assert all("system" in name for name in agreement.skipped)


def test_a_template_that_leaves_out_what_the_user_says_is_refused(package: Any, checkpoint: Path) -> None:
    deaf = PLAIN.replace("m['content']", "'…'")
    with pytest.raises(IngotError, match="does not write what the user says"):
        tokens.compare(package(deaf), tokenizer(checkpoint, deaf))


def test_a_template_that_refuses_nearly_all_is_refused(package: Any, checkpoint: Path) -> None:
    choosy = (
        "{% if messages | length > 1 or not messages[0]['content'] %}{{ raise_exception('one only') }}{% endif %}"
        + PLAIN
    )
    choosy = choosy.replace("not messages[0]['content']", "messages[0]['content'] | length > 99")
    with pytest.raises(IngotError, match=r"renders only \d+ of \d+ conversations .*one only"):
        tokens.compare(package(choosy), tokenizer(checkpoint, choosy))


def test_a_tokenizer_that_drifted_is_shown_with_the_first_difference(onnx: Path, checkpoint: Path) -> None:
    path = onnx / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["model"]["merges"] = content["model"]["merges"][:5]
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(IngotError, match=r"tokenizer\.json: the runtime tokenises .*unlike transformers: at token \d+"):
        tokens.compare(onnx, tokenizer(checkpoint))


def test_an_unreadable_tokenizer_is_named(onnx: Path, checkpoint: Path) -> None:
    (onnx / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(IngotError, match=r"tokenizer\.json: the runtime can't load this tokenizer"):
        tokens.compare(onnx, tokenizer(checkpoint))


def test_tools_that_the_runtime_would_flatten_are_told_and_not_refused(package: Any, checkpoint: Path) -> None:
    """It hands tools over as they are only to a template whose text holds certain words."""
    listing = "{% for t in tools or [] %}{{ t.function.name }}{% endfor %}" + PLAIN
    agreement = tokens.compare(package(listing), tokenizer(checkpoint, listing))
    assert agreement.compared == len(conversations([]))
    assert len(agreement.with_tools) == len(with_tools())


def test_a_normalisation_that_the_runtime_skips_is_reported_and_not_refused(onnx: Path, checkpoint: Path) -> None:
    for folder in (onnx, checkpoint):
        content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        content["normalizer"] = {"type": "NFC"}
        (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    agreement = tokens.compare(onnx, tokenizer(checkpoint))
    assert agreement.compared >= 20
    assert "at token" in agreement.different["letters and accents apart"]

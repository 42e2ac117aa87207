"""Does every token that a tokenizer gives have a row in the embedding? An id beyond it reads what lies behind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.checkpoint.headers import Tensor
from scripts.checkpoint.user_json import json_object
from scripts.common.errors import IngotError

_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
_COPY = "Copy it from the base model again"
#: Padding is none of them: nothing is padded where a model is served.
_ROLES = ("bos_token", "eos_token", "unk_token")


@dataclass(frozen=True)
class Tokens:
    """A tokenizer's tokens by id: its vocabulary, and what was added to it."""

    vocabulary: Mapping[int, str]
    added: Mapping[int, str]


def rows_of(tensors: Mapping[str, Tensor]) -> int | None:
    """How many tokens the embedding among `tensors` has; None where none is known by name."""
    rows = {tensor.shape[0] for name, tensor in tensors.items() if name.endswith(_EMBEDDINGS) and tensor.shape}
    if not rows:  # tied, and saved under the name of the head
        rows = {tensor.shape[0] for name, tensor in tensors.items() if name.endswith("lm_head.weight") and tensor.shape}
    return rows.pop() if len(rows) == 1 else None


def read_tokens(folder: Path) -> Tokens:
    """The tokens in a folder's tokenizer files, of whatever form."""
    vocabulary: dict[int, str] = {}
    added: dict[int, str] = {}
    if (path := folder / "tokenizer.json").is_file():
        value = json_object(path, _COPY)
        try:
            given = value["model"]["vocab"]
            pairs = (
                ((pair[0], number) for number, pair in enumerate(given)) if isinstance(given, list) else given.items()
            )
            vocabulary = {int(number): str(token) for token, number in pairs}
            added = {int(entry["id"]): str(entry["content"]) for entry in value.get("added_tokens") or ()}
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            raise IngotError(path, "has no vocabulary of tokens and ids", _COPY) from None
    for name, target in (("vocab.json", vocabulary), ("added_tokens.json", added)):
        if (path := folder / name).is_file() and not target:
            target.update({n: token for token, n in json_object(path, _COPY).items() if isinstance(n, int)})
    return Tokens(vocabulary, added)


def beyond(folder: Path, rows: int, templates: str) -> list[str]:
    """Added tokens that have no row in the embedding and that nothing asks for, so that they can be left out.

    Raises `IngotError` for a token without a row that is part of the vocabulary, of the chat `templates`, or has a
    role (the end of a text, say).
    """
    tokens = read_tokens(folder)
    subject = next(
        (path for name in ("tokenizer.json", "added_tokens.json") if (path := folder / name).is_file()), folder
    )
    settings = folder / "tokenizer_config.json"
    config = json_object(settings, _COPY) if settings.is_file() else {}
    roles = {_text(config.get(role)) for role in _ROLES}
    spare = []
    for number, token in sorted({**tokens.vocabulary, **tokens.added}.items()):
        if number < rows:
            continue
        if number in tokens.vocabulary or token in roles or token in templates:
            found = f"token {token!r} has id {number}, but the embedding has {rows} rows (0 to {rows - 1})"
            remedy = (
                "Use the tokenizer that these weights were trained with, or resize the model and train it: "
                "model.resize_token_embeddings(len(tokenizer))"
            )
            raise IngotError(subject, found, remedy)
        spare.append(token)
    return spare


def without(value: Any, tokens: list[str]) -> Any:
    """A tokenizer file's JSON without the entries for some added tokens, wherever they stand."""
    if isinstance(value, list):
        return [without(item, tokens) for item in value if _text(item) not in tokens]
    if isinstance(value, dict):
        return {key: without(item, tokens) for key, item in value.items() if not {key, _text(item)} & set(tokens)}
    return value


def write_without(source: Path, target: Path, tokens: list[str]) -> None:
    """Write a tokenizer file to `target` without some added tokens."""
    text = json.dumps(without(json_object(source, _COPY), tokens), ensure_ascii=False, indent=2)
    target.write_text(text + "\n", encoding="utf-8", newline="\n")


def _text(entry: object) -> str:
    """The token of an entry, which is its text or an object with it."""
    if isinstance(entry, dict):
        entry = entry.get("content")
    return entry if isinstance(entry, str) else ""

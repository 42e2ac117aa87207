"""Tokens that an adapter adds to its base: how many rows embedding and head get, and whether all of them are given."""

from __future__ import annotations

from typing import Any

from scripts.checkpoint.adapter_names import PART, PREFIX, plain
from scripts.checkpoint.adapters import OTHER_BASE, Adapter
from scripts.checkpoint.truth import core
from scripts.checkpoint.vocabulary import rows_of
from scripts.common.errors import IngotError


def count(adapter: Adapter, base: Any) -> int | None:
    """How many rows the adapter gives to embedding and head, where they are not what the base has."""
    whole = {_module(name) + ".weight": tensor for name, tensor in adapter.tensors.items() if _is_whole(name)}
    now, rows = base.get_input_embeddings().weight.shape[0], rows_of(whole)
    trained = _trained(adapter, rows or now)
    rows = rows or max(now, *(index + 1 for indices in trained.values() for index in indices), 0)
    return rows if rows != now else None


def refuse_unfilled(adapter: Adapter, base: Any, rows: int, *, apart: bool) -> None:
    """Raise `IngotError` where embedding or head would get rows that are nowhere: they would be random numbers.

    `base`: the model without the adapter; `apart`: whether it ends up with a head of its own.
    """
    layers = (base.get_input_embeddings(), base.get_output_embeddings())
    names = {core(name) for name, module in base.named_modules() if any(module is layer for layer in layers)}
    new = set(range(layers[0].weight.shape[0], rows))
    filled = {core(_module(name).removeprefix(PREFIX)) for name in adapter.tensors if _is_whole(name)}
    for layer, indices in _trained(adapter, rows).items():
        filled |= {name for name in names if name.endswith(core(layer)) and new <= set(indices)}
    lacking = sorted(names - filled)
    if lacking and (apart or lacking == sorted(names)):
        found = f"adds tokens and does not hold their rows of {lacking[0]}: they would be random"
        remedy = "Save it with both: model.save_pretrained(FOLDER, save_embedding_layers=True)"
        raise IngotError(adapter.folder, found, remedy)


def _is_whole(name: str) -> bool:
    return not PART.search(name) and not name.endswith("trainable_tokens_delta")


def _module(name: str) -> str:
    """The module, as peft calls it, that a tensor belongs to, without the layers that peft put around it."""
    return plain(name).rpartition(".")[0].replace(".token_adapter", "").replace(".base_layer", "")


def _trained(adapter: Adapter, rows: int) -> dict[str, list[int]]:
    """The tokens whose rows are trained one by one, by their layer; right after the last row, they may be new ones."""
    given = adapter.config.get("trainable_token_indices") or []
    found = given if isinstance(given, dict) else {"embed_tokens": given}
    for indices in found.values():
        for index in sorted(indices, key=lambda index: index if type(index) is int else -1):
            if type(index) is not int or not 0 <= index <= rows:
                what = f"adapter for another base: it trains token {index!r}, and the embedding has {rows} rows"
                raise IngotError(adapter.folder / "adapter_config.json", what, OTHER_BASE)
            rows = max(rows, index + 1)
    return found

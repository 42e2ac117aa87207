"""Token ids in config.json and generation_config.json: those that the embedding has no row for are no tokens.

The runtime writes to the place of an end-of-sequence token among the logits, so an id beyond them must not reach it.
"""

from __future__ import annotations

from typing import Any

from scripts.results.remarks import Remark

_KEYS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")


def drop_beyond(name: str, value: dict[str, Any], rows: int) -> list[Remark]:
    """Take ids out of a parsed configuration, and of its `text_config`, that are none; returns what there is to say.

    `name`: the file's. An id of -1 for padding says that there is none, and stays.
    """
    said = []
    nested = value.get("text_config")
    for part in (value, nested) if isinstance(nested, dict) else (value,):
        for key in _KEYS:
            given = part.get(key)
            ids = [number for number in (given if isinstance(given, list) else [given]) if type(number) is int]
            least = -1 if key == "pad_token_id" else 0
            if odd := [number for number in ids if not least <= number < rows]:
                kept = [number for number in ids if number not in odd]
                part[key] = kept if isinstance(given, list) and kept else None
                shown = ", ".join(map(str, odd))
                said.append(Remark(name, f"{key} {shown} is left out: the embedding has the rows 0 to {rows - 1}"))
    return said

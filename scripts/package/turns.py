"""Where an answer ends: the token with which the chat template ends a turn must be one that ends a generation.

A base model's config ends a text with `<|endoftext|>`; fine-tuned in ChatML, the model ends its answers with
`<|im_end|>`, and where nothing says so they run on. What the template renders after an answer is what training showed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.checkpoint.tokenizer import REFUSALS
from scripts.common import json_files
from scripts.results.remarks import Remark

_ANSWER = "Mark2qaZ"
_TALK = [
    {"role": "user", "content": "Mark1quZ"},
    {"role": "assistant", "content": _ANSWER},
    {"role": "user", "content": "Mark3quZ"},
]
_SUBJECT = "end of a turn"


def end_of_turn(tokenizer: Any) -> int | None:
    """The id of the token that the chat template ends an answer with; None where that is plain text."""
    for talk in (_TALK[:2], _TALK):
        try:
            text = str(tokenizer.apply_chat_template(talk, add_generation_prompt=False, tokenize=False))
        except REFUSALS:
            continue
        _, found, rest = text.partition(_ANSWER)
        if found:
            special = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}
            after = rest.partition(_TALK[2]["content"])[0]
            for token in tokenizer.encode(after, add_special_tokens=False):
                if token in special:
                    return int(token)
    return None


def end_generation(genai: dict[str, Any], tokenizer: Any, checkpoint: Path) -> list[Remark]:
    """Make the end of a turn an end of generation in genai_config.json; returns what was said otherwise elsewhere."""
    end = end_of_turn(tokenizer)
    if end is None:
        what = "the chat template ends it with no token of its own: answers may run on"
        return [Remark(_SUBJECT, what)]
    model, remarks = genai["model"], []
    token = tokenizer.convert_ids_to_tokens(end)
    said = _said(checkpoint, tokenizer)
    contrary = {name: ids for name, ids in said.items() if ids and end not in ids}
    if contrary:
        listed = ", ".join(f"{name} {_shown(tokenizer, ids)}" for name, ids in contrary.items())
        what = f"{token!r} ({end}) by the chat template, which is used; {listed} say otherwise"
        remarks.append(Remark(_SUBJECT, what))
    ends = _ids(model.get("eos_token_id"))
    if end not in ends:
        model["eos_token_id"] = [end, *ends] if ends else end
    return remarks


def _said(checkpoint: Path, tokenizer: Any) -> dict[str, list[int]]:
    """The ends of text by each file that names one."""
    found = {}
    for name in ("config.json", "generation_config.json"):
        if (checkpoint / name).is_file():
            value: Mapping[str, Any] = json_files.read(checkpoint / name)
            nested = value.get("text_config")
            found[name] = _ids(value.get("eos_token_id", nested.get("eos_token_id") if nested else None))
    return found | {"the tokenizer": _ids(tokenizer.eos_token_id)}


def _ids(value: object) -> list[int]:
    return [item for item in (value if isinstance(value, list) else [value]) if type(item) is int]


def _shown(tokenizer: Any, ids: Sequence[int]) -> str:
    return " and ".join(f"{tokenizer.convert_ids_to_tokens(number)!r} ({number})" for number in ids[:3])

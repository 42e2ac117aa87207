"""What a model answers to held-out cases, greedily, and what those answers are worth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import jsonschema

from scripts.finetune.data import Case


def measure(model: Any, tokenizer: Any, cases: Sequence[Case], schema: dict[str, Any]) -> dict[str, Any]:
    """Greedy answers to `cases` and what they are worth, each figure in percent of all cases.

    `schema_valid`: JSON that the schema accepts; `expectations`: that, and every field that must hold is right;
    `fields`: for each labelled field, how often it is right; `answers`: what was said, by case.
    """
    validator = jsonschema.Draft202012Validator(schema)
    answers = generate(model, tokenizer, cases)
    valid, held = 0, 0
    right: dict[str, list[bool]] = {}
    for case in cases:
        try:
            answer = json.loads(answers[case.name])
        except ValueError:
            answer = None
        is_valid = validator.is_valid(answer)
        got = answer if isinstance(answer, dict) else {}
        valid += is_valid
        held += is_valid and all(key in got and got[key] == value for key, value in case.expected.items())
        for key, value in case.labels.items():
            right.setdefault(key, []).append(key in got and got[key] == value)
    fields = {key: _percent(sum(hits), len(hits)) for key, hits in right.items()}
    return {
        "schema_valid": _percent(valid, len(cases)),
        "expectations": _percent(held, len(cases)),
        "fields": fields,
        "answers": answers,
    }


def generate(model: Any, tokenizer: Any, cases: Sequence[Case], batch: int = 16) -> dict[str, str]:
    """Greedy answers by case name, decoded without special tokens; padded on the left, batched by length."""
    import torch

    model.eval()
    prompts = {
        case.name: tokenizer.apply_chat_template(case.messages, tokenize=False, add_generation_prompt=True)
        for case in cases
    }
    order = sorted(cases, key=lambda case: (len(prompts[case.name]), case.name))
    answers: dict[str, str] = {}
    for start in range(0, len(order), batch):
        group = order[start : start + batch]
        asked = tokenizer(
            [prompts[case.name] for case in group],
            add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt",
        )  # fmt: skip
        with torch.inference_mode():
            ids = model.generate(
                input_ids=asked["input_ids"], attention_mask=asked["attention_mask"], do_sample=False,
                max_new_tokens=max(case.max_tokens for case in group), pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
        for case, row in zip(group, ids[:, asked["input_ids"].shape[1] :], strict=True):
            answers[case.name] = tokenizer.decode(row[: case.max_tokens], skip_special_tokens=True).strip()
        print(f"finetune: {len(answers)} of {len(order)} cases answered", flush=True)
    return {case.name: answers[case.name] for case in cases}


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 1)

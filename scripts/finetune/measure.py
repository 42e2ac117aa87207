"""What a model answers to held-out cases, greedily, and what those answers are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jsonschema.protocols import Validator

from scripts.cases import checks
from scripts.cases.cases import Case, judge


def measure(model: Any, tokenizer: Any, cases: Sequence[Case], validator: Validator) -> dict[str, Any]:
    """Greedy answers to `cases` and what they are worth."""
    return score(cases, generate(model, tokenizer, cases), validator)


def score(cases: Sequence[Case], answers: Mapping[str, str], validator: Validator) -> dict[str, Any]:
    """What answers, by the case's id, are worth: each figure in percent of all cases.

    `schema_valid`: JSON that the schema accepts; `expectations`: all that a case expects holds; `fields`: for each
    labelled field, how often it is right; `answers`: what was said, by case.
    """
    valid = sum(checks.schema(answers[case.id], validator) is None for case in cases)
    held = sum(not judge(case, answers[case.id], validator) for case in cases)
    right: dict[str, list[bool]] = {}
    for case in cases:
        for name, failure in checks.fields(answers[case.id], case.labels).items():
            right.setdefault(name, []).append(failure is None)
    return {
        "schema_valid": _percent(valid, len(cases)),
        "expectations": _percent(held, len(cases)),
        "fields": {name: _percent(sum(hits), len(hits)) for name, hits in right.items()},
        "answers": dict(answers),
    }


def generate(model: Any, tokenizer: Any, cases: Sequence[Case], batch: int = 16) -> dict[str, str]:
    """Greedy answers by the case's id, decoded without special tokens; padded on the left, batched by length."""
    import torch

    model.eval()
    prompts = {
        case.id: tokenizer.apply_chat_template(list(case.messages), tokenize=False, add_generation_prompt=True)
        for case in cases
    }
    order = sorted(cases, key=lambda case: (len(prompts[case.id]), case.id))
    answers: dict[str, str] = {}
    for start in range(0, len(order), batch):
        group = order[start : start + batch]
        asked = tokenizer(
            [prompts[case.id] for case in group],
            add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt",
        )  # fmt: skip
        with torch.inference_mode():
            ids = model.generate(
                input_ids=asked["input_ids"], attention_mask=asked["attention_mask"], do_sample=False,
                max_new_tokens=max(case.max_tokens for case in group), pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
        for case, row in zip(group, ids[:, asked["input_ids"].shape[1] :], strict=True):
            answers[case.id] = tokenizer.decode(row[: case.max_tokens], skip_special_tokens=True).strip()
        print(f"finetune: {len(answers)} of {len(order)} cases answered", flush=True)
    return {case.id: answers[case.id] for case in cases}


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 1)

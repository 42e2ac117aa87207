"""Structured output: the cases whose answer is to be JSON, asked again with decoding held to the schema.

Greedy decoding under a constraint takes another token only where the best one would leave the schema. So an answer that
is valid comes back as it is, and asking for it again tells nothing; what is asked is whatever is not valid, and one
that is, to see that it holds: grammars also fix the order of keys, which a schema does not. Where it does not hold all
are asked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping

import jsonschema

from scripts.cases import checks
from scripts.cases.cases import Case, judge
from scripts.results.domain import Constrained
from scripts.runtime.foundry import Chat, RuntimeFault

#: So many valid answers are asked for again.
CONTROLS = 1


def ask(
    chat: Chat,
    cases: list[Case],
    free: Mapping[str, str],
    validator: jsonschema.protocols.Validator,
    export: Constrained | None = None,
    each: Callable[..., Iterable[str]] = map,
) -> Constrained | None:
    """Ask a loaded model again what it answered `free`ly, by case; None where no case asks for JSON.

    `export`: what the float export made of the same cases; where it held there, it is not tried again. `each`: a `map`
    that may ask several at once.
    """
    chosen = [
        case
        for case in cases
        if (case.expect.schema or case.expect.fields is not None) and case.id in free and not case.tools
    ]
    if not chosen:
        return None
    valid = [case for case in chosen if checks.schema(free[case.id], validator) is None]
    controls = valid[: CONTROLS if export is None or export.asked == export.cases else 0]
    first = [case for case in chosen if case not in valid or case in controls]
    schema = json.dumps(validator.schema)
    try:
        again = _answers(chat, first, schema, each)
        if any(again[case.id] != free[case.id] for case in controls):
            again |= _answers(chat, [case for case in chosen if case.id not in again], schema, each)
    except RuntimeFault as fault:
        return Constrained(cases=len(chosen), error=fault.found)
    texts = {case.id: again.get(case.id, free[case.id]) for case in chosen}
    before, after = ({case.id: not judge(case, text[case.id], validator) for case in chosen} for text in (free, texts))
    return Constrained(
        cases=len(chosen),
        asked=len(again),
        passed=sum(after.values()),
        passed_free=sum(before.values()),
        valid=sum(checks.schema(text, validator) is None for text in texts.values()),
        valid_free=len(valid),
        won=[name for name in after if after[name] and not before[name]],
        lost=[name for name in after if before[name] and not after[name]],
    )


def _answers(
    chat: Chat, cases: Collection[Case], schema: str, each: Callable[..., Iterable[str]]
) -> dict[str, str]:  # fmt: skip
    def answer(case: Case) -> str:
        return chat.complete(case.messages, max_tokens=case.max_tokens, schema=schema).text

    return dict(zip([case.id for case in cases], each(answer, cases), strict=True))

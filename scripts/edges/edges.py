"""Edge cases and invalid input, sent to the deployed model: is each answered as it deserves, and does it still serve?

The verdict is about our code. Where Ingot's client lets an exception, a cut text or another model's answer through, the
result is refused. Where the runtime crashes, hangs, or answers what it should refuse, that is reported with its version
and the result is warned: it is what a user of this runtime gets. The runtime lives in a child, so nothing that happens
to it ends the measuring: the child is started again, and the next case is asked.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from scripts.common.errors import IngotError
from scripts.edges import cases
from scripts.edges.cases import SECONDS, Case, Facts, Posted, Said, body, encoded, user
from scripts.edges.clients import Reply, Server, post
from scripts.results import measured
from scripts.results.base import Verdict
from scripts.results.foundry import Deploy, EdgeCase, Edges, Fault
from scripts.runtime.foundry import label

#: Asked after every case; the answer must be the one that was given before the first.
QUESTION, QUESTION_TOKENS = "What is on your mind today?", 3
_FULL = 8192  # tokens: a longer prompt takes minutes, and says no more
_WORD = " word"
_MARKERS = 16
CLIENTS = ("session", "http")


def edges(package: Path, deployed: Deploy) -> Edges:
    """Send every case to the deployed model; returns the content of edges.json.

    `deployed` is what `deploy` returned. Raises `IngotError` if the model does not even answer an ordinary question.
    """
    with Server(Path(deployed.cache), deployed.id) as server:
        facts = facts_of(package, server)
        print("edges: markers", flush=True)
        marked = markers(package, server, facts)
        rows = run(cases.cases(facts), server)
    verdict, reasons = judged(rows, label())
    return Edges(
        verdict=verdict, reasons=reasons, cases=rows, markers=marked, id=facts.model_id, context=facts.context,
        restarts=server.restarts, package=measured.digest(package), runtime=label(),
    )  # fmt: skip


def run(cases: Iterable[Case], server: Server) -> list[EdgeCase]:
    """Send the cases, each followed by an ordinary question; a row of the result for each.

    Raises `IngotError` if that question is not answered even before the first case, or the model can't be opened again.
    """
    known = {client: ordinary(server, client) for client in CLIENTS}
    for client, reply in known.items():
        if reply.kind != "answer":
            raise IngotError(
                server.model_id, f"does not answer an ordinary question ({client}): {reply}", "`doit verify`"
            )
    cases, rows, replies = list(cases), dict[str, EdgeCase](), dict[str, Reply]()
    for number, case in enumerate(cases, 1):
        rows[case.id], replies[case.id] = _row(case, server, known)
        same = case.id.replace("http-", "session-", 1)  # the case that sends the same text by the session
        if same != case.id and same in replies and (unlike := _unlike(replies[same], replies[case.id])):
            rows[same] = replace(rows[same], outcome="ingot", found=f"{rows[same].found}; {unlike}")
        print(f"edges: {number} of {len(cases)} {case.id}: {rows[case.id].outcome}", flush=True)
    return list(rows.values())


def _unlike(said: Reply, posted: Reply) -> str | None:
    """How the session's answer differs from that to the same text over HTTP: then the text did not arrive as it was."""
    if (said.kind, posted.kind) != ("answer", "answer") or None in (said.prompt_tokens, posted.prompt_tokens):
        return None
    if (said.text, said.prompt_tokens) == (posted.text, posted.prompt_tokens):
        return None
    return f"over HTTP the same text is {posted.prompt_tokens} tokens, not {said.prompt_tokens}, and gets {posted}"


def judged(rows: Sequence[EdgeCase], runtime: str) -> tuple[Verdict, list[str]]:
    """The verdict on the rows and its reasons: refused if any fault is Ingot's, warned if any is the runtime's."""
    own = [row for row in rows if row.outcome == "ingot"]
    others = [row for row in rows if row.outcome == "runtime"]
    reasons = [f"{row.id} ({row.what}): {row.found}, expected: {row.expected}" for row in own]
    if others:
        said = f"{runtime} handles {len(others)} of {len(rows)} cases wrongly"
        reasons.append(f"{said}: {', '.join(row.id for row in others)}")
    return ("refused" if own else "warned" if others else "passed"), reasons


def ordinary(server: Server, client: str) -> Reply:
    """The reply to the ordinary question."""
    if client == "session":
        return send(server, Said(user(QUESTION), {"max_tokens": QUESTION_TOKENS}))
    return send(server, Posted(encoded(body(server.model_id, QUESTION, max_tokens=QUESTION_TOKENS))))


def send(server: Server, what: Said | Posted) -> Reply:
    """Send one request by its client; a child that crashed or hung is gone afterwards."""
    if isinstance(what, Said):
        asked = {"do": "ask", "messages": what.messages, "options": what.options, "leave": what.leave}
        found = server.ask(asked, what.limit)
        return found if isinstance(found, Reply) else Reply(**found)
    how = {"leave": what.leave, "gone_after": what.gone_after, "path": what.path, "method": what.method}
    reply = post(server.url(), server.model_id, what.body, limit=what.limit, **how)  # type: ignore[arg-type]
    if reply.kind == "broken":  # if the process died, then not of our code: that waited for a request meanwhile
        end = server.died()
        return dataclasses.replace(end, by="runtime") if end else reply
    if reply.kind == "hung":
        server.end()
    return reply


def judge(case: Case, reply: Reply) -> Fault:
    """Whose fault a reply is; "passed" is nobody's."""
    if reply.kind in ("raised", "garbage", "other model"):
        return "ingot"
    if reply.kind in ("hung", "crashed"):
        return "ingot" if reply.by == "ingot" else "runtime"
    if reply.kind in ("error", "broken", "goes on"):
        return "runtime"
    if case.expected == "either" or case.expected == {"answer": "answer", "refused": "refusal"}[reply.kind]:
        return "passed"
    if reply.kind == "refused":
        return "ingot" if reply.by == "ingot" else "runtime"
    return "ingot" if case.promised else "runtime"


def _row(case: Case, server: Server, known: dict[str, Reply]) -> tuple[EdgeCase, Reply]:
    reply = Reply("answer")
    outcome: Fault = "passed"
    for what in case.sends:
        reply = send(server, what)
        if (outcome := judge(case, reply)) != "passed":
            break
    if outcome == "passed" and case.rests and not server.is_idle():
        reply = Reply("goes on", "the runtime went on working for a client that had left")
        outcome = judge(case, reply)
    found = str(reply)
    after = [ordinary(server, case.client) for _ in range(case.known)]
    wrong = [answer for answer in after if answer != known[case.client]]
    if reply.kind == "goes on" or wrong:
        server.end()  # nothing of this may reach the next case
    if wrong:
        found += f"; then {len(wrong)} of {case.known} ordinary questions went wrong, {wrong[0]}"
        if outcome == "passed":
            outcome = "ingot" if _only_the_client(case, server, known) else "runtime"
    elif case.known > 1:
        found += f"; then {case.known} of {case.known} ordinary questions as before"
    row = EdgeCase(
        id=case.id, what=case.what, client=case.client, expected=case.expected, found=found, outcome=outcome,
        serves_after=not wrong,
    )  # fmt: skip
    return row, reply


def _only_the_client(case: Case, server: Server, known: dict[str, Reply]) -> bool:
    """Whether Ingot's client, and not the runtime, is hurt by a case: sent again, it leaves HTTP as it was."""
    if case.client == "http":
        return False
    for what in case.sends:
        send(server, what)
    return ordinary(server, "session") != known["session"] and ordinary(server, "http") == known["http"]


# --- what the cases need to know of the model


def facts_of(package: Path, server: Server) -> Facts:
    """Of the package's settings, and of how the runtime counts tokens."""
    settings = json.loads((package / "genai_config.json").read_text(encoding="utf-8"))
    context = int(settings["model"]["context_length"])
    short, short_tokens = "Tell me a long story.", _count(server, user("Tell me a long story."))
    full, full_tokens = _filling(server, min(context, _FULL) - 1)
    return Facts(server.model_id, context, short, short_tokens, full, full_tokens, special_tokens(package))


def _filling(server: Server, tokens: int) -> tuple[str | None, int]:
    """A text whose prompt is as many tokens long, or as few less as words allow; None if not even one word fits."""

    def length(words: int) -> int:
        return _count(server, user("Count." + _WORD * words))

    one = length(1)
    words = 1 + int((tokens - one) / ((length(17) - one) / 16))
    while words > 0 and (found := length(words)) > tokens:
        words -= 1
    return ("Count." + _WORD * words, found) if words > 0 else (None, 0)


def _count(server: Server, messages: Sequence[dict[str, Any]]) -> int:
    reply = server.ask({"do": "count", "messages": messages}, SECONDS)
    if isinstance(reply, Reply) or "tokens" not in reply:
        raise IngotError(server.model_id, f"does not count the tokens of a prompt: {reply}", "`doit verify`")
    return int(reply["tokens"])


def special_tokens(package: Path) -> tuple[str, ...]:
    """The tokenizer's special tokens (`added_tokens` of tokenizer.json with "special"), the first few of them."""
    try:
        value = json.loads((package / "tokenizer.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ()
    return tuple(token["content"] for token in value.get("added_tokens", ()) if token.get("special"))[:_MARKERS]


def markers(package: Path, server: Server, facts: Facts) -> dict[str, Any]:
    """Whether template markers in a user's text stay text: recorded, not judged, for the runtime decides.

    `tokens`: marker -> tokens that it adds to a prompt; 1 is the marker itself, 0 that it vanishes, more are letters.
    `turns`, if the package tells its template: the same turns, as messages and written out with markers inside one
    message; prompts of one length and one answer mean that a user's text can speak for the assistant.
    """
    tokens = {text: _each(server, text) for text in facts.markers}
    found: dict[str, Any] = {"tokens": tokens, "stay_text": all(count > 1 for count in tokens.values()), "turns": None}
    turns = [("user", "Hello"), ("assistant", "Hello!"), ("user", QUESTION)]
    if (written := _written(package, turns)) is None:
        return found
    as_turns = [{"role": role, "content": text} for role, text in turns]
    replies = {}
    for client in CLIENTS:
        pair = [_ask(server, client, messages) for messages in (as_turns, user(written))]
        same = pair[0].kind == "answer" and (pair[0].text, pair[0].prompt_tokens) == (
            pair[1].text,
            pair[1].prompt_tokens,
        )
        replies[client] = {"as_turns": str(pair[0]), "in_a_message": str(pair[1]), "same": same}
    return {**found, "turns": replies}


def _each(server: Server, text: str) -> float:
    once, more = (_count(server, user(f"a{text * times}b")) for times in (1, 9))
    return (more - once) / 8


def _ask(server: Server, client: str, messages: Any) -> Reply:
    if client == "session":
        return send(server, Said(messages, {"max_tokens": 8}))
    return send(server, Posted(encoded(body(server.model_id, "", messages=messages, max_tokens=8))))


def _written(package: Path, turns: Sequence[tuple[str, str]]) -> str | None:
    """The turns as the text of one user message, by the package's PromptTemplate; None if it has none."""
    try:
        value = json.loads((package / "inference_model.json").read_text(encoding="utf-8"))
        whole = "".join(value["PromptTemplate"][role].replace("{Content}", text) for role, text in turns)
        before, after = value["PromptTemplate"]["user"].split("{Content}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return whole.removeprefix(before).removesuffix(after)

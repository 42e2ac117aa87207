"""What apps ask of a served model beyond an answer: tool calls, reasoning, stop words, seeds and the like.

Each check says what it saw. "passed" is proven; "skipped" has nothing to show, as where a chat template knows no tools;
"warned" says what an app should know of, a limit of the runtime included. None keeps a model from being served.
What was proven, and nothing else, is claimed at registration.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonschema

from scripts.common import genai_config, json_files
from scripts.results.foundry import Check
from scripts.runtime.foundry import CLAIMS, Chat, Message, Runtime, RuntimeFault, claims_of

#: Asked of every model whose template knows tools.
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
TOOL_QUESTION = "What is the weather in Paris?"
SYSTEM = "Be brief."
_ID = "tried-generic-cpu:1"
_ROOM = 256  # tokens for what is thought, and for a tool call
_FEW = 8  # where any text will do: every precision is tried at every build
_TURNS = 20
_CONST = "a1"


def prove(folder: Path, messages: Sequence[Message]) -> list[Check]:
    """Try tool calls and reasoning of the model in `folder`, with the claims, in a catalog that is thrown away."""
    claims = claims_of(folder)
    checks = [Check(name=name, verdict="skipped", told=_LACKING[name]) for name in CLAIMS if name not in claims]
    if not claims:
        return checks
    with Runtime() as runtime:
        runtime.register(folder, _ID)
        chat = runtime.load(_ID)
        if "supports_reasoning" in claims:
            checks.append(_seen("supports_reasoning", lambda: _reasoning(chat, folder, messages)))
        if "supports_tool_calling" in claims:
            if "supports_reasoning" in claims and checks[-1].verdict != "passed":
                # A model that is said to reason is made to before it calls a tool, whether it learned to or not.
                runtime.unregister(_ID)
                runtime.register(folder, _ID, ("supports_tool_calling",))
            with runtime.serve(_ID) as url:
                checks.append(_seen("supports_tool_calling", lambda: _tool_calls(url, _ID, folder)))
    return checks


def answered(folder: Path, claims: Iterable[str], messages: Sequence[Message], most: int) -> str:
    """The text that the model in `folder` gives with these claims, greedily, in a catalog that is thrown away."""
    with Runtime() as runtime:
        runtime.register(folder, _ID, claims)
        return runtime.load(_ID).complete(messages, max_tokens=most).text


def check(chat: Chat, url: str, folder: Path) -> list[Check]:
    """The rest, of the deployed model."""
    return [
        _seen("stop words", lambda: _stop(url, chat)),
        _seen("seed", lambda: _seed(chat)),
        _seen("system prompt", lambda: _system(chat)),
        _seen("context limit", lambda: _limit(chat, folder)),
        _seen("structured output over HTTP", lambda: _structured(url, chat.model_id)),
    ]


_LACKING = {
    "supports_tool_calling": "the package publishes no tokens of tool calls: the chat template has none",
    "supports_reasoning": "the package publishes no tokens of reasoning: the chat template has none",
}
_Seen = tuple[str, str]  # verdict, and what was seen


def _seen(name: str, look: Callable[[], _Seen]) -> Check:
    from openai import OpenAIError

    try:
        verdict, told = look()
    except (RuntimeFault, OpenAIError) as error:
        verdict, told = "warned", f"the runtime answers with an error: {error}"
    return Check(name=name, verdict=verdict, told=" ".join(told.split())[:400])  # type: ignore[arg-type]


def _reasoning(chat: Chat, folder: Path, messages: Sequence[Message]) -> _Seen:
    context = int(genai_config.read(folder)["model"]["context_length"])
    room = context - chat.prompt_tokens(messages) - 1
    answer = chat.complete(messages, max_tokens=max(1, min(_ROOM, room)))
    if leaked := _leaked(folder, answer.text, genai_config.REASONING):
        return "warned", f"an answer holds {leaked!r}"
    if not answer.thought.strip():
        return "skipped", "nothing was thought before the answer to the question that was asked"
    return "passed", f"{len(answer.thought)} characters were thought and are not in the answer"


def _tool_calls(url: str, model_id: str, folder: Path) -> _Seen:
    for how, (text, calls) in (("", _called(url, model_id, False)), ("streamed, ", _called(url, model_id, True))):
        if leaked := _leaked(folder, text, genai_config.TOOL_CALL):
            return "warned", f"{how}a text holds {leaked!r}"
        if not calls:
            return "warned", f"{how}no tool was called: {text[:80]!r} came"
        for name, arguments in calls:
            if wrong := _wrong(name, arguments):
                return "warned", f"{how}{name}({arguments}) was called: {wrong}"
    return "passed", f"{name}({arguments}) was called with tool_choice=auto, also streamed"


def _called(url: str, model_id: str, stream: bool) -> tuple[str, list[tuple[str, str]]]:
    """The text of an answer, and the tools that it calls, by name and arguments (JSON)."""
    messages: list[Message] = [{"role": "user", "content": TOOL_QUESTION}]
    reply = _ask(url, model_id, messages, _ROOM, tools=[TOOL], tool_choice="auto", stream=stream)
    parts = [choice.delta for chunk in reply for choice in chunk.choices] if stream else [reply.choices[0].message]
    text = "".join(part.content or "" for part in parts)
    found: dict[int, list[str]] = {}
    for part in parts:
        for number, call in enumerate(part.tool_calls or ()):
            entry = found.setdefault(getattr(call, "index", number), ["", ""])
            entry[0] += call.function.name or ""
            entry[1] += call.function.arguments or ""
    return text, [(name, arguments) for name, arguments in found.values()]


def _wrong(name: str, arguments: str) -> str | None:
    if name != TOOL["function"]["name"]:
        return "there is no tool of that name"
    try:
        jsonschema.validate(json.loads(arguments), TOOL["function"]["parameters"])
    except (ValueError, jsonschema.ValidationError) as error:
        return f"the arguments are not valid ({getattr(error, 'message', error)})"
    return None


def _leaked(folder: Path, text: str, keys: tuple[str, str]) -> str | None:
    """A marker of the model's that a text holds; None where it holds none."""
    return next((marker for marker in (_marker(folder, key) for key in keys) if marker in text), None)


def _marker(folder: Path, key: str) -> str:
    """The text of a token that genai_config.json names."""
    number = genai_config.read(folder)["model"][key]
    tokens = json_files.read(folder / "tokenizer.json").get("added_tokens") or []
    return next((str(token["content"]) for token in tokens if token["id"] == number), "\0")


def _stop(url: str, chat: Chat) -> _Seen:
    text = chat.complete(TOOL_QUESTION, max_tokens=_FEW).text
    word = next((found[0] for found in re.finditer(r"\w{2,}", text) if text[: found.start()].strip()), None)
    if word is None:
        return "skipped", f"the answer is a single word, {text[:60]!r}"
    asked: list[Message] = [{"role": "user", "content": TOOL_QUESTION}]
    found = _ask(url, chat.model_id, asked, _FEW, stop=[word]).choices[0].message.content or ""
    if found != text[: text.index(word)]:
        return "warned", f"stop={[word]!r} gave {found[:80]!r} of {text[:80]!r}"
    return "passed", f"stop={[word]!r} ends the answer before it"


def _seed(chat: Chat) -> _Seen:
    answers = [chat.complete(TOOL_QUESTION, temperature=1.0, seed=7, max_tokens=_FEW) for _ in range(2)]
    one, other = (answer.thought + answer.text for answer in answers)
    if one != other:
        return "warned", f"one seed gave {one[:60]!r} and {other[:60]!r}"
    if not one:
        return "skipped", f"the first {_FEW} tokens of an answer show nothing"
    return "passed", "the same seed gave the same text at temperature 1"


def _system(chat: Chat) -> _Seen:
    """The share of a system prompt in a prompt's tokens must not shrink as the conversation grows."""
    turns: list[Message] = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    system: list[Message] = [{"role": "system", "content": SYSTEM}]
    talks = [[*turns * count, turns[0]] for count in (0, _TURNS)]
    try:
        short, long = (chat.prompt_tokens([*system, *talk]) - chat.prompt_tokens(talk) for talk in talks)
    except RuntimeFault as fault:
        return "skipped", f"the chat template takes no system prompt ({fault.found[:80]})"
    if short != long:
        return "warned", f"it adds {short} tokens to a first question, and {long} after {_TURNS} turns"
    return "passed", f"it is whole in the prompt after {_TURNS} turns"


def _limit(chat: Chat, folder: Path) -> _Seen:
    context = int(genai_config.read(folder)["model"]["context_length"])
    try:
        answer = chat.complete("a 1 " * context, max_tokens=1)
    except RuntimeFault as fault:
        if not chat.complete("Hi", max_tokens=1).completion_tokens:
            return "warned", "after a prompt that is too long nothing is answered"
        return "passed", f"a prompt beyond {context} tokens is refused ({fault.found[-90:]}), and the next is answered"
    return "warned", f"a prompt beyond {context} tokens is answered, of {answer.prompt_tokens} of its tokens"


def _structured(url: str, model_id: str) -> _Seen:
    """`response_format` of OpenAI's, and the bridge to what SDK 2.2.1 takes for the schema: json_schema as a whole."""
    schema = {"const": _CONST}
    given = {"name": "answer", "schema": schema}
    found = [_formatted(url, model_id, told) for told in (given, given | schema)]
    if found[0] == json.dumps(_CONST):
        return "passed", "response_format holds an answer to its json_schema"
    bridge = "; with the schema's own keys beside `name` it does" if found[1] == json.dumps(_CONST) else ""
    return "warned", f"the runtime does not hold an answer to response_format's json_schema.schema{bridge}"


def _formatted(url: str, model_id: str, given: Mapping[str, Any]) -> str:
    kind = {"type": "json_schema", "json_schema": given}
    messages: list[Message] = [{"role": "user", "content": "Hi"}]
    return str(_ask(url, model_id, messages, _FEW, response_format=kind).choices[0].message.content or "")


def _ask(url: str, model_id: str, messages: Sequence[Message], most: int, **options: Any) -> Any:
    from openai import OpenAI

    with OpenAI(base_url=url, api_key="none", max_retries=0, timeout=600) as client:
        create: Callable[..., Any] = client.chat.completions.create
        reply = create(model=model_id, messages=messages, max_tokens=most, temperature=0, **options)
        return list(reply) if options.get("stream") else reply

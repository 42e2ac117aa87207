"""Chatting with a loaded model: what is asked is checked here, and whatever goes wrong becomes a `RuntimeFault`.

The half of foundry-local-sdk's adapter that speaks to a model; `scripts.runtime.foundry` is the half that manages
them, and the name under which both are imported. What is bridged here, measured with 2.2.1, until a later release does
it itself:
- Text goes to the native library as C strings and numbers as text. What does not survive that is refused before it is
  sent: a text would end at its first NUL, without a word.
- A reply is a message of parts; iterating the response alone yields no text.
- A session that is used twice remembers: every call gets a fresh one.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from scripts.common.errors import IngotError

#: A chat message as in the OpenAI API: {"role": "system" | "user" | "assistant", "content": text}.
Message = Mapping[str, str]

ROLES = ("system", "developer", "user", "assistant")
_NO_LOCK = (
    "The runtime locks the list of its models there: make that folder writable, or set foundry.cache to one of yours"
)
_INT32 = 2**31 - 1  # the runtime reads whole numbers with stoi
_SURROGATE = re.compile("[\ud800-\udfff]")
_SOURCE = re.compile(r"\S+\.(?:cc|cpp|h):\d+ [^(]*\([^)]*\)(?: const)? ")  # where in the library: no use to a reader


class RuntimeFault(IngotError):  # noqa: N818 - reads as what it is
    """The runtime refused or broke; `found` holds its own words."""


@dataclass(frozen=True)
class Answer:
    """What a model said: its text, why it ended ("stop", "length", …), tokens in and out, wall seconds; `thought` is
    what the runtime told apart as reasoning; `calls`: the tools that it calls, each by name and arguments (JSON).
    """

    text: str
    finish: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    thought: str = ""
    calls: tuple[tuple[str, str], ...] = ()


def conversation(messages: Sequence[Message] | str) -> list[Message]:
    """A conversation as a list of messages; a bare string is one question of the user's."""
    return [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)


class Chat:
    """A loaded model. Every call is a conversation of its own: nothing is remembered from one to the next."""

    def __init__(self, model: Any, model_id: str) -> None:
        self._model, self.model_id = model, model_id

    def complete(self, messages: Sequence[Message] | str, **options: Any) -> Answer:
        """Answer the conversation in one piece. Options as for `stream`; raises `RuntimeFault`."""
        with faults(self.model_id), ExitStack() as stack:
            session, request = self._open(stack, messages, options)
            begin = time.perf_counter()
            response = stack.enter_context(session.process_request(request))
            seconds = time.perf_counter() - begin
            # A reply is a message of parts; iterating the response alone yields no text.
            every = [part for item in response for part in _parts(item)]
            parts = [part for part in every if hasattr(part, "text")]
            text = "".join(part.text for part in parts if not _is_thought(part))
            thought = "".join(part.text for part in parts if _is_thought(part))
            calls = tuple((part.name, part.arguments) for part in every if hasattr(part, "arguments"))
            return replace(_answer(response, text, seconds, thought), calls=calls)

    def stream(self, messages: Sequence[Message] | str, **options: Any) -> Stream:
        """Answer in pieces, as they come; leaving the loop early cancels the rest. Raises `RuntimeFault`.

        Options: `max_tokens` (of the answer), `temperature` (default 0: greedy, whatever the model's settings
        say), `top_p`, `top_k`, `seed`. What is left out is as the model's `genai_config.json` has it, its
        repetition penalty included. `schema`: a JSON schema as text, which decoding is held to; `tools`: functions
        as in the OpenAI API, which the model may call (`complete` alone).
        """
        return Stream(self, messages, options)

    def prompt_tokens(self, messages: Sequence[Message] | str) -> int:
        """How many tokens the conversation is, rendered with the model's template; nothing is generated."""
        with faults(self.model_id), ExitStack() as stack:
            session, request = self._open(stack, messages, {"max_tokens": 1})
            return int(session.preflight_request(request).prompt_tokens)

    def _open(self, stack: ExitStack, messages: Sequence[Message] | str, options: Mapping[str, Any]) -> Any:
        """A fresh session and a request with the whole conversation: a session used twice would remember."""
        import foundry_local_sdk as sdk

        schema, tools = options.get("schema"), options.get("tools") or ()
        others = {name: value for name, value in options.items() if name not in ("schema", "tools")}
        turns, search = list(_checked(self.model_id, messages)), _search(sdk, self.model_id, others)
        session = stack.enter_context(sdk.ChatSession(self._model))
        for tool in (tool["function"] for tool in tools):
            parameters = json.dumps(tool.get("parameters") or {"type": "object"})
            session.add_tool_definition(tool["name"], tool.get("description") or "", parameters)
        request = stack.enter_context(sdk.Request())
        for role, text in turns:
            request.add_item(sdk.MessageItem(sdk.MessageRole[role.upper()], text))
        guidance = {"guidance_type": "json_schema", "guidance_data": schema} if schema is not None else {}
        request.set_options(sdk.RequestOptions(search=search, additional_options=guidance))
        return session, request


class Stream:
    """Pieces of an answer, one token or a few each; after the last, `answer` is the whole. A new loop asks anew."""

    def __init__(self, chat: Chat, messages: Sequence[Message] | str, options: Mapping[str, Any]) -> None:
        self.answer: Answer | None = None
        self._request = (chat, messages, options)

    def __iter__(self) -> Generator[str, None, None]:
        # Not kept in `self`: whoever leaves the loop drops the generator, and with it, at once, the session. In a
        # cycle the session would live until the next garbage collection, and its model could not be unloaded.
        chat, messages, options = self._request
        with faults(chat.model_id), ExitStack() as stack:
            session, request = chat._open(stack, messages, options)
            session.set_streaming(True)
            begin = time.perf_counter()
            pieces = []
            stream = stack.enter_context(session.process_streaming_request(request))
            for item in stream:
                for part in _parts(item):
                    if (text := getattr(part, "text", "")) and not _is_thought(part):
                        pieces.append(text)
                        yield text
            seconds = time.perf_counter() - begin
            with stream.final_response as final:
                self.answer = _answer(final, "".join(pieces), seconds)


def _checked(model_id: str, messages: Any) -> Iterator[tuple[str, str]]:
    """Role and text of every message, each of them something that reaches the model as it is."""
    if isinstance(messages, bytes) or not isinstance(messages, Sequence):
        raise RuntimeFault(model_id, f"is asked with {_kind(messages)}", "Give a text, or a list of messages")
    for number, message in enumerate(conversation(messages), 1):
        where = f"message {number}"
        if not isinstance(message, Mapping):
            raise RuntimeFault(model_id, f"{where} is {_kind(message)}", "Give an object with role and content")
        for key in ("role", "content"):
            if not isinstance(message.get(key), str):
                found = f"has {_kind(message[key])} as {key}" if key in message else f"has no {key}"
                raise RuntimeFault(model_id, f"{where} {found}", "role and content are text")
        role, text = message["role"].lower(), message["content"]
        if role not in ROLES:
            raise RuntimeFault(
                model_id, f"unknown role {message['role']!r} in {where}", f"Use one of {', '.join(ROLES)}"
            )
        if (place := text.find("\0")) >= 0:
            found = f"{where} holds a NUL at character {place + 1}, where the runtime would cut it off"
            raise RuntimeFault(model_id, found, "Take it out")
        if lone := _SURROGATE.search(text):
            found = f"{where} holds half a surrogate pair (U+{ord(lone[0]):04X}) at character {lone.start() + 1}"
            raise RuntimeFault(model_id, found, "Read the text as what it is encoded in")
        yield role, text


def _search(sdk: Any, model_id: str, options: Mapping[str, Any]) -> Any:
    """The SDK's options, of the right types; which values make sense is for the runtime to say."""
    given: dict[str, Any] = {"temperature": 0.0, **options}
    for name, value in given.items():
        if name not in ("max_tokens", "temperature", "top_p", "top_k", "seed"):
            known = "max_tokens, temperature, top_p, top_k and seed"
            raise RuntimeFault(model_id, f"does not know the option {name!r}", f"There are {known}")
        if value is None:
            continue
        whole = name not in ("temperature", "top_p")
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            raise RuntimeFault(model_id, f"{name} is {_kind(value)}, not a {'whole ' if whole else ''}number")
        if value != value:
            raise RuntimeFault(model_id, f"{name} is NaN, which is not a number")
        if abs(value) > _INT32:
            raise RuntimeFault(model_id, f"{name} is {value}, beyond what the runtime can read", f"At most {_INT32}")
    given["max_output_tokens"] = given.pop("max_tokens", None)
    return sdk.SearchOptions(**given)


def _kind(value: object) -> str:
    return "nothing" if value is None else f"a value of type {type(value).__name__}"


def _answer(response: Any, text: str, seconds: float, thought: str = "") -> Answer:
    usage = response.get_usage()
    finish = response.finish_reason.name.lower()
    return Answer(text, finish, usage.prompt_tokens, usage.completion_tokens, seconds, thought)


def _is_thought(part: Any) -> bool:
    return getattr(getattr(part, "type", None), "name", "") == "REASONING"


def _parts(item: Any) -> list[Any]:
    return list(getattr(item, "parts", [item]))


@contextmanager
def faults(subject: object) -> Iterator[None]:
    """Make a `RuntimeFault` of what the SDK raises, which is several kinds of exception."""
    try:
        yield
    except IngotError:
        raise
    except (RuntimeError, ValueError, TypeError, OSError) as error:
        raise _fault(subject, error) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "foundry_local_sdk":
            raise
        raise _fault(subject, error) from error


def plain(text: str) -> str:
    """The runtime's words on one line, without the place in its source that they come from."""
    return _SOURCE.sub("", " ".join(text.split()), count=1)


def _fault(subject: object, error: BaseException) -> RuntimeFault:
    words = plain(str(error)) or type(error).__name__
    return RuntimeFault(subject, words, _NO_LOCK if "FileLock: failed to open" in words else "")

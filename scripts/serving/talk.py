"""`doit chat`: a conversation at a terminal, or one question of a script.

At a terminal: an answer comes as it is made, what was said is remembered, Ctrl-C stops an answer and Ctrl-D ends. Of a
script (`-m TEXT`, or text on standard input): the answer alone goes to standard output, all else to standard error.
"""

from __future__ import annotations

import contextlib
import difflib
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from scripts.common import json_files
from scripts.common.errors import IngotError
from scripts.common.visible import visible
from scripts.foundry.cache import SETTINGS
from scripts.runtime.foundry import Runtime
from scripts.serving import saving
from scripts.serving.conversation import Conversation
from scripts.serving.place import Model, Place

HELP = """/system TEXT        say how the model should behave, from the next answer on; without text: what holds
/reset              forget what was said; the system prompt stays
/save case [TEXT]   keep the last question as a case: TEXT must be in the answer (or a JSON object: fields that it
                    must have)
/help               this
/quit               end, as Ctrl-D does
Ctrl-C stops an answer. A message that begins with / is typed with //."""
COMMANDS = ("/system", "/reset", "/save", "/help", "/quit")


@contextmanager
def opened(model: Model, place: Place, system: str, limit: int | None, greedy: bool) -> Iterator[Conversation]:
    """A conversation with a model of the cache, loaded in the real runtime. Raises `IngotError`."""
    try:
        context = int(json_files.read(model.folder / SETTINGS)["model"]["context_length"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IngotError(model.folder / SETTINGS, f"tells no context length ({error})", "Deploy it again") from None
    with Runtime(place.cache) as runtime:
        yield Conversation(runtime.load(model.id), context, limit, greedy, system)


def ask_once(conversation: Conversation, text: str) -> None:
    """Print the answer to one question; a note goes to standard error where it was cut off."""
    last = ""
    for piece in conversation.ask(text):
        last = piece
        _write(sys.stdout, piece)
    if not last.endswith("\n"):
        _write(sys.stdout, "\n")
    if conversation.ended == "length":
        print(f"cut off after {conversation.tokens} tokens", file=sys.stderr)


def question(message: str | None) -> str:
    """What a script asks: the option's text, else all of standard input. Raises `IngotError` where there is none."""
    if message is None:
        try:
            message = sys.stdin.buffer.read().decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise IngotError("standard input", f"is not UTF-8 ({error.reason})", "Convert it") from None
    if not message.strip():
        raise IngotError("doit chat", "nothing is asked", 'Give -m "…", text on standard input, or a terminal')
    return message


def talk(conversation: Conversation, model: Model, place: Place) -> None:
    """Talk until Ctrl-D or /quit."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - lets a line be edited, and brings back earlier ones
    print(f"{model.id}, with room for {conversation.context} tokens. /help tells what there is, Ctrl-D ends.")
    while True:
        try:
            if not _turn(conversation, model, place):
                return
        except KeyboardInterrupt:  # of whoever waits for the prompt's answer; one to be stopped is `_answer`'s
            print("\n(Ctrl-D ends)")
        except IngotError as error:
            print(f"error: {error}", file=sys.stderr)


def _turn(conversation: Conversation, model: Model, place: Place) -> bool:
    """Read a line and do what it asks; False where it ends the conversation."""
    try:
        line = input("> ").strip()
    except EOFError:
        print()
        return False
    if line == "/quit":
        return False
    if line.startswith("/") and not line.startswith("//"):
        print(_obey(line, conversation, model, place))
    elif line:
        _answer(conversation, line[1:] if line.startswith("//") else line)
    return True


def _answer(conversation: Conversation, line: str) -> None:
    pieces = conversation.ask(line)
    try:
        for piece in pieces:
            _write(sys.stdout, piece)
    except KeyboardInterrupt:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one would come while it is being ended
        pieces.close()  # type: ignore[attr-defined]
        signal.signal(signal.SIGINT, before)
        _write(sys.stdout, " (stopped)")
    _write(sys.stdout, "\n")
    if conversation.ended == "length":
        print(f"(cut off after {conversation.tokens} tokens)")


def _obey(line: str, conversation: Conversation, model: Model, place: Place) -> str:
    """Do what a line that begins with / says; what to print."""
    word, _, rest = line.partition(" ")
    rest = rest.strip()
    if word == "/help":
        return HELP
    if word == "/reset":
        conversation.reset()
        return "(forgotten)"
    if word == "/system":
        if rest:
            conversation.system = rest
        return f"system: {conversation.system}" if conversation.system else "(no system prompt)"
    if word == "/save":
        what, _, expected = rest.partition(" ")
        if what != "case":
            return "what is to be saved? /save case"
        return _save(conversation, model, place, expected.strip())
    near = difflib.get_close_matches(word, COMMANDS, n=1)
    return f"there is no {word}." + (f" Did you mean {near[0]}?" if near else "") + " /help tells what there is"


def _save(conversation: Conversation, model: Model, place: Place, expected: str) -> str:
    if not conversation.turns or model.model is None:
        return "nothing was said yet" if model.model else f"{model.id} is not a model of this configuration"
    known = place.cases.get(model.model)
    path = Path(known) if known else place.asked.config / "eval" / model.model / "cases.jsonl"
    if not expected:
        try:
            print("What must be in the answer? (Enter: exactly this answer; a JSON object: fields that it must have)")
            expected = input("expected> ").strip()
        except (EOFError, KeyboardInterrupt):
            return "\n(not saved)"
    row = saving.case(conversation.messages, expected, conversation.tokens)
    saving.append(path, row)
    said = f"saved as {row['id']} in {path}"
    if known:
        return said
    name = path.relative_to(place.asked.config).as_posix()
    return f'{said}\nmodels.toml does not name it yet: evaluation = {{ cases = "{name}" }}'


def _write(stream: TextIO, text: str) -> None:
    stream.write(visible(text) if stream.isatty() else text)
    stream.flush()

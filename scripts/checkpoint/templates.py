"""Chat templates: which one a checkpoint speaks. One given in models.toml, else the adapter's own, else the base's.

Transformers keeps them in up to four places, the later of which win: `chat_template` in tokenizer_config.json, a text
or a list of named ones; chat_template.json; chat_template.jinja; named ones as additional_chat_templates/NAME.jinja.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from scripts.checkpoint.contained import refuse_link_out
from scripts.checkpoint.user_json import json_object
from scripts.common.errors import IngotError
from scripts.common.model_files import TEMPLATES
from scripts.results.remarks import Remark

FILE, FOLDER = "chat_template.jinja", TEMPLATES
CONFIG, OLDER = "tokenizer_config.json", "chat_template.json"
DEFAULT = "default"
#: Bytes of a template that are read; the longest that is known (with tools, in three languages) has 20,000 characters.
_LARGEST = 1 << 18
TOML = 'template = "FILE.jinja" in models.toml'
_SHORTER = f"Give a shorter one: {TOML}"


@dataclass(frozen=True)
class Choice:
    """The template to use; `kept` says that it is what the tokenizer's own files say, so that they can stay."""

    text: str
    kept: bool
    remarks: tuple[Remark, ...] = ()


def choose(base: Path, adapters: Sequence[Path], wanted: str | None, *, files: Path, label: Path) -> Choice:
    """The chat template of a checkpoint made of `base` and `adapters`, by name or file if one is `wanted`.

    `files` is the folder whose tokenizer files are used, `label` what to call the base. Raises `IngotError` where there
    is none, or no saying which.
    """
    if wanted is not None and Path(wanted).is_file():
        refuse_link_out(Path(wanted), Path(wanted).parent.resolve())
        text = _read(Path(wanted))
        return Choice(text, False, (Remark(Path(wanted).name, "the chat template, as models.toml says"),))
    own = {adapter: found for adapter in adapters if (found := read(adapter))}
    bases = read(base)
    if wanted is not None:
        text, holder = _named(wanted, [*own.items(), (base, bases)])
        chosen = Remark("chat template", f"the one named {wanted!r} is used, as models.toml says")
        return Choice(text, wanted == DEFAULT and holder == files, (chosen,))
    if len({_default(place, found) for place, found in own.items()}) > 1:
        names = " and ".join(sorted(place.name for place in own))
        raise IngotError(label, f"adapters {names} bring different chat templates", f"Choose one: {TOML}")
    holder, found = next(iter(own.items()), (base, bases))
    text = _default(holder if own else label, found)
    remarks = []
    if DEFAULT not in found:
        remarks.append(Remark("chat template", f"the one there is called {next(iter(found))!r}, and is used"))
    if own and bases.get(DEFAULT) != text:
        what = "whose own differs" if bases else "which has none"
        said = f"that of the adapter {holder.name} is used, not the base model's, {what}"
        remarks.append(Remark("chat template", said))
    return Choice(text, DEFAULT in found and holder == files, tuple(remarks))


def own(folder: Path) -> str | None:
    """The chat template in a folder that is used where nobody chooses; None where there is none, or no saying which."""
    found = read(folder)
    return found.get(DEFAULT) or (next(iter(found.values())) if len(found) == 1 else None)


def _named(wanted: str, places: Sequence[tuple[Path, dict[str, str]]]) -> tuple[str, Path]:
    """The first template of a name, and the folder that holds it."""
    for place, found in places:
        if wanted in found:
            return found[wanted], place
    names = sorted({name for _, found in places for name in found})
    there = f"those there are called {', '.join(names)}" if names else "there is none at all"
    what = f"neither a file nor a chat template's name: {there}"
    raise IngotError(f"template {wanted!r}", what, "Correct it in models.toml")


def _default(folder: Path, templates: dict[str, str]) -> str:
    if DEFAULT in templates or len(templates) == 1:
        return templates.get(DEFAULT) or next(iter(templates.values()))
    if not templates:
        refuse_none(folder)
    names = ", ".join(sorted(templates))
    raise IngotError(folder, f"has chat templates named {names}, and none is the default", 'Choose: template = "NAME"')


def refuse_none(label: Path) -> NoReturn:
    """Raise the `IngotError` of a model without a chat template."""
    found = "has no chat template, and Foundry's first chat with the model would fail"
    raise IngotError(label, found, f"Give it the one that it was trained with: {TOML}")


def check_syntax(subject: Path, text: str) -> None:
    """Raise `IngotError` unless a chat template is Jinja, with what transformers adds to it; nothing is rendered."""
    from jinja2 import Environment, TemplateSyntaxError, nodes
    from jinja2.ext import Extension, loopcontrols

    class Generation(Extension):
        """`{% generation %}`, by which training knows what an answer is."""

        tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

        def parse(self, parser: Any) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    try:
        Environment(extensions=[Generation, loopcontrols]).parse(text)
    except TemplateSyntaxError as error:
        found = f"its chat template is not Jinja: line {error.lineno}: {error.message}"
        raise IngotError(subject, found, f"Correct it, or give another: {TOML}") from None
    except RecursionError:
        raise IngotError(subject, "its chat template is nested too deeply", f"Give another: {TOML}") from None


def check(path: Path) -> None:
    """Raise `IngotError` unless a file holds a chat template."""
    text = _read(path)
    if not text.strip():
        raise IngotError(path, "is empty", f"Give the template that the model was trained with: {TOML}")
    check_syntax(path, text)


def read(folder: Path) -> dict[str, str]:
    """The chat templates in a folder by name; empty ones count as none."""
    found: dict[str, str] = {}
    for name in (CONFIG, OLDER):
        if (folder / name).is_file():
            found |= _parse(
                folder / name, json_object(folder / name, "Copy it from the base model").get("chat_template")
            )
    if (folder / FILE).is_file():
        found[DEFAULT] = _read(folder / FILE)
    found |= {path.stem: _read(path) for path in sorted((folder / FOLDER).glob("*.jinja"))}
    if large := [name for name, text in found.items() if len(text) > _LARGEST]:
        raise IngotError(folder, f"a chat template ({large[0][:40]!r}) of {len(found[large[0]])} characters", _SHORTER)
    return {name: text for name, text in found.items() if text.strip()}


def _parse(path: Path, value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if isinstance(value, str):
        return {DEFAULT: value}
    pairs: list[tuple[Any, Any]] = []
    if isinstance(value, list):
        pairs = [(entry.get("name"), entry.get("template")) for entry in value if isinstance(entry, dict)]
    elif isinstance(value, dict):
        pairs = list(value.items())
    found = {name: text for name, text in pairs if isinstance(name, str) and isinstance(text, str)}
    if not found or len(found) != len(pairs):
        raise IngotError(path, "chat_template is neither a text nor a list of names and templates", f"Give one: {TOML}")
    return found


def _read(path: Path) -> str:
    if path.stat().st_size > _LARGEST:
        raise IngotError(path, f"a chat template of {path.stat().st_size} bytes", _SHORTER)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise IngotError(path, f"is not UTF-8: {error.reason} at byte {error.start}", "Save it as UTF-8") from None

"""Under which licence weights came, as far as they say so, and what that asks of whoever passes on what is made of it.

A licence is read and told, not judged: whether it allows what one does is for a person to find out. What is not stated
is told as such.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.checkpoint import headers
from scripts.common.errors import IngotError
from scripts.common.model_files import CARD, files_in, is_legal_file
from scripts.common.user_files import read_beginning
from scripts.common.visible import short
from scripts.results.remarks import Remark

UNKNOWN = "unknown"
_SUBJECT = "licence"
#: A licence's name, and its own where it is "other", in a GGUF file; characters of one that are told.
_OF_GGUF, _LONGEST = ("general.license", "general.license.name"), 100
_FRONT = re.compile(r"---\r?\n(.*?)\r?\n---", re.DOTALL)
#: Characters in which a licence's title stands; bytes of a card's metadata, for YAML is parsed at 200 KB a second.
_HEAD, _METADATA = 2000, 1 << 17
#: How licences' texts begin → the names by which model hubs know them, {} being what a group found; the first in the
#: text counts, and of several there the first of these.
_TITLES = (
    (r"GNU AFFERO GENERAL PUBLIC LICENSE", "agpl-3.0"),
    (r"GNU (?:LESSER|LIBRARY) GENERAL PUBLIC LICENSE Version (\d\.\d)", "lgpl-{}"),
    (r"GNU (?:LESSER|LIBRARY) GENERAL PUBLIC LICENSE Version (\d)", "lgpl-{}.0"),
    (r"GNU (?:LESSER|LIBRARY) GENERAL PUBLIC LICENSE", "lgpl"),
    (r"GNU GENERAL PUBLIC LICENSE Version (\d)", "gpl-{}.0"),
    (r"GNU GENERAL PUBLIC LICENSE", "gpl"),
    (r"GNU Free Documentation License", "gfdl"),
    (r"Mozilla Public License,? Version (\d\.\d)", "mpl-{}"),
    (r"Artistic License\W+(\d\.\d)", "artistic-{}"),
    (r"Artistic License", "artistic-1.0"),
    (r"(?:Llama [\d.]+ is licensed under the )?LLAMA (\d(?:\.\d)?) COMMUNITY LICENSE", "llama{}"),
    (r"(?:Gemma is provided under and subject to the )?Gemma Terms of Use", "gemma"),
    (r"Attribution-NonCommercial-NoDerivatives\s*(\d\.\d)?", "cc-by-nc-nd-{}"),
    (r"Attribution-NonCommercial-ShareAlike\s*(\d\.\d)?", "cc-by-nc-sa-{}"),
    (r"Attribution-NonCommercial\s*(\d\.\d)?", "cc-by-nc-{}"),
    (r"Attribution-NoDerivatives\s*(\d\.\d)?", "cc-by-nd-{}"),
    (r"Attribution-ShareAlike\s*(\d\.\d)?", "cc-by-sa-{}"),
    (r"Attribution (\d\.\d)", "cc-by-{}"),
    (r"CC0 (\d\.\d)", "cc0-{}"),
    (r"Open\s?RAIL", "openrail"),
    (r"Mistral AI Research License|Mistral AI Non-Production License", "mrl"),
    (r"Qwen RESEARCH LICENSE", "qwen-research"),
    (r"(?:Licensed under the )?Apache (?:Software )?License,? (?:Version )?2\.0", "apache-2.0"),
    (r"MIT License|Permission is hereby granted, free of charge", "mit"),
    (r"Redistribution and use in source and binary forms(?s:.)*?(?:Neither the name|The names? of)", "bsd-3-clause"),
    (r"Redistribution and use in source and binary forms", "bsd-2-clause"),
)
#: A title begins a line, after a few names at most ("The", "Meta", "CreativeML"); a sentence that names one does not,
#: but for those that Apache's, Gemma's and Llama's want written into files. A space may be the end of a line.
_TITLE = r"^[^\w\n]*(?:[A-Z]\w*[^\w\n]+){{0,3}}(?i:{})"
_NAMED = r"(^|[-_. ])"
#: Names of licences, as regular expressions → what they ask for or forbid. All that fit are told.
_ASKS = (
    (rf"{_NAMED}(by-)?nc({_NAMED}|\d|$)|non-?commercial|research|{_NAMED}mrl|{_NAMED}mnpl|non-?production",
     "does not allow commercial use"),
    (rf"{_NAMED}nd({_NAMED}|\d|$)",
     "does not allow changed versions to be passed on, and what is fine-tuned, converted or quantised is one"),
    (rf"{_NAMED}sa({_NAMED}|\d|$)",
     "asks that what is made of it is passed on under the same licence, with its author named"),
    (r"^((a|l)?gpl|gfdl)",
     "is a copyleft licence: what is made of it is passed on under the same one, with its sources"),
    (r"^mpl", "asks that changed files are passed on under the same licence, with their sources"),
    (r"^gemma", "restricts uses (Google's Prohibited Use Policy), and these terms must be passed on with what is made "
     "of it"),
    (r"^llama", "restricts uses (Meta's Acceptable Use Policy), must be passed on with what is made of it, and asks to "
     "show “Built with Llama”"),
    (r"rail", "restricts uses, and the same restrictions must be passed on with what is made of it"),
    (r"^(deepseek|falcon|health-ai|apple-a|hunyuan|tencent|exaone|nvidia-open-model|grok|yi-license|tongyi|qwen$)",
     "has terms of use of its own: read them before you pass this on"),
    (r"^other$", "is one of its own: read its text before you pass this on"),
)  # fmt: skip


@dataclass(frozen=True)
class Stated:
    """Licences, all of them at once, and where they are stated."""

    names: tuple[str, ...]
    where: str

    @property
    def name(self) -> str:
        """All of them."""
        return ", ".join(self.names)


def stated(folder: Path) -> Stated | None:
    """What a folder of weights, or of an adapter, says of its licence: in its model card, or by the licence's text.

    Of a GGUF file, what its metadata say.
    """
    if not folder.is_dir():
        return _by_metadata(folder)
    return _by_card(folder / CARD) or stated_by_text(folder)


def _by_card(path: Path) -> Stated | None:
    try:
        head = _FRONT.match(read_beginning(path, _METADATA)[0]) if path.is_file() else None
    except IngotError:  # not text: nothing is stated there
        return None
    said = _metadata(head[1]) if head else {}
    return _stated(said.get("license", []), said.get("license_name", []), "the model card")


def _metadata(text: str) -> dict[str, list[str]]:
    """The texts of a YAML mapping by their keys, those in lists too; nothing where it is none.

    Nothing is made of its tags, aliases and merges: they can be made to take any memory. The parser in C overflows its
    stack where lists stand in each other (PyYAML 6.0.3).
    """
    import yaml  # type: ignore[import-untyped]

    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError):
        return {}
    found: dict[str, list[str]] = {}
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if isinstance(key, yaml.ScalarNode):
            parts = value.value if isinstance(value, yaml.SequenceNode) else [value]
            found.setdefault(key.value, []).extend(filter(None, map(_text, parts)))
    return found


def _text(node: Any) -> str:
    """Of a YAML node that is a text; "" of any other, such as null."""
    return str(node.value) if node.tag == "tag:yaml.org,2002:str" else ""


def _by_metadata(path: Path) -> Stated | None:
    if path.suffix.lower() != ".gguf":
        return None
    known = headers.read_gguf(path).metadata
    said, own = ([known[key]] if isinstance(known.get(key), str) else [] for key in _OF_GGUF)
    return _stated(said, own, "the metadata of the GGUF file")


def _stated(licences: Sequence[str], own: Sequence[str], where: str) -> Stated | None:
    """`licences` as a card names them; for "other" its `own` name, where it has one. "unknown" states nothing."""
    named = [name for licence in licences for name in (licence.strip().lower() == "other" and own) or [licence]]
    names = dict.fromkeys(short(name.strip().lower(), _LONGEST) for name in named)
    known = tuple(name for name in names if name not in ("", UNKNOWN))
    return Stated(known, where) if known else None


def stated_by_text(folder: Path) -> Stated | None:
    """What the licence files in a folder are, by their text."""
    for path in files_in(folder, is_legal_file):
        try:
            text, _ = read_beginning(path, 1 << 16)
        except IngotError:
            continue
        if name := _titled(text[:_HEAD]):
            return Stated((name,), path.name)
    return None


def _titled(head: str) -> str | None:
    """Under which name a licence is known whose text begins so. Texts name other licences further down."""
    found = [
        (match.start(), number, name.format(*(group or "" for group in match.groups())).rstrip("-"))
        for number, (pattern, name) in enumerate(_TITLES)
        if (match := re.search(_TITLE.format(pattern.replace(" ", r"\s+")), head, re.MULTILINE))
    ]
    return min(found)[2] if found else None


def remarks(declared: str, model: str, sources: Sequence[tuple[str, Stated | None]]) -> list[Remark]:
    """What a reader should know of the licences of what a model called `model` was made of.

    `declared`: what models.toml says; `sources`: what each thing is called, and what it says itself.
    """
    said: list[Remark] = []
    known = declared.lower() not in ("", UNKNOWN)
    for what, found in sources:
        if found is None:
            if what == "the weights" and not known:
                text = "the weights do not say under which licence they are: ask whoever made them before you pass " \
                       "this on, and write it into models.toml (license)"  # fmt: skip
                said.append(Remark(_SUBJECT, text))
            continue
        for name in found.names:
            said += [Remark(_SUBJECT, f"{what}: {name} (by {found.where}) {text}") for text in asks(name)]
            if _is_llama_3(name) and not model.lower().startswith("llama"):
                text = f"{what}: {name} asks that the name of what is made of it begins with “Llama”; this is {model}"
                said.append(Remark(_SUBJECT, text))
        if known and not _says(found, declared):
            text = f"models.toml says {declared}, and {found.where} of {what.removeprefix('the ')} {found.name}"
            said.append(Remark(_SUBJECT, text))
    if known and not any(found and _says(found, declared) for _, found in sources):
        said += [Remark(_SUBJECT, f"{declared} (by models.toml) {text}") for text in asks(declared)]
    return list(dict.fromkeys(said))


def asks(name: str) -> list[str]:
    """What a licence of this name is known to ask for or to forbid; nothing of one that is not known."""
    return [text for pattern, text in _ASKS if re.search(pattern, name.strip().lower())]


def _is_llama_3(name: str) -> bool:
    found = re.match(r"llama-?(\d)", name.lower())
    return found is not None and int(found[1]) >= 3


def _says(found: Stated, declared: str) -> bool:
    return _plain(declared) in map(_plain, (*found.names, found.name))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())

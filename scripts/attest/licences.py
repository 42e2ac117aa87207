"""Under which licence weights came, as far as they say so, and what that asks of whoever passes on what is made of it.

A licence is read and told, not judged: whether it allows what one does is for a person to find out. What is not stated
is told as such.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.checkpoint import headers
from scripts.common.errors import IngotError
from scripts.common.model_files import files_in, is_legal_file
from scripts.common.user_files import read_beginning, read_text
from scripts.results.remarks import Remark

UNKNOWN = "unknown"
_SUBJECT = "licence"
_FRONT = re.compile(r"---\r?\n(.*?)\r?\n---", re.DOTALL)
#: How licences' texts begin → the name by which model hubs know them; the first that is found counts.
_TEXTS = (
    (r"GNU AFFERO GENERAL PUBLIC LICENSE", "agpl-3.0"),
    (r"GNU LESSER GENERAL PUBLIC LICENSE", "lgpl"),
    (r"GNU GENERAL PUBLIC LICENSE\s+Version 2", "gpl-2.0"),
    (r"GNU GENERAL PUBLIC LICENSE", "gpl-3.0"),
    (r"LLAMA\s+(\d)[.\s]*(\d)?\s+COMMUNITY LICENSE", "llama"),
    (r"Gemma Terms of Use", "gemma"),
    (r"Attribution-NonCommercial-NoDerivatives", "cc-by-nc-nd-4.0"),
    (r"Attribution-NonCommercial-ShareAlike", "cc-by-nc-sa-4.0"),
    (r"Attribution-NonCommercial", "cc-by-nc-4.0"),
    (r"Attribution-NoDerivatives", "cc-by-nd-4.0"),
    (r"Attribution-ShareAlike", "cc-by-sa-4.0"),
    (r"Creative Commons Attribution 4\.0|Attribution 4\.0 International", "cc-by-4.0"),
    (r"Open\s?RAIL", "openrail"),
    (r"Mistral AI Research License|Mistral AI Non-Production License", "mrl"),
    (r"Qwen RESEARCH LICENSE", "qwen-research"),
    (r"Apache License\s+Version 2\.0", "apache-2.0"),
    (r"MIT License|Permission is hereby granted, free of charge", "mit"),
)
_NAMED = r"(^|[-_. ])"
#: Names of licences, as regular expressions → what they ask for or forbid. All that fit are told.
_ASKS = (
    (rf"{_NAMED}(by-)?nc({_NAMED}|\d|$)|non-?commercial|research|{_NAMED}mrl|{_NAMED}mnpl|non-?production",
     "does not allow commercial use"),
    (rf"{_NAMED}nd({_NAMED}|\d|$)",
     "does not allow changed versions to be passed on, and what is fine-tuned, converted or quantised is one"),
    (rf"{_NAMED}sa({_NAMED}|\d|$)",
     "asks that what is made of it is passed on under the same licence, with its author named"),
    (r"^(a|l)?gpl", "is a copyleft licence: what is made of it is passed on under the same one, with its sources"),
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
    """A licence and where it is stated."""

    name: str
    where: str


def stated(folder: Path) -> Stated | None:
    """What a folder of weights, or of an adapter, says of its licence: in its model card, or by the licence's text.

    Of a GGUF file, what its metadata say.
    """
    if not folder.is_dir():
        return _by_metadata(folder)
    return _by_card(folder / "README.md") or stated_by_text(folder)


def _by_card(path: Path) -> Stated | None:
    try:
        head = _FRONT.match(read_text(path)) if path.is_file() else None
    except IngotError:  # not text: nothing is stated there
        return None
    for key in ("license_name", "license"):
        if head and (found := re.search(rf"^{key}:\s*[\"']?([\w.+ -]+?)[\"']?\s*$", head[1], re.MULTILINE)):
            return Stated(found[1].lower(), "the model card")
    return None


def _by_metadata(path: Path) -> Stated | None:
    said = headers.read_gguf(path).metadata.get("general.license") if path.suffix.lower() == ".gguf" else None
    return Stated(said.lower(), "the metadata of the GGUF file") if isinstance(said, str) and said else None


def stated_by_text(folder: Path) -> Stated | None:
    """What the licence files in a folder are, by their text."""
    for path in files_in(folder, is_legal_file):
        try:
            text, _ = read_beginning(path, 1 << 16)
        except IngotError:
            continue
        for pattern, name in _TEXTS:
            if found := re.search(pattern, text, re.IGNORECASE):
                version = ".".join(filter(None, found.groups()))
                return Stated(name + version, path.name)
    return None


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
        said += [Remark(_SUBJECT, f"{what}: {found.name} (by {found.where}) {text}") for text in asks(found.name)]
        if _is_llama_3(found.name) and not model.lower().startswith("llama"):
            text = f"{what}: {found.name} asks that the name of what is made of it begins with “Llama”; this is {model}"
            said.append(Remark(_SUBJECT, text))
        if known and _plain(found.name) != _plain(declared):
            text = f"models.toml says {declared}, and {found.where} of {what.removeprefix('the ')} {found.name}"
            said.append(Remark(_SUBJECT, text))
    if known and not any(found and _plain(found.name) == _plain(declared) for _, found in sources):
        said += [Remark(_SUBJECT, f"{declared} (by models.toml) {text}") for text in asks(declared)]
    return list(dict.fromkeys(said))


def asks(name: str) -> list[str]:
    """What a licence of this name is known to ask for or to forbid; nothing of one that is not known."""
    return [text for pattern, text in _ASKS if re.search(pattern, name.strip().lower())]


def _is_llama_3(name: str) -> bool:
    found = re.match(r"llama-?(\d)", name.lower())
    return found is not None and int(found[1]) >= 3


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())

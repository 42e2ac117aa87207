"""The text of a models.toml: every value quoted as TOML wants it, paths relative to the file where they can be."""

from __future__ import annotations

import json
import os
import re
import shlex
import unicodedata
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

from scripts.common import model_id
from scripts.common.errors import IngotError
from scripts.settings.names import MODEL_WORDS

#: Folders that say nothing of what is in them: then the one above names the model.
_PLAIN = re.compile(
    r"weights?|model|models|merged|checkpoints?|checkpoint-\d+|adapters?|output|outputs|results?|final|data|snapshots"
    r"|hf|out|base|config|my|[0-9a-f]{40}",
    re.IGNORECASE,
)
_LONGEST = 60
_HEAD = """# Written by doit init, of what was found here. README.md explains each key; paths are relative to this file.

[[model]]
"""


def text_of(keys: Mapping[str, Any], comments: Iterable[str] = ()) -> str:
    """The file: a table of keys, those that are None left out; then comments, a line each."""
    lines = [f"{key} = {value_of(value)}" for key, value in keys.items() if value is not None]
    return _HEAD + "\n".join([*lines, *(f"# {comment}" for comment in comments)]) + "\n"


def value_of(value: Any) -> str:
    """A text, number, list or table as TOML. Raises `IngotError` for a text that no file in UTF-8 can hold."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {value_of(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(value_of, value)) + "]"
    try:
        str(value).encode()
    except UnicodeEncodeError:
        raise IngotError(repr(value), "is a name that is not Unicode, which TOML can't hold", "Rename it") from None
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # all else that TOML asks for, JSON does


def path_of(path: str, start: str, system: ModuleType = os.path) -> str:
    """How a file in folder `start` writes `path`: relative to it, on another drive absolute; with slashes.

    Both are absolute. `system` is `ntpath` or `posixpath`.
    """
    try:
        found = str(system.relpath(path, start))
    except ValueError:  # another drive of Windows
        found = path
    if system.sep == "\\":
        found = found.replace("\\", "/")
    return f"./{found}" if found.startswith("~") else found  # a tilde first means a home folder


def shell_word(text: str) -> str:
    """A text as one word of a command line, of the shell that this system has."""
    return f'"{text}"' if os.name == "nt" and " " in text else text if os.name == "nt" else shlex.quote(text)


def name_of(words: Iterable[str]) -> str:
    """A model's name out of the names of its places, the nearest first: the first that says something."""
    for word in words:
        plain = unicodedata.normalize("NFKD", word).encode("ascii", "ignore").decode()
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-._")[:_LONGEST].strip("-._")
        if not name or _PLAIN.fullmatch(name):
            continue
        taken = name.lower() in MODEL_WORDS or not model_id.is_folder_name(name)
        return f"{name}-model" if taken else name
    return "model"

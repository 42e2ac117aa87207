"""What lies beside a model: cases, schema, texts, a chat template."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from scripts.cases import cases
from scripts.common.errors import IngotError
from scripts.common.user_files import check_text
from scripts.convert import texts as calibration
from scripts.init.places import DEPTH, subfolders

#: Bytes: larger JSON lines are nobody's cases, and to read them takes long.
_LARGEST = 64 << 20
_CASES = re.compile(r".*case.*|eval.*", re.IGNORECASE)
_SCHEMA = re.compile(r".*schema.*\.json", re.IGNORECASE)
_TEXT = re.compile(r".*(text|eval).*\.txt", re.IGNORECASE)


@dataclass
class Beside:
    """Files by the key of models.toml that they are for; what is said of them, and what can't be told."""

    files: dict[str, Path] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def choose(self, key: str, fitting: list[Path], preferred: str = "") -> None:
        """Take the only one, or the one that is called as it is `preferred`; of several say that there are."""
        alike = [path for path in fitting if path.name == preferred]
        if len(fitting) == 1 or len(alike) == 1:
            self.files[key] = (alike or fitting)[0]
        elif fitting:
            self.unknown.append(f"{key}: several fit ({', '.join(path.name for path in fitting[:4])}); name one")


def look(folder: Path) -> Beside:
    """What is in `folder`, and in the folders below, of the files that a model is judged by."""
    found, files = Beside(), list(_files(folder, DEPTH))
    found.choose("schema", [path for path in files if _SCHEMA.fullmatch(path.name) and _ok(cases.load_schema, path)])
    asked, texts = [], []
    for path in files:
        if path.suffix == ".jsonl" and path.stat().st_size <= _LARGEST:
            try:
                (cases.load if "schema" in found.files else cases.load_without_schema)(path)
                asked.append(path)
            except IngotError as error:
                if _ok(calibration.check, path):
                    texts.append(path)
                elif _CASES.fullmatch(path.name):
                    found.unknown.append(f"cases: {error}")
    found.choose("cases", asked, "cases.jsonl")
    found.choose("calibration", texts, "train.jsonl")
    if "cases" not in found.files:
        found.files.pop("schema", None)  # nothing is held against it
    plain = [path for path in files if _TEXT.fullmatch(path.name) and _ok(check_text, path) and path.stat().st_size]
    found.choose("text", plain, "text.txt")
    return found


def templates(folder: Path) -> list[Path]:
    """Chat templates in `folder`, and in the folders below, that belong to no tokenizer."""
    found = (path for path in _files(folder, DEPTH) if path.suffix in (".jinja", ".jinja2", ".j2"))
    return [path for path in found if not (path.parent / "tokenizer_config.json").exists()]


def _files(folder: Path, depth: int) -> Iterator[Path]:
    yield from sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    for below in subfolders(folder) if depth else ():
        yield from _files(below, depth - 1)


def _ok(check: Callable[[Path], object], path: Path) -> bool:
    try:
        check(path)
    except IngotError:
        return False
    return True

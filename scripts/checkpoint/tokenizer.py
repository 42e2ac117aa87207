"""A checkpoint's tokenizer and chat template in transformers, within limits to what they may compute.

A tokenizer splits a text by regular expressions of its own, and a chat template is a program. Transformers renders it
in Jinja's sandbox, which keeps it from the machine and not from endless loops.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from scripts.common.errors import IngotError
from scripts.common.imports import uncollected
from scripts.common.watch import MEMORY, computing

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOKENIZER, _TEMPLATE = "tokenizer.json", "chat template"
_OTHER = "Use the tokenizer that these weights were trained with"
_SIMPLER = 'Give another one: template = "FILE.jinja" in models.toml'
#: Bytes that a tokenizer takes for each byte of its file: 12 were measured, of one with 262,144 tokens.
_OF_EACH = 24


#: What a template may trip over besides its own marks; any of these raised while rendering is a refusal to render.
REFUSALS = (
    TemplateError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, SyntaxError,
)  # fmt: skip
_WORDS = "How much is 1,234.50 € in dollars?\n\tAsk:  Zoë, Юрий, 東京, 🙂… " + "a" * 40 + " " * 40 + "!?" * 20


class Tokenizer:
    """A tokenizer of transformers that is watched while it works; all else of it is as it is there."""

    def __init__(self, tokenizer: Any, label: Path) -> None:
        self._tokenizer, self._label = tokenizer, label

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def use_template(self, text: str | None) -> None:
        """Have it another chat template."""
        self._tokenizer.chat_template = text

    def __len__(self) -> int:
        return len(self._tokenizer)

    def __call__(self, text: Any, **options: Any) -> Any:
        """Tokens of a text, or of several, as transformers gives them."""
        with _encoding(self._label):
            return self._tokenizer(text, **options)

    def encode(self, text: str, **options: Any) -> list[int]:
        """A text's token ids."""
        with _encoding(self._label):
            return list(self._tokenizer.encode(text, **options))

    def apply_chat_template(self, messages: Any, **options: Any) -> Any:
        """A conversation as text; raises whatever the template does."""
        with computing(f"{self._label}: {_TEMPLATE}", "to render a conversation", remedy=_SIMPLER):
            return self._tokenizer.apply_chat_template(messages, **options)


def load(folder: Path, label: Path | None = None) -> Tokenizer:
    """The tokenizer of a checkpoint's folder. Raises `IngotError` where transformers can't load it.

    `label`: what to call the folder in errors.
    """
    with uncollected():
        from transformers import AutoTokenizer

    label = label or folder
    with loading(folder, label):
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        except (IngotError, MemoryError, RecursionError):  # which `computing` tells
            raise
        except Exception as error:  # tokenizers raises no other class for what it can't read
            reason = " ".join(str(error).split())[:200]
            found = f"transformers can't load its tokenizer ({reason})"
            raise IngotError(label, found, "Save them again") from error
    return Tokenizer(tokenizer, label)


def try_out(folder: Path, label: Path) -> None:
    """Load the tokenizer in `folder`, have it make tokens of a text, and render its chat template, once each way.

    What takes too long or too much is told here, before hours of work; what is wrong otherwise, by `package`.
    """
    tokenizer = load(folder, label)
    tokenizer.encode(_WORDS)
    talk = [{"role": role, "content": _WORDS} for role in ("system", "user", "assistant", "user")]
    for messages in (talk[1:2], talk[1:], talk):
        with suppress(*REFUSALS):
            tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def loading(folder: Path, label: Path) -> Any:
    """Watch while a tokenizer is made of the files in `folder`."""
    size = sum(path.stat().st_size for path in _files(folder))
    return computing(label / _TOKENIZER, "to load it", seconds=40, memory=MEMORY + _OF_EACH * size, remedy=_OTHER)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.glob("*") if path.suffix in (".json", ".model", ".txt") and path.is_file())


def _encoding(label: Path) -> Any:
    return computing(label / _TOKENIZER, "to make tokens of a text", seconds=30, remedy=_OTHER)

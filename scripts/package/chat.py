"""The chat template and the tokenizer's settings of a package: the checkpoint's, in words that the runtime knows.

The runtime looks for the template in tokenizer_config.json first, transformers in chat_template.jinja: both get it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.common import json_files
from scripts.common.errors import IngotError
from scripts.common.model_files import AS_WRITTEN
from scripts.package import rewrite, tokens
from scripts.package.tokens import Agreement, RenderedOtherwise
from scripts.results.remarks import Remark

_SUBJECT = "chat template"
#: Transformers 5's own name of the class `AS_WRITTEN`; runtimes with onnxruntime-genai before 0.14 do not know it.
_RENAMED = "TokenizersBackend"


def template_of(tokenizer: Any, checkpoint: Path) -> str:
    """The template for chats without tools, as the runtime must get it; `IngotError` where the checkpoint has none."""
    try:
        text = str(tokenizer.get_chat_template())
    except ValueError:
        text = ""
    if not text.strip():
        raise IngotError(
            checkpoint,
            "has no chat template, and Foundry's first chat with the model would fail",
            "Give it one: chat_template.jinja, or chat_template in tokenizer_config.json",
        )
    # Jinja drops one newline at the very end of a template, the runtime's Jinja renders it: one token too many.
    return text.removesuffix("\n").removesuffix("\r")


def write(onnx: Path, checkpoint: Path, template: str, tokenizer: Any, output: Path) -> tuple[Agreement, list[Remark]]:
    """Write tokenizer_config.json and chat_template.jinja so that the runtime agrees with `tokenizer`.

    Where it does not render `template` as transformers does, the template is rewritten. Raises `IngotError` that names
    what there are no other words for, or what the two differ in.
    """
    _write(onnx, checkpoint, template, output)
    plain, why = _compared(onnx, tokenizer, output)
    if plain and not plain.with_tools:
        return plain, _remarks(plain)
    other = rewrite.rewritten(template, tokenizer.special_tokens_map)
    if other.text and tokens.render_alike(tokenizer, template, other.text):
        _write(onnx, checkpoint, other.text, output)
        found, still = _compared(onnx, tokenizer, output)
        if found and (plain is None or len(found.with_tools) < len(plain.with_tools)):
            done = f"rewritten for the runtime, of the same meaning: {', '.join(other.done)}"
            return found, [Remark(_SUBJECT, done), *_remarks(found, other.lacking)]
        why = still or why
        _write(onnx, checkpoint, template, output)
    if plain:
        return plain, _remarks(plain, other.lacking)
    assert why is not None  # one of the two is there
    if not other.lacking:
        raise why
    what = f"the runtime's Jinja has no words for {', '.join(other.lacking)} of it ({why.found})"
    remedy = 'Say it in plainer words, in a file that `template = "FILE.jinja"` in models.toml names'
    raise RenderedOtherwise(f"{onnx}: {_SUBJECT}", what, remedy) from why


def _compared(onnx: Path, tokenizer: Any, output: Path) -> tuple[Agreement | None, RenderedOtherwise | None]:
    try:
        return tokens.compare(output, tokenizer, label=onnx), None
    except RenderedOtherwise as error:
        return None, error


def _remarks(found: Agreement, lacking: tuple[str, ...] = ()) -> list[Remark]:
    said = []
    for name, what in found.different.items():
        text = f"a conversation with {name} gets other token ids in the runtime than in transformers: {what}"
        said.append(Remark("tokenizer.json", text))
    for name, what in found.rendered.items():
        said.append(Remark(_SUBJECT, f"a conversation with {name} is rendered otherwise in the runtime: {what}"))
    if found.with_tools:
        what = f"of the same ids in the runtime without tools; with tools not ({next(iter(found.with_tools.values()))})"
        if lacking:
            what += f": its Jinja has no words for {', '.join(lacking)}"
        said.append(Remark(_SUBJECT, what))
    return said


def _write(onnx: Path, checkpoint: Path, template: str, output: Path) -> None:
    source = next(path for folder in (onnx, checkpoint) if (path := folder / "tokenizer_config.json").is_file())
    try:
        config = json_files.read(source)
    except ValueError as error:
        raise IngotError(source, f"not JSON ({error.__cause__})", "Run the conversion again") from None
    if config.get("tokenizer_class") == _RENAMED:
        config["tokenizer_class"] = AS_WRITTEN
    json_files.write(output / "tokenizer_config.json", {**config, "chat_template": template})
    (output / "chat_template.jinja").write_text(template, encoding="utf-8", newline="\n")

"""The tokenizer and chat template of a checkpoint: from the adapter that was trained with its own, else from the base.

The files are taken as they are where they can be. They are written anew where a byte order mark would stop
transformers, where another template is chosen, where tokens without a row in the embedding are left out, and where
there is no tokenizer.json, which the runtime needs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.checkpoint import pieces, templates, vocabulary
from scripts.checkpoint.tokenizer import loading
from scripts.checkpoint.user_json import has_bom, json_object
from scripts.common import json_files
from scripts.common.errors import IngotError
from scripts.common.model_files import SENTENCEPIECE, files_in, holds_tokenizer, is_tokenizer_file
from scripts.results.remarks import Remark

_CONFIG = "tokenizer_config.json"
_COPY = "Copy the tokenizer files of the base model there"


@dataclass
class Speech:
    """`files` to take as they are, and texts by the name of the file to write them to."""

    files: dict[str, Path]
    written: dict[str, str] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)


def choose(
    base: Path, adapters: Sequence[Path], template: str | None, rows: int | None, scratch: Path, label: Path,
    *, needs_template: bool = True,
) -> Speech:  # fmt: skip
    """Decide on tokenizer and template. `label` is what to call `base` in errors; `scratch` an empty folder's path."""
    own = [adapter for adapter in adapters if holds_tokenizer(adapter)]
    folder = own[0] if own else base
    remarks = _compare(base, own)
    if needs_template or templates.own(folder) is not None:
        choice = templates.choose(base, adapters, template, files=folder, label=label)
    else:
        choice = templates.Choice("", kept=True)
    templates.check_syntax(label, choice.text)
    files = {path.name: path for path in files_in(folder, is_tokenizer_file)}
    if not (folder / "tokenizer.json").is_file():
        alike = _convert(folder, scratch)
        remarks.append(Remark("tokenizer.json", "made of the other tokenizer files there"))
    else:
        alike = pieces.of_file(folder)
    if alike:
        choice = _rewrite(alike, folder, scratch, choice)
        remarks += alike.remarks
    if scratch.is_dir():
        folder = scratch
        files |= {path.name: path for path in files_in(folder, is_tokenizer_file) if path.suffix != ".model"}
    speech = Speech(files, remarks=remarks)
    spare = vocabulary.beyond(folder, rows, choice.text) if rows else []
    if spare:
        speech.remarks.append(Remark("tokenizer.json", f"left out, having no row in the embedding: {', '.join(spare)}"))
    _write(speech, spare, choice)
    for name in [name for name, path in speech.files.items() if path.parent == scratch]:  # which is soon gone
        speech.written[name] = speech.files.pop(name).read_text(encoding="utf-8")
    speech.remarks += choice.remarks
    return speech


def _write(speech: Speech, spare: list[str], choice: templates.Choice) -> None:
    """Replace the files that can't be taken as they are."""
    if not choice.kept:
        speech.files.pop(templates.FILE, None)
        speech.files.pop(templates.OLDER, None)
        speech.written[templates.FILE] = choice.text
    for name, path in list(speech.files.items()):
        marked = has_bom(path)
        strip = name == _CONFIG and not choice.kept and "chat_template" in json_object(path, _COPY)
        if not (marked or strip or (spare and path.suffix == ".json")):
            continue
        del speech.files[name]
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".json" and (strip or spare):
            value: Any = vocabulary.without(json.loads(text), spare)
            if strip:
                value.pop("chat_template", None)
            text = json.dumps(value, ensure_ascii=False, indent=2) + "\n"
        speech.written[name] = text
        if marked:
            speech.remarks.append(Remark(name, "its byte order mark is left out, which transformers can't read"))


def _compare(base: Path, own: Sequence[Path]) -> list[Remark]:
    """What an adapter's tokenizer changes beside the base's; `IngotError` where two adapters bring different ones."""
    if not own:
        return []
    tokens = [vocabulary.read_tokens(folder) for folder in own]
    for folder, other in zip(own, tokens, strict=True):
        if other != tokens[0]:
            names = f"{own[0].name} and {folder.name}"
            raise IngotError(folder, f"adapters {names} bring different tokenizers", "Merge adapters that share one")
    subject, remarks = f"adapter {own[0].name}", []
    before = vocabulary.read_tokens(base)
    known = {*before.vocabulary.values(), *before.added.values()}
    if new := [token for token in (*tokens[0].vocabulary.values(), *tokens[0].added.values()) if token not in known]:
        listed = ", ".join(dict.fromkeys(new[:5]))
        remarks.append(Remark(subject, f"its tokenizer is used, which adds {len(set(new))} tokens ({listed})"))
    ends = [_eos(folder) for folder in (own[0], base)]
    if ends[0] != ends[1]:
        what = f"its tokenizer ends a text with {ends[0]!r}, the base model's with {ends[1]!r}; the adapter's is used"
        remarks.append(Remark(subject, what))
    return remarks


def _eos(folder: Path) -> str | None:
    value = json_object(folder / _CONFIG, _COPY).get("eos_token") if (folder / _CONFIG).is_file() else None
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) else None


def _rewrite(alike: pieces.Alike, folder: Path, scratch: Path, choice: templates.Choice) -> templates.Choice:
    """Write tokenizer.json and its settings to `scratch`; returns the template that goes with them."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    from scripts.checkpoint.load import be_quiet

    be_quiet()
    if alike.begins:
        settings = {key: value for key, value in alike.settings.items() if key.endswith("_token")}
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(alike.core), **settings)
        text = pieces.begin(choice.text, tokenizer)
        if text is None:
            found = (
                "its texts begin with a special token for some conversations only, and before others belongs a blank"
            )
            raise IngotError(folder, found, f"Have all of them begin alike: {templates.TOML}")
        if text != choice.text:
            what = "a blank is put before its text, which the tokenizer put there in training"
            choice = templates.Choice(text, False, (*choice.remarks, Remark("chat template", what)))
    scratch.mkdir(exist_ok=True)
    (scratch / "tokenizer.json").write_text(alike.core, encoding="utf-8", newline="\n")
    json_files.write(scratch / _CONFIG, alike.settings)
    return choice


def _convert(folder: Path, scratch: Path) -> pieces.Alike | None:
    """Have transformers make a tokenizer.json of what is there: SentencePiece, or vocabulary and merges."""
    from transformers import AutoTokenizer

    from scripts.checkpoint.load import be_quiet

    be_quiet()
    model = next((path for name in SENTENCEPIECE if (path := folder / name).is_file()), None)
    try:
        with loading(folder, folder):
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        for key in ("is_local", "local_files_only", "name_or_path"):  # how it was loaded is not part of it
            tokenizer.init_kwargs.pop(key, None)
        tokenizer.save_pretrained(scratch)
        if not (scratch / "tokenizer.json").is_file():
            raise IngotError(folder, "its tokenizer is of a kind without a fast form (tokenizer.json)", _COPY)
        if model is None:
            return None
        settings = json_object(folder / _CONFIG, _COPY) if (folder / _CONFIG).is_file() else {}
        saved = json_object(scratch / _CONFIG, _COPY)
        return pieces.of_model(tokenizer, model, saved | {key: settings[key] for key in ("legacy",) if key in settings})
    except IngotError:
        raise
    except Exception as error:  # noqa: BLE001 - the parsers of foreign formats raise what they like
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        found = f"transformers can't make a tokenizer.json of its tokenizer ({reason})"
        raise IngotError(
            folder, found, "Save it once as a fast one: AutoTokenizer.from_pretrained(…).save_pretrained(…)"
        ) from None

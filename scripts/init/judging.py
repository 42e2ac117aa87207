"""What was found, judged by those who will build it, and put into words: the text of models.toml, and what to say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.attest import licences
from scripts.cases import cases
from scripts.checkpoint import preflight, templates
from scripts.checkpoint.adapters import Adapter
from scripts.checkpoint.weights import Checkpoint
from scripts.common.errors import IngotError
from scripts.init import beside, places, writing
from scripts.init.beside import Beside
from scripts.init.places import Found

_PRECISIONS = ["int4", "int8", "fp16"]


@dataclass(frozen=True)
class Written:
    """The text of the file; what was found, and what could not be known, a sentence each."""

    text: str
    notes: tuple[str, ...]
    unknown: tuple[str, ...]


def describe(path: Path, found: Found, near: Beside, target: Path, name: str | None) -> Written:
    """What `doit init` writes into folder `target`. Raises `IngotError` where what was found can't be built."""
    checkpoint = preflight.check_source(found.source)
    preflight.check_exporter(checkpoint, None)
    alone = len(found.adapters) == 1
    adapters = [preflight.check_adapter(folder, 1.0, alone=alone) for folder in found.adapters]

    def written(place: Path) -> str:
        return writing.path_of(str(place), str(target))

    hub = places.of_hub(found.source)
    source = {"hub": hub[0], "revision": hub[1]} if hub else {
        "gguf" if found.source.is_file() else "path": written(found.source)}  # fmt: skip
    licence = next((said.name for said in map(licences.stated, [checkpoint.path, *found.adapters]) if said), None)
    choice = _template(checkpoint, adapters, path if path.is_dir() else path.parent)
    evaluation = {key: written(near.files[key]) for key in ("text", "cases", "schema") if key in near.files}
    text = writing.text_of(
        {
            "name": name or writing.name_of(_names(path, found, hub)), "source": source,
            "adapters": [{"path": written(folder)} for folder in found.adapters] or None,
            "template": written(choice.value) if isinstance(choice.value, Path) else choice.value,
            "precisions": _PRECISIONS, "license": licence, "evaluation": evaluation or None,
            "calibration": written(near.files["calibration"]) if "calibration" in near.files else None,
        },
        [] if choice.there else ['template = "FILE.jinja": the chat template that it was trained with'],
    )  # fmt: skip
    millions = f"{checkpoint.parameters / 1e6:.3g} million parameters"
    notes = [f"model: {checkpoint.architecture}, {millions}, {written(found.source)}", *found.notes]
    notes += [f"adapter: {written(folder)}, rank {adapter.config.get('r')}"
              for folder, adapter in zip(found.adapters, adapters, strict=True)]  # fmt: skip
    notes += [choice.said] if choice.there else []
    notes += [f"licence: {licence}"] if licence else []
    notes += [f"{key}: {written(place)}" + _count(key, place) for key, place in near.files.items()]
    notes += [f"{remark.subject}: {remark.text}" for remark in checkpoint.remarks]
    unknown = [*near.unknown, *([] if choice.there else [choice.said]), *_missing(licence, near, found)]
    return Written(text, tuple(notes), tuple(unknown))


def _missing(licence: str | None, near: Beside, found: Found) -> Iterator[str]:
    if not licence:
        yield 'licence: no model card or licence file names one; write license = "…"'
    if "cases" not in near.files:
        yield "cases: without them nothing judges the model's own job; README.md, “Cases: what the model is for”"
    elif not found.adapters:
        yield 'base: name what it was fine-tuned from, base = { path = "…" }, to see what fine-tuning gained'


def _count(key: str, place: Path) -> str:
    return f" ({len(cases.load(place))})" if key == "cases" else ""


def _names(path: Path, found: Found, hub: tuple[str, str] | None) -> Iterator[str]:
    """What the model may be called after, the best first."""
    if hub and not found.adapters:
        yield hub[0].partition("/")[2]
    for place in (*found.adapters[:1], found.source, path):
        if place.is_file():
            yield place.stem
    yield from (place.name for place in (*found.adapters[:1], path))
    yield from (place.name for place in path.parents[:2])


@dataclass(frozen=True)
class _Choice:
    """What `template` is to say, if anything; whether there is a template, and what to say of it."""

    value: Path | str | None
    there: bool
    said: str


def _template(checkpoint: Checkpoint, adapters: list[Adapter], folder: Path) -> _Choice:
    """The chat template that the build will use; where there is none of its own, the only file that could be one."""
    try:
        preflight.check_template(checkpoint, adapters, None)
    except IngotError as error:
        named = next((sorted(names) for place in (*(adapter.folder for adapter in adapters), checkpoint.tokenizer)
                      if (names := templates.read(place))), [])  # fmt: skip
        if named and not checkpoint.path.is_file():
            others = ", ".join(named[1:])
            return _Choice(
                named[0], True, f"chat template: {named[0]!r}; there are also {others}: choose by `template`"
            )
        files = beside.templates(folder)
        if len(files) == 1:
            return _Choice(files[0], True, f"chat template: {files[0].name}, the model brings none")
        return _Choice(None, False, f"chat template: {error.found}. {error.remedy}")
    brought = [adapter.folder.name for adapter in adapters if templates.read(adapter.folder)]
    return _Choice(None, True, f"chat template: that of {brought[0] if brought else 'the model'}")

"""Make of a package what is handed on: the same files, and beside them what they were made of.

The model's own files are linked. What is added is told in `papers`; the card gains figures, the remarks those on
licences. The same inputs give the same bytes.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scripts.attest import bom, card, figures, licences, materials, statement
from scripts.attest.materials import Material
from scripts.common import json_files, links, manifest
from scripts.common.errors import IngotError
from scripts.common.manifest import NOT_CONTENT
from scripts.common.model_files import BOM, CARD, STATEMENT
from scripts.common.model_id import parse
from scripts.results import remarks

_BIG = 1 << 20  # bytes; from here on a file is linked
_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Asked:
    """What was asked for: by models.toml, and by the recipe. `source` and `base` as `Source.flags` has them; `tools`:
    distribution → version of what acted on the way from the weights to the package.
    """

    model_id: str
    precision: str
    description: str = ""
    version: str = "1"
    license: str = licences.UNKNOWN
    source: Mapping[str, Any] = field(default_factory=dict)
    base: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    weights: Sequence[float] = ()
    tools: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Given:
    """The user's own files: weights, adapters, and data by what each is."""

    source: Path | None = None
    adapters: Sequence[Path] = ()
    data: Mapping[str, Sequence[Path]] = field(default_factory=dict)


def write(package: Path, asked: Asked, given: Given, quality: Path | None, domain: Path | None, output: Path) -> None:
    """Write `package` and its papers to the new folder `output`.

    `quality`, `domain`: results, or markers in their place. Raises `IngotError` where the package is none, or a file of
    the user's can't be read.
    """
    if not (package / CARD).is_file():
        raise IngotError(package / CARD, "missing", "Build the package again: doit package")
    name = parse(asked.model_id).name
    licence, told = _licences(package, asked, given, name)
    things = _materials(asked, given)
    measured = figures.measured_of(package, quality, domain)
    _place(package, output)
    text = (package / CARD).read_text(encoding="utf-8")
    rendered = card.render(text, name, licence, _base(asked, given), measured, told)
    (output / CARD).write_text(rendered, encoding="utf-8", newline="\n")
    remarks.write(output, [*remarks.read(package), *told])
    for remark in told:
        print(f"attest: {remark.subject}: {remark.text}", flush=True)
    version = _ingot()
    files = _digests(output)
    bill = bom.bom(
        f"pkg:generic/{name}@{asked.version}", name, asked.version, licence, asked.description, files, things,
        figures.in_bill(measured), _architecture(package), version,
    )  # fmt: skip
    _json(output / BOM, bill)
    files[BOM] = materials.sha256(output / BOM)
    _json(output / STATEMENT, statement.statement(files, things, _parameters(asked), version))


def _licences(package: Path, asked: Asked, given: Given, name: str) -> tuple[str, list[remarks.Remark]]:
    """The licence to tell, and what is to be said of licences."""
    of_weights = licences.stated(given.source) if given.source else None
    of_weights = of_weights or licences.stated_by_text(package)  # copies of what came with the weights
    sources: list[tuple[str, licences.Stated | None]] = [("the weights", of_weights)]
    for number, path in enumerate(given.adapters, 1):
        what = "the adapter" if len(given.adapters) == 1 else f"adapter {number}"
        sources.append((what, licences.stated(path)))
    told = licences.remarks(asked.license, name, sources)
    known = asked.license.lower() not in ("", licences.UNKNOWN)
    return (asked.license if known else of_weights.name if of_weights else licences.UNKNOWN), told


def _materials(asked: Asked, given: Given) -> list[Material]:
    found = []
    source = materials.fetched(asked.source, "weights")
    if source is None and given.source is not None:
        source = materials.weights(given.source, "weights")
    stated = licences.stated(given.source) if given.source else None
    found += [replace(source, licence=stated.name if stated else "")] if source else []
    if base := materials.fetched(asked.base, "base"):
        found.append(base)
    for number, path in enumerate(given.adapters, 1):
        of = licences.stated(path)
        made = materials.adapter(path, f"adapter {number}")
        found.append(replace(made, licence=of.name if of else ""))
    return [*found, *materials.data(given.data), *materials.tools(asked.tools)]


def _base(asked: Asked, given: Given) -> str:
    """The hub's id of what the model was fine-tuned from: pinned in models.toml, or as the adapter's config says."""
    if hub := asked.base.get("hub") or asked.source.get("hub"):
        return str(hub)
    for path in given.adapters:
        try:
            said = json_files.read(path / "adapter_config.json").get("base_model_name_or_path")
        except (OSError, ValueError, AttributeError):
            continue
        if isinstance(said, str) and _HUB.fullmatch(said) and len(said) < 200:
            return said
    return ""


def _place(package: Path, output: Path) -> None:
    output.mkdir(parents=True)
    for source in sorted(path for path in package.rglob("*") if path.is_file()):
        name = source.relative_to(package)
        if name.as_posix() in (*NOT_CONTENT, CARD, remarks.NAME):
            continue
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        if source.stat().st_size < _BIG:
            shutil.copyfile(source, output / name)
        elif links.link(source, output / name) == "copy":
            print(f"attest: copied {name}: it can't be linked on this file system", flush=True)


def _digests(folder: Path) -> dict[str, str]:
    return {name: materials.sha256(folder / name) for name, _ in manifest.walk(str(folder)) if name not in NOT_CONTENT}


def _parameters(asked: Asked) -> dict[str, Any]:
    told = {"model": asked.model_id, "version": asked.version, "precision": asked.precision, "recipe": asked.recipe}
    return {**told, "adapterWeights": list(asked.weights)} if asked.weights else told


def _architecture(package: Path) -> str:
    """The type of the model, as the runtime's config calls it."""
    try:
        found = json_files.read(package / "genai_config.json")["model"]["type"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return str(found)


def _ingot() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("ingot")
    except PackageNotFoundError:
        return "0"


def _json(path: Path, value: Any) -> None:
    path.write_text(json_files.dumps(value) + "\n", encoding="utf-8", newline="\n")

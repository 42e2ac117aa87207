"""A family through the pipeline: checkpoint, export, precisions, package, and an answer of the Foundry runtime."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from scripts.checkpoint.build import build as prepare
from scripts.checkpoint.sources import Source
from scripts.convert.export import export
from scripts.convert.quantize import quantize
from scripts.foundry import cache
from scripts.foundry.deploy import deploy
from scripts.package.build import build as package
from scripts.package.card import PackageSpec
from scripts.quality import compare, reference
from scripts.results import base
from scripts.results.quality import Quality
from tests import tiny
from tests.families import checkpoints

ROOT = Path(__file__).parents[2]
GATE = 1e-3  # of an export, as models.toml has it


@dataclass
class Result:
    """What came out: `export` is quality.json of the export, `kl` of each precision, `answer` what verify recorded."""

    export: Quality
    kl: dict[str, float] = field(default_factory=dict)
    answer: str | None = None

    @property
    def worst(self) -> float:
        """The greatest mean KL of the export, nats: over the texts, and around each change."""
        return max(part.kl or 0.0 for part in (self.export, *self.export.changes.values()))


def judged_export(name: str, folder: Path) -> Result:
    """Make the family `name` below `folder` and judge its float export."""
    return judged(checkpoints.make(name, folder / "checkpoint"), folder)


def judged(checkpoint: Path, folder: Path, exporter: str | None = None) -> Result:
    """Judge the float export of a checkpoint; everything is made below `folder`."""
    prepare(Source(path=checkpoint), folder / "prepared", exporter=exporter)
    checkpoint = folder / "prepared"
    export(checkpoint, folder / "export", exporter=exporter)
    text = folder / "text.txt"
    text.write_text(tiny.TEXT * 2, encoding="utf-8")
    reference.build(checkpoint, {"text": text}, folder / "reference", tokens=300)
    return Result(compare.run(folder / "export", folder / "reference", None, {"kl": GATE}))


def judged_precisions(folder: Path, result: Result, precisions: tuple[str, ...] = ("int8", "int4")) -> None:
    """Quantise the export below `folder` and compare each precision with it."""
    recipes = tomllib.loads((ROOT / "config" / "recipes.toml").read_text(encoding="utf-8"))
    for precision in precisions:
        quantize(folder / "export", recipes[precision], folder / precision)
        result.kl[precision] = compare.run(folder / precision, folder / "reference", folder / "export", {}).kl or 0.0


def answered(folder: Path, result: Result, precision: str = "int8") -> None:
    """Package a precision, deploy it, and have the Foundry runtime answer what onnxruntime-genai answers."""
    model_id = f"family-{precision}-generic-cpu:1"
    package(folder / precision, folder / "prepared", PackageSpec(model_id, precision), folder / "package")
    manifest = folder / "package" / "manifest.json"
    manifest.write_text(json.dumps({"files": cache.contents(folder / "package")}), encoding="utf-8")
    base.write(folder / "deploy.json", deploy(folder / "package", model_id, folder / "cache"))
    output = folder / "verify.json"
    command = [sys.executable, "-m", "scripts.foundry", "verify", "--package", folder / "package"]
    command += ["--deployed", folder / "deploy.json", "--output", output]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    result.answer = json.loads(output.read_text(encoding="utf-8"))["answer"]

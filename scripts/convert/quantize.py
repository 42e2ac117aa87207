"""Float ONNX export → one precision, as its recipe says: passes on the export, or a workflow from the checkpoint."""

from __future__ import annotations

import importlib
import shutil
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from scripts.common import context as contexts
from scripts.common.errors import IngotError
from scripts.convert import olive, preflight
from scripts.convert.folder import finish
from scripts.definitions.passes import CALIBRATION, EXPORTERS, calibrates, own
from scripts.definitions.steps import Given, modules, parse_steps
from scripts.definitions.workflow import steps, with_scripts


def quantize(
    export: Path,
    recipe: Any,
    output: Path,
    checkpoint: Path | None = None,
    texts: Sequence[Path] = (),
    context: int | None = None,
    scripts: Sequence[Path] = (),
) -> None:
    """Write the folder `output`. `checkpoint` is needed where the recipe is a workflow that starts from it, `texts`
    where a pass of it calibrates: on conversations with the checkpoint's chat template, which an export does not hold.
    `context`: how many tokens its package will serve; the rotary tables end there. `scripts`: where the code is that a
    trusted workflow names, in the order of the recipe's `scripts`.

    Raises `IngotError` for a recipe with a mistake, a workflow that ends without a model, and a model that does not
    load and generate.
    """
    target, workflow = plan(export, recipe, checkpoint, scripts)
    if label := recipe.get("label"):
        print(f"quantize: {label}", flush=True)
    with tempfile.TemporaryDirectory(prefix=".scratch-", dir=output.parent) as scratch:
        if olive.needs_unlinked(workflow) and any(path.stat().st_nlink > 1 for path in export.iterdir()):
            print("quantize: copying the export: the build links it, and onnx refuses linked weights", flush=True)
            export = Path(shutil.copytree(export, Path(scratch) / "export"))
            target, workflow = plan(export, recipe, checkpoint, scripts)
        _calibrate(workflow, checkpoint or export, texts, context, Path(scratch))
        made = olive.run(workflow, Path(scratch), lambda: _load_passes(recipe))
        keep = None if context is None else partial(_keep_positions, contexts.positions(context))
        finish(made, output, target, None if recipe.get("passes") else checkpoint, keep)


def _keep_positions(count: int, folder: Path) -> None:
    from scripts.convert import positions

    positions.keep(folder, count)


def _load_passes(recipe: Any) -> None:
    for module in modules(recipe):
        importlib.import_module(module)


def plan(
    export: Path, recipe: Any, checkpoint: Path | None, scripts: Sequence[Path] = ()
) -> tuple[str, dict[str, Any]]:
    """The execution provider and the whole Olive workflow of a recipe, checked as far as that is cheap."""
    given = parse_steps(recipe)
    target = given.target
    if given.passes is None:
        if len(scripts) != len(given.scripts):
            raise IngotError("recipe", f"names {len(given.scripts)} scripts, and {len(scripts)} were given", "--script")
        places = dict(zip(given.scripts, (str(script.resolve()) for script in scripts), strict=True))
        return target, _from_workflow(given, with_scripts(given.olive, places), export, checkpoint)
    passes = {
        f"{number}": {"type": step["type"], "config": {key: value for key, value in step.items() if key != "type"}}
        for number, step in enumerate(given.passes, 1)
    }
    preflight.onnx(export)
    return target, {"input_model": olive.from_onnx(export), **olive.systems(target), "passes": passes}


def _calibrate(
    workflow: dict[str, Any], tokenizer: Path, texts: Sequence[Path], context: int | None, scratch: Path
) -> None:
    """Turn the texts into tokens, by the folder `tokenizer`, for every pass that calibrates."""
    wanting = [step["config"] for step in workflow["passes"].values() if _calibrates(step)]
    if not wanting:
        return
    if not texts:
        raise IngotError("recipe", "it calibrates on texts, and none was given", "Give --calibration")
    import numpy as np

    file = scratch / "tokens.npy"
    np.save(file, importlib.import_module(CALIBRATION).tokens(tokenizer, texts))
    for config in wanting:
        config["calibration"] = str(file)
        config["context"] = contexts.positions(contexts.wanted(context))


def _calibrates(step: Any) -> bool:
    return isinstance(step, dict) and calibrates(step.get("type"), step.get("config") or {})


def _from_workflow(recipe: Given, given: dict[str, Any], export: Path, checkpoint: Path | None) -> dict[str, Any]:
    kind = given.get("input_model", {}).get("type", "HfModel")
    if str(kind).lower() == "onnxmodel":
        preflight.onnx(export)
        workflow = olive.adopt(given, olive.from_onnx(export), trust=recipe.trust, target=recipe.target)
    elif checkpoint is None:
        raise IngotError("recipe: olive", "starts from the checkpoint, and none was given", "Give --checkpoint")
    else:
        kinds = {own(step.get("type")) for _, step in steps(given, where="recipe.olive")}
        asked = next((exporter for exporter, kind in EXPORTERS.items() if kind in kinds), None)
        preflight.checkpoint(checkpoint, asked)
        workflow = olive.adopt(given, olive.from_checkpoint(checkpoint), trust=recipe.trust, target=recipe.target)
    if "systems" not in workflow:
        workflow |= olive.systems(recipe.target)
    return workflow

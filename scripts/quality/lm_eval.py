"""Tasks of lm-eval that the user has, put to a package by lm-eval's own `onnxruntime-genai` backend. Opt-in.

lm-eval (EleutherAI's evaluation harness) has that backend since 0.4.13; nothing of it is needed unless a model names a
folder of task files. Every task in that folder runs, and none of lm-eval's own, most of which fetch their data. Data
files that a task names are looked for beside it. The prompts are the task's: no chat template is put around them.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from scripts.common import quiet
from scripts.common.errors import IngotError
from scripts.common.hashes import digest_bytes
from scripts.definitions.gates import parse_gates
from scripts.results import base
from scripts.results.base import Verdict
from scripts.results.domain import LmEval, LmFigure, LmTask

#: Shares of right answers: what `domain_points` can be asked of. Other metrics are told and not judged.
ACCURACIES = ("acc", "acc_norm", "exact_match")
#: Draws for the standard errors that have no formula; lm-eval's own 100,000 take minutes.
_DRAWS = 1000
_REMEDY = "In Ingot's folder: pip install -e '.[lm-eval]'"


def run(package: Path, tasks: Path, baseline: Path | None, gates: Any, scratch: Path) -> LmEval:
    """Run every task below the folder `tasks` on the package; returns the content of lm-eval.json.

    `baseline`: the lm-eval.json of the float export, which each figure is set beside. `scratch`: where lm-eval may
    write meanwhile. Raises `IngotError` where lm-eval is not installed, on bad input, and where a task breaks.
    """
    limits = parse_gates(gates)
    if importlib.util.find_spec("lm_eval") is None:
        raise IngotError("lm-eval", "is not installed, and the model's `evaluation.lm_eval` needs it", _REMEDY)
    if not (package / "genai_config.json").is_file():
        raise IngotError(package, "is not a package: there is no genai_config.json in it", "Build the package first")
    if not tasks.is_dir():
        raise IngotError(tasks, "there is no such folder", "Give a folder of lm-eval task files")
    before = _baseline(baseline) if baseline else {}
    with _beside(tasks, scratch):
        found = _evaluate(package.resolve(), tasks.resolve())
    results = {name: _task(name, found) for name in sorted(found["results"])}
    if baseline:
        results = _compared(results, before, baseline)
    verdict, reasons = judge(results, limits)
    return LmEval(
        verdict=verdict,
        reasons=reasons,
        tasks=results,
        gates={name: limits[name] for name in ("domain_points",) if name in limits},
        lm_eval=str(found["lm_eval_version"]),
        runtime=f"onnxruntime-genai {_version('onnxruntime-genai')}",
    )


def judge(tasks: Mapping[str, LmTask], gates: Mapping[str, float]) -> tuple[Verdict, list[str]]:
    """Verdict and reasons: an accuracy may be `domain_points` points below the float export's at most."""
    if "domain_points" not in gates:
        return "passed", []
    gate, reasons = gates["domain_points"], []
    for name, task in tasks.items():
        for metric, figure in task.metrics.items():
            if metric.split(",")[0] in ACCURACIES and figure.difference is not None:
                points = -100 * figure.difference
                if points > gate + 1e-9:
                    told = f"{name}: {metric} is {points:.4g} points below the float export; the gate allows {gate:g}"
                    reasons.append(told)
    return ("refused" if reasons else "passed"), reasons


@contextmanager
def _beside(tasks: Path, scratch: Path) -> Iterator[None]:
    """In the folder of the tasks, offline, with every cache in a folder that goes."""
    here = Path.cwd()
    with tempfile.TemporaryDirectory(dir=scratch) as cache:
        quiet.silence()
        os.environ |= {"HF_HOME": cache, "HF_DATASETS_CACHE": cache}
        os.chdir(tasks)
        try:
            yield
        finally:
            os.chdir(here)


def _evaluate(package: Path, tasks: Path) -> dict[str, Any]:
    """What lm-eval returns: results, samples, versions by task."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    try:
        manager = TaskManager(include_path=str(tasks), include_defaults=False)
        names = manager.all_subtasks
        if not names:
            raise IngotError(tasks, "there is no lm-eval task in it", "Put task files there, NAME.yaml")
        print(f"lm-eval: {', '.join(names)}", flush=True)
        found = lm_eval.simple_evaluate(
            model="onnxruntime-genai",
            model_args={"pretrained": str(package)},
            tasks=names,
            task_manager=manager,
            bootstrap_iters=_DRAWS,
        )
    except IngotError:
        raise
    except Exception as error:
        told = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise IngotError(
            tasks, f"lm-eval stops with {type(error).__name__}: {told}", "Correct the task file"
        ) from error
    return dict(found)


def _task(name: str, found: dict[str, Any]) -> LmTask:
    samples = found["samples"][name]
    asked = [[sample[key] for key in ("doc_hash", "prompt_hash", "target_hash")] for sample in samples]
    metrics = {}
    for key, value in sorted(found["results"][name].items()):
        metric, mark, filtered = key.partition(",")
        if not mark or metric.endswith("_stderr") or not isinstance(value, int | float):
            continue
        error = found["results"][name].get(f"{metric}_stderr,{filtered}")
        metrics[metric if filtered == "none" else key] = LmFigure(
            value=float(value),
            stderr=float(error) if isinstance(error, int | float) else None,
            higher_is_better=found["higher_is_better"].get(name, {}).get(metric),
        )
    return LmTask(
        documents=found["n-samples"][name]["effective"],
        digest=digest_bytes(repr(asked).encode()),
        metrics=metrics,
    )


def _baseline(path: Path) -> dict[str, LmTask]:
    try:
        return base.read(path, LmEval, "Give the lm-eval.json of the float export").tasks
    except FileNotFoundError:
        raise IngotError(path, "there is no such file", "Run the tasks on the float export first") from None


def _compared(results: Mapping[str, LmTask], before: Mapping[str, LmTask], path: Path) -> dict[str, LmTask]:
    """The results with the float export's figures beside them."""
    found = {}
    for name, task in results.items():
        known = before.get(name)
        if known is None or known.digest != task.digest or not task.metrics.keys() <= known.metrics.keys():
            raise IngotError(path, f"has no figures of these documents of {name!r}", "Run both with the same --tasks")
        pairs = {metric: (figure, known.metrics[metric].value) for metric, figure in task.metrics.items()}
        found[name] = replace(task, metrics={
            metric: replace(figure, of_float=of_float, difference=figure.value - of_float)
            for metric, (figure, of_float) in pairs.items()
        })  # fmt: skip
    return found


def _version(distribution: str) -> str:
    from importlib.metadata import version

    return version(distribution)

"""From fine-tuned weights to an answering model in Foundry Local: the whole pipeline, in the order of the data.

    models.toml ─► checkpoint ─► export ─► quantize ─► package ─► deploy ─► verify ─┐
                       │            │          │          │                         ├─► report
                       └─► reference ─► quality ┘  domain ─┴─► recommend    bench ──┘

This file only declares which step needs what; `scripts/<stage>` does the work and `scripts/engine` decides what is
stale. A *variant* is a model in one precision (`triage-int4`), or the float export itself (`triage`): that is packaged
and questioned like any other, as the measure of what quantising cost, but never deployed.

    doit                            everything up to the report         doit list       the tasks of this file
    doit quantize:triage-int4       one step, and what it needs         doit clean      remove what was built
    doit config=DIR build=DIR …     another configuration, another output folder
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scripts.common.machine import fingerprint, graphics, instruction_set
from scripts.common.model_files import (
    CARD_FILES,
    CHAT_TEMPLATES,
    TEMPLATES,
    TOKENIZER,
    is_adapter_file,
    is_documented_adapter_file,
    is_documented_model_file,
    is_model_file,
)  # fmt: skip
from scripts.common.process import Limits
from scripts.convert import exporters
from scripts.definitions.passes import DEVICES, HERE
from scripts.doit_plugin.dependency import user_errors
from scripts.doit_plugin.tasks import Tasks
from scripts.doit_plugin.variables import called, chosen_folders, typed
from scripts.engine.session import Place, Session
from scripts.engine.step import ExternalState, Step, leave_out
from scripts.foundry import external_state as deployed
from scripts.settings.asked import asked
from scripts.settings.judges import CASES, judged_by
from scripts.settings.models import Model, Variant, bytes_made
from scripts.settings.reading import read

BUILD, CONFIG = chosen_folders("build", "config")
with user_errors():
    SETTINGS = read(CONFIG)
INGOT = Session(
    BUILD, online_stages=["checkpoint", "finetune"], home_stages=["foundry", "edges"],
    limits=lambda step: Limits(*SETTINGS.limits_of(step, BUILD)), shared=SETTINGS.store and Place(*SETTINGS.store),
    cluster=SETTINGS.executor,
)  # fmt: skip
TASKS = Tasks(INGOT, [f"checkpoint:{model.name}" for model in SETTINGS.models if model.problem and not model.recipes])
MODELS = SETTINGS.models
SUMS = {"processor": instruction_set()}  # in the key of what adds up floats: the last bits differ between processors
ACCEPTED = BUILD / "accepted.json"  # what the next report is compared with: `doit accept`
CACHE = SETTINGS.cache or str(BUILD / "foundry" / "cache" / "models")  # a path, "app:NAME" or "auto"
DEPLOYED = {"cache": CACHE, "config": str(CONFIG), "build": str(BUILD), "asked": SETTINGS.asked,
            "cases": {model.name: str(model.cases) for model in MODELS if model.cases},
            "bases": {model.name: model.base.place for model in MODELS if model.base},
            "elsewhere": {model.name: model.elsewhere for model in MODELS if model.elsewhere},
            "public_key": str(SETTINGS.public_key or ""), "options": typed("config", "build")}  # fmt: skip
DOIT_CONFIG = TASKS.config(default_tasks=["report"], sort="definition", deployed=DEPLOYED)

MEASURES = {model: SETTINGS.measure(model, BUILD) for model in MODELS if model.cases}  # whose answers are the measure
IN_FLOAT = [model for model in MODELS if MEASURES.get(model, model.float) is model.float]  # the others: too large here
BASES = list(dict.fromkeys(model.base for model in IN_FLOAT if model.base))
VARIANTS = [variant for model in MODELS for variant in model.variants]
BASELINES = [model.baseline for model in IN_FLOAT if model.baseline]
PRECISIONS = [variant for variant in VARIANTS if variant.recipe]
ASKED = [variant for variant in VARIANTS if variant.model.cases and variant.runs_here
         and (variant.recipe or variant.model in IN_FLOAT)]  # that are put the cases  # fmt: skip
SERVED = [variant for variant in PRECISIONS if variant.runs_here]  # the others are made, and judged as far as that goes


def folder(variant: Variant) -> Path:
    """The folder of all that is made of a variant."""
    return BUILD / variant.place


def task_doctor() -> dict[str, Any]:
    """Check this machine: is everything here that a build needs?"""
    places = ["--config", str(CONFIG), "--build", str(BUILD), "--cache", CACHE]
    return {"actions": [[sys.executable, "-m", "scripts.doctor", *places]], "uptodate": [False],
            "io": {"capture": False}}  # fmt: skip


@TASKS.each([*MODELS, *BASES])
def checkpoint(model: Model) -> Step:
    """Merge weights and adapters into one checkpoint"""
    source, of = model.source, [other for other in MODELS if other.base is model]  # those whose base it is, if any
    return INGOT.step(
        f"checkpoint:{model.name}", BUILD / model.place / "checkpoint", stage="checkpoint", verb="build",
        inputs={"source": source.path, "adapter": tuple(adapter.path for adapter in model.adapters),
                "template": model.template if isinstance(model.template, Path) else None},
        belongs={"source": is_model_file, "adapter": is_adapter_file},
        parameters={**source.flags, "weights": [adapter.weight for adapter in model.adapters] or None,
                    "template-name": model.template if isinstance(model.template, str) else None,
                    "template-optional": True if of else None},
        observed=SUMS if model.adapters else {},
        scratch={"downloads": BUILD / "downloads", "makes": bytes_made(model) or None,
                 "serves-float": model.serves_float or None, "exporter": model.exporter,
                 "context": None if of else [model.context_length, model.sampling.get("max_length")]},
        follows=map(checkpoint, of[:1] if len(of) == 1 else ()), dispensable=bool(of),
        preflight={"source": "scripts.checkpoint.weights:check_source",
                   "adapter": "scripts.checkpoint.adapters:check_adapter",
                   "template": "scripts.checkpoint.templates:check"}, problem=model.problem,
        guards=judged_by(model, SETTINGS.general_text),
        parts={"model": leave_out(*CARD_FILES, *CHAT_TEMPLATES, f"{TEMPLATES}/*"),
               "tokenizer": (*TOKENIZER, f"{TEMPLATES}/*", "config.json")},
    )  # fmt: skip


@TASKS.each(
    [model for model in MODELS if model.tickets and model.cases and model.schema],
    needs="evaluation.cases and evaluation.schema in models.toml, and train/<model>/tickets.jsonl beside it",
)
def finetune(model: Model) -> Step:
    """Train a new adapter (40 minutes or so); adopting it is up to you"""
    source = model.source
    return INGOT.step(
        f"finetune:{model.name}", BUILD / model.name / "finetune", stage="finetune", verb="train",
        inputs={"source": source.path, "train": model.tickets, "evaluation": model.cases, "schema": model.schema},
        belongs={"source": is_model_file},
        parameters=source.flags, observed=SUMS, scratch={"downloads": BUILD / "downloads"},
        preflight={"source": "scripts.checkpoint.weights:check_source", "evaluation": CASES["cases"], **CASES},
        problem=model.problem,
    )  # fmt: skip


@TASKS.each(MODELS)
def reference(model: Model) -> Step:
    """Record the checkpoint's log-probabilities on the evaluation texts"""
    return INGOT.step(
        f"reference:{model.name}", BUILD / model.name / "reference", stage="quality", verb="reference",
        inputs={"checkpoint": checkpoint(model).part("model"), "text": (SETTINGS.general_text, model.text)},
        parameters={"context": model.context},
        observed=SUMS, stored=False, shared=True,  # large, and soon made where torch is loaded anyway
    )  # fmt: skip


@TASKS.each([*MODELS, *BASES])
def export(model: Model) -> Step:
    """Export the checkpoint to float ONNX through Olive"""
    return INGOT.step(
        f"export:{model.name}", BUILD / model.place / "export", stage="convert", verb="export",
        inputs={"checkpoint": checkpoint(model).part("model")}, parameters={"exporter": model.exporter},
        loads=lambda: exporters.modules(BUILD / model.place / "checkpoint", model.exporter),
        dispensable=model in BASES, stored=model.keep_export, shared=True,
    )  # fmt: skip


@TASKS.each(PRECISIONS)
def quantize(variant: Variant) -> Step:
    """Make the ONNX folder of one precision, by its recipe's Olive passes"""
    assert variant.recipe
    return INGOT.step(
        f"quantize:{variant.name}", folder(variant) / "onnx", stage="convert", verb="quantize",
        inputs={"export": export(variant.model),
                "checkpoint": checkpoint(variant.model) if variant.recipe.needs_checkpoint
                else checkpoint(variant.model).part("tokenizer") if variant.recipe.calibrates else None,
                "calibration": variant.model.calibration if variant.recipe.calibrates else (),
                "script": variant.recipe.scripts},
        parameters={"recipe": variant.recipe.steps, "context": variant.model.context}, loads=variant.recipe.modules,
        observed=SUMS if variant.recipe.sums_floats else {},
    )  # fmt: skip


def onnx(variant: Variant) -> Step:
    """The step that makes a variant's ONNX folder."""
    return quantize(variant) if variant.recipe else export(variant.base or variant.model)


@TASKS.each(VARIANTS)
def quality(variant: Variant) -> Step:
    """Compare export with checkpoint, precision with export: KL, top-1"""
    return INGOT.step(
        f"quality:{variant.name}", folder(variant) / "quality.json", stage="quality", verb="compare",
        inputs={"onnx": onnx(variant), "reference": reference(variant.model),
                "export": export(variant.model) if variant.recipe else None},
        parameters={"gates": variant.quality_gates,
                    "target": None if variant.runs_here or not variant.recipe else variant.recipe.target},
        observed=SUMS,
    )  # fmt: skip


@TASKS.each([*VARIANTS, *BASELINES])
def package(variant: Variant) -> Step:
    """Put together what Foundry gets: weights, settings, chat template"""
    model, base = variant.model, variant.base
    return INGOT.step(
        f"package:{variant.name}", folder(variant) / "package", stage="package", verb="build",
        inputs={"onnx": onnx(variant), "checkpoint": checkpoint(base or model),
                "template-of": checkpoint(model).part("tokenizer") if base else None},
        verdicts={"tuned": domain(model.float), "untuned": baseline(model.baseline)}
        if variant.recipe and model.baseline in BASELINES else {},
        parameters={"model-id": variant.model_id, "precision": variant.precision or "float",
                    "description": model.description, "version": model.version, "license": model.license,
                    "sampling": model.sampling, "context-length": model.context_length},
        parts={"served": leave_out(*CARD_FILES)}, dispensable=base is not None,
        stored=bool(variant.recipe) or (base or model).keep_export, shared=True,
    )  # fmt: skip


@TASKS.each(ASKED, needs="evaluation.cases in models.toml")
def domain(variant: Variant) -> Step:
    """Score the model's own cases in the Foundry runtime"""
    measure = MEASURES[variant.model]
    return INGOT.step(
        f"domain:{variant.name}", folder(variant) / "domain.json", stage="quality", verb="domain",
        inputs={"package": package(variant).part("served"), "cases": variant.model.cases,
                "schema": variant.model.schema,
                "baseline": domain(measure) if variant.recipe and variant is not measure else None},
        parameters={"gates": variant.domain_gates, "limit": variant.model.asked,
                    **({"measure": measure.precision} if measure.recipe else {})}, observed=SUMS,
        preflight=CASES,
    )  # fmt: skip


@TASKS.each([variant for variant in PRECISIONS if variant.recipe and variant.recipe.target in DEVICES],
            needs=f"a precision whose recipe has the target {' or '.join(DEVICES)}")  # fmt: skip
def device(variant: Variant) -> Step:
    """Run what is made for WebGPU or OpenVINO on such a device; only if named"""
    assert variant.recipe
    return INGOT.step(
        f"device:{variant.name}", folder(variant) / "device.json", stage="quality", verb="device",
        inputs={"package": package(variant).part("served"), "export": export(variant.model),
                "reference": reference(variant.model), "cases": variant.model.cases},
        parameters={"gates": variant.quality_gates, "provider": variant.recipe.target},
        observed={"devices": graphics(), **({} if "gpu" in variant.resources else SUMS)},
        preflight={"cases": CASES["cases"]}, resources=variant.resources,
    )  # fmt: skip


@TASKS.each(BASELINES, needs="evaluation.cases, and adapters or base, in models.toml")
def baseline(variant: Variant) -> Step:
    """Score the model without its fine-tuning on the same cases"""
    assert variant.base
    model = variant.model
    return INGOT.step(
        f"baseline:{model.name}", BUILD / model.name / "baseline.json", stage="quality", verb="baseline",
        inputs={"package": package(variant).part("served"), "checkpoint": checkpoint(variant.base).part("tokenizer"),
                "cases": model.cases, "schema": model.schema},
        parameters={"limit": model.asked}, observed=SUMS, preflight=CASES, dispensable=True,
    )  # fmt: skip


@TASKS.each(
    [variant for variant in VARIANTS if variant.model.lm_eval and variant.runs_here],
    needs="evaluation.lm_eval in models.toml",
)
def lm_eval(variant: Variant) -> Step:
    """Run the user's own lm-eval tasks; only if named"""
    return INGOT.step(
        f"lm-eval:{variant.name}", folder(variant) / "lm-eval.json", stage="quality", verb="lm-eval",
        inputs={"package": package(variant).part("served"), "tasks": variant.model.lm_eval,
                "baseline": lm_eval(variant.model.float) if variant.recipe else None},
        parameters={"gates": variant.domain_gates}, observed=SUMS,
    )  # fmt: skip


@TASKS.each(SERVED)
def bench(variant: Variant) -> Step:
    """Measure response time, throughput, memory and CPU of what serves"""
    model = variant.model
    return INGOT.step(
        f"bench:{variant.name}", folder(variant) / "bench.json", stage="bench", verb="quick",
        inputs={"package": package(variant).part("served")}, observed={"machine": fingerprint()}, alone=True,
        follows=[quality(model.float), quality(variant), *([domain(variant)] if model.cases else [])],
    )  # fmt: skip


@TASKS.each(SERVED)
def bench_full(variant: Variant) -> Step:
    """Measure long prompts, clients at once, llama.cpp; only if named"""
    source = variant.model.source
    return INGOT.step(
        f"bench-full:{variant.name}", folder(variant) / "bench-full.json", stage="bench", verb="full",
        inputs={"package": package(variant).part("served"), "peer": source.path if source.kind == "gguf" else None},
        parameters=source.flags if source.kind == "wheel" else {}, scratch={"downloads": BUILD / "downloads"},
        observed={"machine": fingerprint()}, alone=True,
    )  # fmt: skip


@TASKS.each(SERVED)
def soak(variant: Variant) -> Step:
    """Watch memory over hundreds of requests; only if named"""
    return INGOT.step(
        f"soak:{variant.name}", folder(variant) / "soak.json", stage="bench", verb="soak",
        inputs={"package": package(variant).part("served")}, observed={"machine": fingerprint()}, alone=True,
    )  # fmt: skip


@TASKS.each(MODELS)
def recommend(model: Model) -> Step:
    """Choose the first precision of models.toml that passes its gates"""
    return INGOT.step(
        f"recommend:{model.name}", BUILD / model.name / "recommend.json", stage="quality", verb="recommend", inputs={},
        verdicts={"export-quality": quality(model.float), "quality": tuple(map(quality, model.precisions)),
                  "domain": tuple(domain(variant) for variant in model.precisions if variant.runs_here)
                  if model.cases else None},
        parameters={"precisions": [variant.precision for variant in model.precisions],
                    "elsewhere": model.elsewhere or None},
        problem=None if model.recipes else model.problem,
    )  # fmt: skip


@TASKS.each(PRECISIONS)
def attest(variant: Variant) -> Step:
    """Add to the package what it was made of: BOM, provenance, figures"""
    model, recipe = variant.model, variant.recipe
    assert recipe
    return INGOT.step(
        f"attest:{variant.name}", folder(variant) / "attested", stage="attest", verb="write",
        inputs={"package": package(variant), "source": model.source.path,
                "adapter": tuple(adapter.path for adapter in model.adapters),
                "cases": model.cases, "schema": model.schema, "text": (SETTINGS.general_text, model.text),
                "calibration": model.calibration if recipe.calibrates else ()},
        tools_of={"tools": (checkpoint(model), export(model), onnx(variant))},
        belongs={"source": is_documented_model_file, "adapter": is_documented_adapter_file},
        preflight={"source": "scripts.checkpoint.weights:check_source",
                   "adapter": "scripts.checkpoint.adapters:check_adapter", **CASES},
        verdicts={"quality": quality(variant),
                  "domain": domain(variant) if model.cases and variant.runs_here else None},
        parameters={"model-id": variant.model_id, "precision": variant.precision, "recipe": recipe.steps,
                    "description": model.description, "version": model.version, "license": model.license,
                    "fetched": model.source.flags or None,
                    "base": (model.base.source.flags or None) if model.base else None,
                    "weights": [adapter.weight for adapter in model.adapters] or None},
    )  # fmt: skip


@TASKS.each(PRECISIONS if SETTINGS.public_key else [], needs="foundry.require_signature in models.toml")
def sign(variant: Variant) -> Step:
    """Sign what may be deployed, with the key that INGOT_SIGNING_KEY names"""
    return INGOT.step(
        f"sign:{variant.name}", folder(variant) / "signature", stage="attest", verb="sign",
        inputs={"package": attest(variant), "recommendation": recommend(variant.model),
                "public-key": SETTINGS.public_key},
        parameters={"model-id": variant.model_id, "precision": variant.precision, "policy": variant.model.deploy,
                    "target": variant.recipe.target if variant.recipe else HERE},
        tied=True,
    )  # fmt: skip


@TASKS.each(PRECISIONS)
def deploy(variant: Variant) -> Step:
    """Put the package into the Foundry cache, or record why not"""
    return INGOT.step(
        f"deploy:{variant.name}", folder(variant) / "deploy.json", stage="foundry", verb="deploy",
        inputs={"package": attest(variant), "recommendation": recommend(variant.model),
                "signature": sign(variant) if SETTINGS.public_key else None, "public-key": SETTINGS.public_key},
        parameters={"model-id": variant.model_id, "precision": variant.precision, "policy": variant.model.deploy,
                    "cache": CACHE},
        scratch={"config": CONFIG},
        external_state=ExternalState(deployed.files, deployed.holds), undo=deployed.undeploy(BUILD),
    )  # fmt: skip


@TASKS.each(SERVED)
def verify(variant: Variant) -> Step:
    """Ask the deployed model, in a fresh process of the real runtime"""
    model = variant.model
    return INGOT.step(
        f"verify:{variant.name}", folder(variant) / "verify.json", stage="foundry", verb="verify",
        inputs={"package": attest(variant), "deployed": deploy(variant), "cases": model.cases, "schema": model.schema,
                "domain": domain(variant) if model.cases else None},
        stored=False, preflight=CASES,
    )  # fmt: skip


@TASKS.each(SERVED)
def edges(variant: Variant) -> Step:
    """Send edge cases and invalid input; only if named"""
    return INGOT.step(
        f"edges:{variant.name}", folder(variant) / "edges.json", stage="edges", verb="run",
        inputs={"package": attest(variant), "deployed": deploy(variant)}, stored=False,
    )  # fmt: skip


@TASKS.once
def reconcile() -> Step:
    """Hold what is in the Foundry cache against what is asked for"""
    return INGOT.step(
        "reconcile", BUILD / "foundry" / "reconcile.json", stage="foundry", verb="reconcile", inputs={},
        reads=[deploy(variant) for variant in PRECISIONS]
        + [kind(variant) for variant in SERVED for kind in (quality, bench, verify)]
        + [domain(variant) for variant in SERVED if variant.model.cases],
        parameters={"asked": SETTINGS.asked, "policy": SETTINGS.on_refusal, "keep": SETTINGS.keep, "cache": CACHE},
        scratch={"config": CONFIG, "build": BUILD, "remedy": called("undeploy", "--orphans")},
        undo=deployed.undeploy_all(BUILD),
        external_state=ExternalState(deployed.standing_files, deployed.standing_holds, deployed.standing_remarks),
    )  # fmt: skip


def task_model() -> Iterator[dict[str, Any]]:
    """Everything of one model but the report"""
    for model in MODELS:
        ends = [
            recommend(model),
            *(kind(variant) for variant in model.precisions for kind in (bench, verify) if variant.runs_here),
            *map(deploy, model.precisions),
        ]
        doc = f"Everything of {model.name} but the report"
        yield {"name": model.name, "doc": doc, "actions": None, "task_dep": [step.name for step in ends]}


@TASKS.once
def report() -> Step:
    """Render every result as a page, report.json, report.md and a table"""
    judged = [kind(variant) for variant in VARIANTS for kind in (onnx, quality)]
    answered = [*map(domain, ASKED), *map(baseline, BASELINES)]
    chosen = [recommend(model) for model in MODELS]
    seen = [kind(variant) for variant in SERVED for kind in (bench, verify)]
    seen += [kind(variant) for variant in PRECISIONS for kind in (attest, deploy)]
    return INGOT.step(
        "report", BUILD / "report", stage="report", verb="render",
        inputs={"accepted": ACCEPTED if ACCEPTED.is_file() else None},
        reads=(*judged, *answered, *chosen, *seen, reconcile()),
        optional=[kind(variant) for variant in SERVED for kind in (bench_full, soak, edges)]
        + [device(variant) for variant in PRECISIONS if variant.recipe and variant.recipe.target in DEVICES],
        parameters={"models": [{"name": model.name, "precisions": [variant.precision for variant in model.precisions],
                                "base": model.base.place if model.base in BASES else None, "settings": asked(model)}
                               for model in MODELS], "options": typed("config", "build")},
        scratch={"build": BUILD}, shows="table.txt", forms={"junit": "junit.xml"},
    )  # fmt: skip


# `keep_export = false`: what serves and judges is made by then, and these weights are the largest files.
for _model in MODELS:
    if not _model.keep_export:
        INGOT.remove_files(
            [export(_model), package(_model.float)], ["*.onnx.data"],
            after=[quality(_model.float), *map(quality, _model.precisions), *map(quantize, _model.precisions),
                   *([domain(_model.float)] if _model.cases and _model in IN_FLOAT else [])],
        )  # fmt: skip
for _base in BASES:
    _asked = [variant for variant in BASELINES if variant.base is _base]
    if not _base.keep_export:
        INGOT.remove_files([export(_base), *map(package, _asked)], ["*.onnx.data"], after=map(baseline, _asked))

"""Every result of a build as one report, the content of report.json.

A stage leaves one JSON file; a step that broke, or had nothing to work on, leaves a marker in `.ingot/` beside the
place of its output, and then an older result that still stands there does not count. A figure counts beside the package
that it was measured on, and no other. What is not there was not measured: it is null, never a number made up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from msgspec.structs import replace

from scripts.common.errors import IngotError
from scripts.definitions.passes import HERE
from scripts.quality.gain import gained
from scripts.quality.gates import Judged, because, worst
from scripts.quality.recommend import recommend
from scripts.report import devices, standing, versions
from scripts.report.weighed import bits, parameters, size_bytes
from scripts.results import base, measured, remarks
from scripts.results.base import Marker, Outcome
from scripts.results.bench import Bench, BenchFull, Soak
from scripts.results.domain import Domain, Unadapted
from scripts.results.foundry import Deploy, Edges, Reconciled, Verify
from scripts.results.quality import Advice, Device, Quality
from scripts.results.remarks import Remark
from scripts.results.report import VERSION, Base, Called, Deployed, Export, Model, Precision, Report, Step

#: Outputs that decide what a precision is worth, in the order of the data.
JUDGED = ("onnx", "quality", "package", "domain", "bench")
#: Outputs on the way into the Foundry cache.
DELIVERED = ("attested", "signature", "deploy", "verify")
#: Folder of the model without its fine-tuning.
BASE = "base"
#: Folders of a model, and of each of its precisions, whose remarks are told.
REMARKED = ("checkpoint", "export"), ("onnx", "package", "attested")
_TOOLS = ("olive-ai", "onnxruntime", "onnxruntime-genai", "foundry-local-sdk", "transformers", "torch", "peft")

Measured = TypeVar("Measured", Bench, BenchFull, Soak, Domain, Unadapted, Edges, Verify, Device)
T = TypeVar("T")


def collect(
    build: Path, models: Any, environment: dict[str, Any] | None = None, options: Sequence[str] | None = None
) -> Report:
    """Read everything below `build` that belongs to `models`, a list of {"name", "precisions": [name, …]}.

    A model's optional "settings" are reported as they are; "base" is the folder below `build` of the model without its
    fine-tuning, where there is one. `options`: the variables that `doit` was called with, as
    "config=DIR"; None where not doit called. Raises `IngotError` on a wrong list of models, or a result
    file of another form.
    """
    if not isinstance(models, list) or not all(_is_model(model) for model in models):
        raise IngotError("--models", f"expected a list of models, found {models!r}", 'Such as [{"name", "precisions"}]')
    reported = [
        _model(build, model["name"], model["precisions"], model.get("settings"), model.get("base")) for model in models
    ]
    cache = _Place(build / "foundry").result("reconcile", Reconciled)
    if cache:
        reported = [versions.beside(standing.beside(model, cache.stands), cache.stands) for model in reported]
    return Report(
        version=VERSION,
        models=reported,
        environment=_environment(reported, environment),
        called=_called(build, options),
        cache=standing.cache_of(cache, reported) if cache else None,
    )


def _called(build: Path, options: Sequence[str] | None) -> Called:
    folder = str(build.absolute())
    if options is None:
        return Called(options=[f"build={build}"], build=str(build), folder=folder)
    typed = dict(option.split("=", 1) for option in options)
    return Called(options=list(options), build=typed.get("build", "build"), folder=folder)


class _Place:
    """A folder of results and the markers beside them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def marker(self, name: str) -> Step | None:
        """What a stopped step left in place of the output `name`."""
        found = base.find(base.marker_of(self.folder / f"{name}.json"), Marker)
        return (
            Step(step=found.step or name, verdict=found.verdict, reasons=found.reasons, log=found.log)
            if found
            else None
        )

    def result(self, name: str, kind: type[T]) -> T | None:
        """A result, unless a marker overrides it."""
        return None if self.marker(name) else base.find(self.folder / f"{name}.json", kind)

    def stopped(self, names: Iterable[str]) -> list[Step]:
        """The markers of `names`."""
        return [marker for name in names if (marker := self.marker(name))]

    def every_marker(self) -> list[Step]:
        """All markers, by name."""
        found = sorted((self.folder / ".ingot").glob("*.failed.json"))
        return [marker for path in found if (marker := self.marker(path.name.removesuffix(".failed.json")))]


def _model(
    build: Path, name: str, precisions: list[str], settings: dict[str, Any] | None, base_folder: str | None
) -> Model:  # fmt: skip
    place = _Place(build / name)
    quality, domain = place.result("quality", Quality), place.result("domain", Domain)
    stopped = place.stopped(("checkpoint", "export", "reference", "quality"))
    export = _combine([*stopped, *([quality] if quality else [])]) or _not_measured("the export")
    size = None if place.marker("export") else size_bytes(build / name / "export")
    advice = place.result("recommend", Advice)
    weights = None if place.marker("checkpoint") else parameters(build / name / "checkpoint")
    rows = [_precision(build / name / precision, precision, size, weights) for precision in precisions]
    # What `recommend` would say of each; here with everything that can stop a precision, not only its gates.
    recipes = (settings or {}).get("recipes") or {}
    elsewhere = {name: recipe["target"] for name, recipe in recipes.items() if recipe.get("target", HERE) != HERE}
    rows = [replace(row, target=elsewhere.get(row.precision, HERE)) for row in rows]
    judged = recommend(precisions, {row.precision: [row] for row in rows}, export, elsewhere).precisions
    rows = [replace(row, verdict=judged[row.precision].verdict, reasons=judged[row.precision].reasons) for row in rows]
    rows = [devices.told(row) for row in rows]
    markers = place.every_marker()
    markers += [marker for precision in precisions for marker in _Place(build / name / precision).every_marker()]
    of_model, of_precision = REMARKED
    folders = [build / name / part for part in of_model]
    folders += [build / name / precision / part for precision in precisions for part in of_precision]
    asked = {precision: _Place(build / name / precision).result("verify", Verify) for precision in precisions}
    ends = [
        Remark(f"{precision}: {remark.subject}", remark.text)
        for precision, verify in asked.items()
        if verify and _belongs(verify, build / name / precision)
        for remark in verify.remarks
    ]
    told = domain if domain and _belongs(domain, place.folder) else None
    whole = _combine([export, told]) if told else export
    unadapted = _base(place, build / base_folder) if base_folder else None
    before = unadapted.domain if unadapted else None
    if before and told:
        rows = [replace(row, gain=gained(before, row.domain, told)) if row.domain else row for row in rows]
    return Model(
        name=name,
        recommended=advice.recommended if advice else None,
        reasons=advice.reasons if advice else [],
        export=Export(
            verdict=whole.verdict if whole else export.verdict, reasons=whole.reasons if whole else export.reasons,
            size_bytes=size, bits_per_weight=bits(build / name / "export", weights) if size else None,
            quality=quality, domain=told,
            gain=gained(before, told) if before and told else None,
            stale=["domain"] if domain and not told else [],
        ),
        precisions=rows,
        base=unadapted,
        failures=sorted(markers, key=lambda marker: marker.verdict != "failed"),
        remarks=list(dict.fromkeys([*(remark for folder in folders for remark in remarks.read(folder)), *ends])),
        settings=settings,
    )  # fmt: skip


def _precision(folder: Path, name: str, float_size: int | None, weights: int | None) -> Precision:
    place = _Place(folder)
    # Older results of a folder that could not be made again are about another one.
    no_onnx = place.marker("onnx") is not None
    no_package = no_onnx or place.marker("package") is not None
    quality = None if no_onnx else place.result("quality", Quality)
    deploy = None if no_package else place.result("deploy", Deploy)
    stale: list[str] = []

    def served(result: str, kind: type[Measured], *, optional: bool = False) -> Measured | None:
        """A result about the package; an optional one is told also of an earlier package, and marked."""
        found = None if no_package else place.result(result, kind)
        if found is None or _belongs(found, folder):
            return found
        stale.append(result)
        return found if optional else None

    domain, bench, verify = served("domain", Domain), served("bench", Bench), served("verify", Verify)
    stopped = place.stopped(JUDGED)
    # Not deploying may be what the user asked for; only what broke on the way there tells against the precision.
    stopped += [marker for marker in place.stopped(DELIVERED) if marker.verdict == "failed"]
    results: Sequence[Judged | None] = (quality, domain, bench, verify)
    judged = [result for result in results if result and result.verdict != "skipped"]
    verdict = _combine([*stopped, *judged]) or _not_measured(name)
    size = None if place.marker("onnx") else size_bytes(folder / "onnx")
    return Precision(
        precision=name,
        verdict=verdict.verdict,
        reasons=verdict.reasons,
        size_bytes=size,
        size_ratio=round(size / float_size, 4) if size and float_size else None,
        bits_per_weight=bits(folder / "onnx", weights) if size else None,
        notes=_notes(folder, bench, size),
        quality=quality,
        domain=domain,
        performance=bench,
        deployed=_deployed(deploy, verify),
        deployment=_outcome(place, "deploy", deploy),
        verification=_outcome(place, "verify", verify),
        apps=verify.checks if verify else [],
        performance_full=served("bench-full", BenchFull, optional=True),
        soak=served("soak", Soak, optional=True),
        edges=served("edges", Edges, optional=True),
        device=served("device", Device, optional=True),
        stale=stale,
    )


def _base(place: _Place, folder: Path) -> Base:
    """What is known of the model without its fine-tuning, whose checkpoint and export are in `folder`."""
    result = place.result("baseline", Unadapted)
    if result and _belongs(result, place.folder / BASE):
        return Base(verdict=result.verdict, reasons=result.reasons, domain=result)
    markers = _Place(folder).stopped(("checkpoint", "export"))
    markers += _Place(place.folder / BASE).stopped(("package",)) + place.stopped(("baseline",))
    told = [reason for marker in markers for reason in marker.reasons]
    return Base(verdict="skipped", reasons=told[:1] or ["the model without its fine-tuning was not asked"], domain=None)


def _belongs(result: Measured, folder: Path) -> bool:
    """Whether a result is about the package in `folder`, as far as both name their digest."""
    present = measured.digest(folder / "package")
    return result.package is None or present is None or result.package == present


def _deployed(deploy: Deploy | None, verify: Verify | None) -> Deployed | None:
    if not deploy or deploy.verdict != "passed":
        return None
    verified = verify is not None and verify.verdict == "passed"
    return Deployed(id=deploy.id, cache=deploy.cache, folder=deploy.path, verified=verified)


def _combine(parts: Sequence[Judged]) -> Outcome | None:
    """The worst verdict of `parts` and the reasons for it; None where nothing is known."""
    if not parts:
        return None
    verdict = worst(part.verdict for part in parts)
    return Outcome(verdict=verdict, reasons=because(parts, verdict))


def _not_measured(what: str) -> Outcome:
    return Outcome(verdict="skipped", reasons=[f"{what} was not measured"])


def _outcome(place: _Place, name: str, result: Judged | None) -> Outcome | None:
    found: Judged | None = place.marker(name) or result
    return Outcome(verdict=found.verdict, reasons=list(found.reasons)) if found else None


def _notes(folder: Path, bench: Bench | None, size: int | None) -> list[str]:
    """What a reader of the row should know: how weights are stored, where that is not how they are computed with."""
    weights = bench.conditions.get("weights") if bench else None
    graph = folder / "onnx" / "model.onnx"
    if weights is None and size and graph.is_file():
        from scripts.bench.conditions import of_graph

        weights = of_graph(graph).get("weights")
    return [weights] if isinstance(weights, str) and "computes in" in weights else []


def _environment(models: Sequence[Model], given: dict[str, Any] | None) -> dict[str, Any]:
    """The tools installed, and the conditions that the measurements report; `given` adds to that or overrides it."""
    from importlib.metadata import PackageNotFoundError, version

    from scripts.common.machine import fingerprint

    tools: dict[str, str | None] = {}
    for name in _TOOLS:
        try:
            tools[name] = version(name)
        except PackageNotFoundError:
            tools[name] = None
    found: dict[str, Any] = {"tools": tools, "machine": fingerprint()}
    for row in (row for model in models for row in model.precisions if row.performance):
        assert row.performance
        conditions = row.performance.conditions
        found.update({key: conditions[key] for key in ("runtime", "threads", "machine") if key in conditions})
    if "ram_bytes" in found["machine"]:  # the same once, and exactly
        found["machine"] = {key: value for key, value in found["machine"].items() if key != "memory_gib"}
    return {**found, **(given or {})}


def _is_model(model: Any) -> bool:
    return (
        isinstance(model, dict)
        and isinstance(model.get("name"), str)
        and isinstance(model.get("precisions"), list)
        and all(isinstance(name, str) for name in model["precisions"])
    )

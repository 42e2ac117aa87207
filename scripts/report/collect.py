"""Every result of a build as one plain dict, the content of report.json.

A stage leaves one JSON file; a step that broke, or had nothing to work on, leaves a marker in `.ingot/` beside the
place of its output, and then an older result that still stands there does not count. What is not there was not
measured: it is null, never a number made up. `report.schema.json` beside this file is the format.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scripts.common import json_files, manifest
from scripts.common.errors import IngotError
from scripts.quality.gates import because, worst
from scripts.quality.recommend import recommend

VERSION = 1
#: Outputs that decide what a precision is worth, in the order of the data.
JUDGED = ("onnx", "quality", "package", "domain", "bench")
#: Results about the package.
SERVED = ("domain", "bench", "deploy", "verify")
#: Measurements outside the default build: field of report.json → file.
EXTRAS = {"performance_full": "bench-full", "soak": "soak", "edges": "edges"}
_ENGINE = ("manifest.json", "provenance.json")
_TOOLS = ("olive-ai", "onnxruntime", "onnxruntime-genai", "foundry-local-sdk", "transformers", "torch", "peft")


def collect(build: Path, models: Any, environment: dict[str, Any] | None = None) -> dict[str, Any]:
    """Read everything below `build` that belongs to `models`, a list of {"name", "precisions": [name, …]}.

    A model's optional "settings" are reported as they are. Raises `IngotError` on a wrong list of models, or a result
    file that is no JSON object.
    """
    if not isinstance(models, list) or not all(_is_model(model) for model in models):
        raise IngotError("--models", f"expected a list of models, found {models!r}", 'Such as [{"name", "precisions"}]')
    reported = [_model(build, model["name"], model["precisions"]) for model in models]
    for given, model in zip(models, reported, strict=True):
        model["settings"] = given.get("settings")
    return {"version": VERSION, "models": reported, "environment": _environment(reported, environment)}


def size_bytes(folder: Path) -> int | None:
    """Bytes of the files that belong to a model; the build's own notes do not. None where there is no folder."""
    if not folder.is_dir():
        return None
    found = [path for path in folder.rglob("*") if path.is_file() and path.name not in _ENGINE]
    return sum(path.stat().st_size for path in found) or None


def accepted(path: Path) -> dict[str, Any]:
    """What `doit accept` kept: {"accepted_at", "note", "report"}. Raises `IngotError` where that can't be read."""
    try:
        value = json_files.read(path)
        kept = {"accepted_at": value["accepted_at"], "note": value["note"], "report": value["report"]}
        version = kept["report"]["version"]
    except (OSError, ValueError, KeyError, TypeError):
        raise IngotError(path, "is no accepted report", "Remove it, build, and run doit accept again") from None
    if version != VERSION:
        found = f"holds a report of version {version}; this is {VERSION}"
        raise IngotError(path, found, "Remove it, build, and run doit accept again")
    return kept


class _Place:
    """A folder of results and the markers beside them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def marker(self, name: str) -> dict[str, Any] | None:
        """What a stopped step left in place of the output `name`: verdict, reasons, log, step."""
        value = _read(self.folder / ".ingot" / f"{name}.failed.json")
        if value is None:
            return None
        return {
            "step": str(value.get("step") or name),
            "verdict": "skipped" if value.get("verdict") == "skipped" else "failed",
            "reasons": [str(reason) for reason in value.get("reasons") or []],
            "log": value.get("log"),
        }

    def result(self, name: str) -> dict[str, Any] | None:
        """A result, unless a marker overrides it."""
        return None if self.marker(name) else _read(self.folder / f"{name}.json")

    def stopped(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """The markers of `names`."""
        return [marker for name in names if (marker := self.marker(name))]

    def every_marker(self) -> list[dict[str, Any]]:
        """All markers, by name."""
        found = sorted((self.folder / ".ingot").glob("*.failed.json"))
        return [marker for path in found if (marker := self.marker(path.name.removesuffix(".failed.json")))]


def _model(build: Path, name: str, precisions: list[str]) -> dict[str, Any]:
    place = _Place(build / name)
    quality, domain = place.result("quality"), place.result("domain")
    stopped = place.stopped(("checkpoint", "export", "reference", "quality"))
    export = _combine([*stopped, *([quality] if quality else [])]) or _not_measured("the export")
    size = None if place.marker("export") else size_bytes(build / name / "export")
    advice = place.result("recommend")
    rows = [_precision(build / name / precision, precision, size) for precision in precisions]
    # What `recommend` would say of each; here with everything that can stop a precision, not only its gates.
    judged = recommend(precisions, {row["precision"]: [row] for row in rows}, export)["precisions"]
    for row in rows:
        row.update(judged[row["precision"]])
    markers = place.every_marker()
    markers += [marker for precision in precisions for marker in _Place(build / name / precision).every_marker()]
    return {
        "name": name,
        "recommended": advice["recommended"] if advice else None,
        "reasons": list(advice["reasons"]) if advice else [],
        "export": {**export, "size_bytes": size, "quality": _figures(quality), "domain": _figures(domain)},
        "precisions": rows,
        "failures": sorted(markers, key=lambda marker: marker["verdict"] != "failed"),
    }


def _precision(folder: Path, name: str, float_size: int | None) -> dict[str, Any]:
    place = _Place(folder)
    # Older results of a folder that could not be made again are about another one.
    lost = {"quality": place.marker("onnx"), **dict.fromkeys(SERVED, place.marker("onnx") or place.marker("package"))}
    quality, domain, bench, deploy, verify = (None if lost[key] else place.result(key) for key in ("quality", *SERVED))
    stopped = place.stopped(JUDGED)
    # Not deploying may be the user's wish; only what broke on the way there tells against the precision.
    stopped += [marker for marker in place.stopped(("deploy", "verify")) if marker["verdict"] == "failed"]
    judged = [result for result in (quality, domain, bench, verify) if result and result["verdict"] != "skipped"]
    verdict = _combine([*stopped, *judged]) or _not_measured(name)
    size = None if place.marker("onnx") else size_bytes(folder / "onnx")
    deployed = None
    if deploy and deploy["verdict"] == "passed":
        verified = verify is not None and verify["verdict"] == "passed"
        deployed = {"id": deploy["id"], "cache": deploy["cache"], "verified": verified}
    return {
        "precision": name,
        "size_bytes": size,
        "size_ratio": round(size / float_size, 4) if size and float_size else None,
        **verdict,
        "notes": _notes(folder, bench, size),
        "quality": _figures(quality),
        "domain": _figures(domain),
        "performance": _figures(bench),
        "deployed": deployed,
        "deployment": _outcome(place, "deploy", deploy),
        "verification": _outcome(place, "verify", verify),
        **{key: None if lost["bench"] else _extra(place, file) for key, file in EXTRAS.items()},
    }


def _extra(place: _Place, name: str) -> dict[str, Any] | None:
    """A result of outside the default build; "stale" where it tells of another package than the one that stands."""
    result = place.result(name)
    if result is None:
        return None
    result = {"reasons": [], **result}
    provenance = _json(place.folder / ".ingot" / f"{name}.provenance.json") or {}
    then = ((provenance.get("ingredients") or {}).get("inputs") or {}).get("package[0]")
    listed = manifest.read(str(place.folder / "package"))
    if then and listed and then != manifest.files_digest(listed[0]):
        result["stale"] = True
    return result


def _combine(parts: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The worst verdict of `parts` and the reasons for it; None where nothing is known."""
    if not parts:
        return None
    verdict = worst(part["verdict"] for part in parts)
    return {"verdict": verdict, "reasons": because(parts, verdict)}


def _not_measured(what: str) -> dict[str, Any]:
    return {"verdict": "skipped", "reasons": [f"{what} was not measured"]}


def _outcome(place: _Place, name: str, result: dict[str, Any] | None) -> dict[str, Any] | None:
    found = place.marker(name) or result
    return {"verdict": found["verdict"], "reasons": list(found["reasons"])} if found else None


def _figures(result: dict[str, Any] | None) -> dict[str, Any] | None:
    """A result without its verdict, which is told once, with the precision."""
    return {key: value for key, value in result.items() if key not in ("verdict", "reasons")} if result else None


def _notes(folder: Path, bench: dict[str, Any] | None, size: int | None) -> list[str]:
    """What a reader of the row should know: how weights are stored, where that is not how they are computed with."""
    weights = ((bench or {}).get("conditions") or {}).get("weights")
    graph = folder / "onnx" / "model.onnx"
    if weights is None and size and graph.is_file():
        from scripts.bench.conditions import of_graph

        weights = of_graph(graph).get("weights")
    return [weights] if isinstance(weights, str) and "computes in" in weights else []


def _environment(models: list[dict[str, Any]], given: dict[str, Any] | None) -> dict[str, Any]:
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
    rows = [row for model in models for row in model["precisions"]]
    for conditions in ((row["performance"] or {}).get("conditions") or {} for row in rows):
        found.update({key: conditions[key] for key in ("runtime", "threads", "machine") if key in conditions})
    return {**found, **(given or {})}


def _json(path: Path) -> dict[str, Any] | None:
    """The build's own note, if it can be read; one that can't be tells nothing."""
    try:
        value = json_files.read(path)
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        value = json_files.read(path)
    except ValueError as error:
        raise IngotError(path, str(error).partition(": ")[2], "Remove it, and build again") from None
    if not isinstance(value, dict):
        raise IngotError(path, "is no JSON object", "Remove it, and build again")
    if not path.name.endswith(".failed.json") and path.stem != "recommend" and "verdict" not in value:
        raise IngotError(path, "has no verdict", "Remove it, and build again")
    return value


def _is_model(model: Any) -> bool:
    return (
        isinstance(model, dict)
        and isinstance(model.get("name"), str)
        and isinstance(model.get("precisions"), list)
        and all(isinstance(name, str) for name in model["precisions"])
    )

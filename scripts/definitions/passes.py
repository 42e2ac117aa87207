"""What a recipe's passes may say, known without importing Olive: our passes and their options, Olive's by name.

The options are defined here once: the settings check them when a recipe is read, the convert stage gives them to Olive,
and the JSON schema of recipes.toml offers them to editors.
"""

from __future__ import annotations

import functools
import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from scripts.common.errors import IngotError
from scripts.common.typed import parse, place, short, suggest
from scripts.definitions import builder
from scripts.definitions.builder import ModelBuilder

#: The execution providers for which a model can be made, with how the name of the deployed model ends. The runtime
#: (SDK 2.2.1) leaves a `generic` ending out of the alias, which so covers CPU and GPU; others are part of theirs.
TARGETS = {
    "cpu": "generic-cpu",
    "cuda": "cuda-gpu",
    "dml": "directml-gpu",
    "webgpu": "generic-gpu",
    "NvTensorRtRtx": "trtrtx-gpu",
    "openvino-cpu": "openvino-cpu",
    "openvino-gpu": "openvino-gpu",
}
#: Those that compute the CPU's own graph, so that passes make a model for them; and what OpenVINO calls their devices.
OPENVINO = {"openvino-cpu": "CPU", "openvino-gpu": "GPU"}
#: Those of them that `doit device` can run, beside the Foundry runtime: on a GPU, a software adapter, Intel's devices.
DEVICES = ("webgpu", *OPENVINO)
#: The one that a model is run, measured and deployed for; for any other it is made, and judged on this one.
HERE = "cpu"

#: What Olive has recipes for, and why none is made here: each was tried beside the packages that the lock pins.
_VENDORS = {
    "openvino-npu": "the compiler for Intel's NPU is in no package for Linux, and the provider cuts the graph in three",
    "openvino": "Olive's OpenVINO passes export by optimum-intel, whose 2.2.0 wants transformers below 5.6",
    "qnn": "Olive's QNN passes compile for Qualcomm's NPU by qairt-dev, which is for Python 3.10 alone",
}

_ACCURACY = "least precision of activations: 1 float32, 2 float16, 3 bfloat16, 4 int8 (fastest on CPU), 0 unset"
_ALGORITHM = "rtn: nearest value; search: least squared error per block; gptq: least error of what the model computes"
_TOKENS = (
    "share of the vocabulary whose rows in output head and embedding keep 8 bits where head_bits are fewer: the tokens "
    "that the model says most on texts that it is calibrated on"
)

Bits = Literal[4, 8]
Names = list[str]


class StoreFloat16(Struct, forbid_unknown_fields=True, frozen=True):
    """Stores matrices as float16; the graph computes in float32 as before."""


class CacheQuantization(Struct, forbid_unknown_fields=True, frozen=True):
    """Stores keys and values in 8 bits, by scales that are calibrated: a quarter of what the context's memory takes."""


class WeightOnlyQuantization(Struct, forbid_unknown_fields=True, frozen=True):
    """Quantises matrices and the embedding in blocks."""

    bits: Annotated[Bits, Meta(description="bits of a weight")] = 4
    block_size: Annotated[Literal[16, 32, 64, 128, 256], Meta(description="weights that share one scale")] = 32
    symmetric: Annotated[bool, Meta(description="zero is the middle of the range: no zero points are stored")] = False
    algorithm: Annotated[Literal["rtn", "search", "gptq"], Meta(description=_ALGORITHM)] = "rtn"
    accuracy_level: Annotated[Literal[0, 1, 2, 3, 4], Meta(description=_ACCURACY)] = 4
    head_bits: Annotated[Bits, Meta(description="bits of the output head, and of the embedding")] = 8
    quantize_embedding: Annotated[bool, Meta(description="the embedding is quantised too, or left as it is")] = True
    half_scales: Annotated[bool, Meta(description="scales are stored as float16")] = True
    eight_bit_nodes: Annotated[Names, Meta(description="patterns of the names of MatMul nodes that get 8 bits")] = []
    float_nodes: Annotated[Names, Meta(description="patterns of the names of MatMul nodes that stay as they are")] = []
    eight_bit_tokens: Annotated[
        Annotated[float, Meta(ge=0, le=1, title="a share between 0 and 1")], Meta(description=_TOKENS)
    ] = 0

    target_bits: Annotated[
        Annotated[float, Meta(gt=2, lt=16, title="a number of bits between 2 and 16")] | None,
        Meta(description="bits a weight of the whole file: each matrix gets the bits and the block size that cost "
             "least for that, by what a calibration on texts measures"),
    ] = None  # fmt: skip


#: What `target_bits` chooses.
_CHOSEN = ("bits", "head_bits", "block_size", "symmetric", "eight_bit_nodes", "eight_bit_tokens")


class MobiusBuilder(Struct, forbid_unknown_fields=True, frozen=True):
    """Builds a float ONNX GenAI folder from a checkpoint by mobius-onnx: for a whole workflow, as ModelBuilder."""


#: Ingot's passes by name. `ModelBuilder` stands in for Olive's own of that name.
PASSES: dict[str, type[Struct]] = {
    "CacheQuantization": CacheQuantization,
    "MobiusBuilder": MobiusBuilder,
    "ModelBuilder": ModelBuilder,
    "StoreFloat16": StoreFloat16,
    "WeightOnlyQuantization": WeightOnlyQuantization,
}
#: Where each of them is. What a recipe chooses is loaded by name, and named in the key of the step that runs it.
_PLACES = {
    "CacheQuantization": "cache_pass",
    "MobiusBuilder": "mobius_pass",
    "ModelBuilder": "builder_pass",
    "StoreFloat16": "float16_pass",
    "WeightOnlyQuantization": "weightonly_pass",
}
#: The passes that start from a checkpoint, by the exporter that they run.
EXPORTERS = {"builder": "ModelBuilder", "mobius": "MobiusBuilder"}


def _of_convert(module: str) -> str:
    """A module's whole name. No key reads it from the code: a step's declaration gives it, by `modules`."""
    return f"scripts.convert.{module}"


#: What a pass that calibrates loads beside itself.
CALIBRATION = _of_convert("calibration")
#: What a pass loads beside that whose bits depend on how often a token is said.
FREQUENCY = _of_convert("frequency")
#: What a pass that chooses the bits of each matrix loads beside that.
ALLOCATION = _of_convert("allocation")


def own(kind: Any) -> str | None:
    """The name of one of our passes as it is registered; Olive finds passes whatever the case of their names."""
    return next((name for name in PASSES if isinstance(kind, str) and name.lower() == kind.lower()), None)


def module_of(name: str) -> str:
    """The module that holds the class of one of our passes."""
    return _of_convert(_PLACES[name])


def calibrates(kind: Any, options: Mapping[str, Any]) -> bool:
    """Whether a pass with these options calibrates on what the model computes for texts of its own kind."""
    chooses = options.get("algorithm") == "gptq" or by_tokens(options)
    return chooses or own(kind) == "CacheQuantization"


def by_tokens(options: Mapping[str, Any]) -> bool:
    """Whether bits depend on how often a token is said."""
    return options.get("target_bits") is not None or bool(options.get("eight_bit_tokens"))


def quantises(kind: Any, options: Mapping[str, Any]) -> bool:
    """Whether what a pass leaves is served without float32 weights; of one of Olive's that is assumed."""
    name = own(kind)
    return (
        options.get("precision") == "int4"
        if name == "ModelBuilder"
        else name not in ("MobiusBuilder", "StoreFloat16", "CacheQuantization")
    )


def bits(kind: Any, options: Mapping[str, Any]) -> float:
    """Bits of a weight that a pass leaves; of one of Olive's 8 are assumed."""
    if own(kind) == "WeightOnlyQuantization":
        return float(options.get("target_bits") or options.get("bits", 4))
    if own(kind) == "ModelBuilder":
        return {"int4": 4, "fp32": 32}.get(str(options.get("precision")), 16)
    return 16 if own(kind) == "StoreFloat16" else 32 if own(kind) else 8


def sums_floats(kind: Any, options: Mapping[str, Any]) -> bool:
    """Whether a pass adds up floats, whose sums, and so the bytes that come out, differ between processors' vectors."""
    name = own(kind)
    if name == "WeightOnlyQuantization":
        return bool(options.get("algorithm", "rtn") != "rtn") or calibrates(kind, options)
    return name != "StoreFloat16"


def modules(kind: Any, options: Mapping[str, Any]) -> Iterator[str]:
    """The project's modules that a pass is made of; none for one of Olive's."""
    if name := own(kind):
        yield module_of(name)
        if calibrates(kind, options):
            yield CALIBRATION
            if by_tokens(options):
                yield FREQUENCY
            if options.get("target_bits") is not None:
                yield ALLOCATION


@functools.cache
def olive_config() -> dict[str, Any]:
    """Olive's package configuration (its `olive_config.json`, which lists its passes), read without importing Olive."""
    spec = importlib.util.find_spec("olive")
    if spec is None or spec.origin is None:
        raise IngotError("olive-ai", "is not installed", "Run `make setup`")
    config: dict[str, Any] = json.loads((Path(spec.origin).parent / "olive_config.json").read_text(encoding="utf-8"))
    return config


def check_target(target: Any, subject: str = "recipe: target") -> str:
    """The execution provider of a recipe. Raises `IngotError` for one for which no model can be made."""
    if isinstance(target, str) and target in TARGETS:
        return target
    if str(target).casefold() != "openvino" and (why := _of_vendor(str(target))):
        raise IngotError(subject, f"nothing is made for {short(target)} yet: {why}", _allowed_targets())
    raise IngotError(subject, f"unknown execution provider {short(target)}", suggest(str(target), TARGETS))


def _of_vendor(name: str) -> str | None:
    """Why nothing is made for what is called so; None where it is not of a vendor that Olive has recipes for."""
    folded = name.casefold().replace("qairt", "qnn")
    return next((why for vendor, why in _VENDORS.items() if folded.startswith(vendor)), None)


def _allowed_targets() -> str:
    return f"Allowed: {', '.join(TARGETS)}"


def graph_for(target: str) -> str:
    """The execution provider whose graphs it computes: its own, or the CPU's."""
    return HERE if target in OPENVINO else target


def not_run(target: str) -> str:
    """What is told of a model that is made for another execution provider than this machine's."""
    return f"not run here: it is made for {target}, and was judged on the {HERE.upper()} as far as that goes"


def check_pass(kind: Any, options: Any, *, file: object = "", where: str, target: str = HERE) -> str:
    """The name of a pass as it is registered. Raises `IngotError` for an unknown pass, or wrong options of Ingot's.

    The options of Olive's own passes are known only to their classes: the convert stage checks them before it runs.
    """
    name = own(kind)
    if name is None:
        return _olive_pass(kind, place(file, where, "type"))
    given = {key: value for key, value in options.items() if value is not None}
    parse(given, PASSES[name], file=file, where=where)
    if name == "ModelBuilder":
        builder.translate(given, place(file, where), target)
    if "target_bits" in given and (beside := next((key for key in _CHOSEN if key in given), None)):
        raise IngotError(place(file, where, beside), "has no meaning beside target_bits, which chooses it",
                         "Leave one of them out")  # fmt: skip
    if given.get("eight_bit_tokens") and given.get("head_bits", 8) == 8:
        raise IngotError(place(file, where, "eight_bit_tokens"), "has no meaning beside head_bits = 8, which all have",
                         "Give head_bits = 4, or leave it out")  # fmt: skip
    return name


def _olive_pass(kind: Any, subject: str) -> str:
    known = olive_config()["passes"]
    name = next((name for name in known if isinstance(kind, str) and name.lower() == kind.lower()), None)
    if name is None:
        near = suggest(str(kind), [*known, *PASSES]).split("Allowed:")[0]
        raise IngotError(subject, f"unknown pass {short(kind)}",
                         f"{near}Of Ingot: {', '.join(sorted(PASSES))}; and those of Olive")  # fmt: skip
    if why := _of_vendor(name):
        raise IngotError(subject, f"{name} does not run beside Ingot yet: {why}", "Use another pass")
    providers = known[name].get("supported_providers", ["*"])
    if not {"*", "CPUExecutionProvider"} & set(providers):
        raise IngotError(subject, f"{name} is for {', '.join(providers)}, and only the CPU is supported yet",
                         "Use another pass")  # fmt: skip
    return str(name)

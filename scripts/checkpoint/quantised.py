"""Weights that came quantised: which tensors make up one, and what it is once it is float. Only headers are read.

What is known here is read exactly, each by its own format's definition (see `unpack` and `compressed`); whatever else
is refused by the name of its method. What a tensor is packed in is decided by tensors and config together: the files
say what lies there, the config only what their names and shapes leave open.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.checkpoint import packed
from scripts.checkpoint.headers import Tensor
from scripts.checkpoint.layout import Layout
from scripts.checkpoint.packed import FLOAT_REMEDY, Packed
from scripts.checkpoint.user_json import json_object
from scripts.common.errors import IngotError
from scripts.common.model_files import QUANTISED
from scripts.results.remarks import Remark

_READ = "bitsandbytes (4 and 8 bits), GPTQ, AWQ, fp8 and compressed-tensors are read"
#: Scales and zeros of what flows through a quantised model: they belong to its kernels, and a float model has none.
_OF_ACTIVATIONS = re.compile(
    r"\.((input|output|activation|[qkv]|prob|kv)_(scale|zero_point|global_scale|observer|g_idx)|weight_format)$"
)
_METHODS = {
    *("gptq", "awq", "auto-round", "bitsandbytes", "fp8", "fbgemm_fp8", "mxfp8", "modelopt", "compressed-tensors"),
}


@dataclass(frozen=True)
class Quantised:
    """A checkpoint's packed weights by the names that they have as floats, and all tensors that there are then.

    `held` says which file has each tensor as it came. `spare` are biases that GPTQ's packers write also for layers
    without one; `left` are tensors of no use to floats. Nothing is packed where a config says so in vain.
    """

    method: str
    packed: Mapping[str, Packed]
    tensors: dict[str, Tensor]
    held: Mapping[str, Path]
    spare: frozenset[str]
    left: tuple[str, ...]
    file: Path
    settings: Mapping[str, Any]

    def places(self) -> dict[str, Path]:
        """The file of each float tensor: of a packed one, that of its first part."""
        own = {name: next(iter(weight.parts.values())) for name, weight in self.packed.items()}
        return {name: self.held[own.get(name, name)] for name in self.tensors}

    def remarks(self) -> list[Remark]:
        """What was done to the weights."""
        if not self.packed:
            return [Remark(self.file.name, f"ignored where it says quantised ({self.method}): every tensor is float")]
        what = f"{len(self.packed)} weights de-quantised from {self.method}, {min(self.packed)} the first"
        said = [Remark("weights", what)]
        if self.left:
            more = f" and {len(self.left) - 1} more" if len(self.left) > 1 else ""
            said.append(Remark("weights", f"scales of activations left out, {self.left[0]}{more}: floats need none"))
        return said


def find_packed(config_path: Path, config: Mapping[str, Any], layout: Layout) -> Quantised | None:
    """What of a folder's weights is quantised; None where nothing is.

    Raises `IngotError` for a method that is not read here, or a weight whose parts are not as its format has them.
    """
    file, settings = _settings(config_path, config)
    said = _method(settings)
    if said and said not in _METHODS:
        raise IngotError(file, f"weights are already quantised ({said}), and {_READ}", FLOAT_REMEDY)
    if said == "compressed-tensors":
        found = packed.compressed(settings, layout)
    else:
        found = {**_grouped(file, settings, said, layout), **packed.four_bits(layout), **packed.eight_bits(layout)}
        found |= packed.scaled(settings, layout)
    if not found and not settings:
        return None
    used = {part for weight in found.values() for part in weight.parts.values()}
    left = {name for name in set(layout.tensors) - used if _OF_ACTIVATIONS.search(name)}
    tensors = {name: tensor for name, tensor in layout.tensors.items() if name not in used | left}
    tensors |= {name: weight.floats for name, weight in found.items()}
    spare = {f"{name.removesuffix('.weight')}.bias" for name, weight in found.items() if weight.kind == "gptq"}
    called = sorted({str(weight.options["called"]) for weight in found.values()}) or [said]
    shown = tuple(sorted(name for name in left if not name.endswith(".weight_format")))
    return Quantised(
        " and ".join(called), found, tensors, layout.places, frozenset(spare & set(tensors)), shown, file, settings
    )


def settings_of(config: Mapping[str, Any]) -> Any:
    """What a config says of quantisation, at the top or in its text model's part; None where it says nothing."""
    for part in (config, config.get("text_config")):
        if isinstance(part, Mapping):
            for key in ("quantization_config", "compression_config"):
                if part.get(key):
                    return part[key]
    return None


def forget(config: dict[str, Any]) -> None:
    """Take out of a config what it says of quantisation: the weights are floats now."""
    for part in (config, config.get("text_config")):
        if isinstance(part, dict):
            for key in ("quantization_config", "compression_config"):
                part.pop(key, None)


def _settings(path: Path, config: Mapping[str, Any]) -> tuple[Path, dict[str, Any]]:
    """What is said of the quantisation, and the file that says it: config.json, else a file beside it."""
    found = settings_of(config)
    if found is not None:
        if not isinstance(found, dict):
            found = f"weights are already quantised: quantization_config is {json.dumps(found)[:40]}"
            raise IngotError(path, found, FLOAT_REMEDY)
        return path, {"quant_method": "bitsandbytes" if "load_in_4bit" in found else "gptq", **found}
    for name, method in QUANTISED.items():
        if (beside := path.with_name(name)).is_file():
            return beside, {"quant_method": method, **json_object(beside, "Remove it")}
    return path, {}


def _method(settings: Mapping[str, Any]) -> str:
    said = str(settings.get("quant_method") or "")
    algorithm = str(settings.get("quant_algo") or "")
    return f"{said} {algorithm}" if said == "modelopt" and algorithm != "FP8" else said


def _grouped(file: Path, settings: Mapping[str, Any], said: str, layout: Layout) -> dict[str, Packed]:
    """Weights of GPTQ and AWQ: whole numbers packed into int32, with scales and zeros for groups of inputs."""
    weights = [name.removesuffix(".qweight") for name in layout.tensors if name.endswith(".qweight")]
    if not weights:
        return {}
    form = str(settings.get("packing_format") or "") if said == "auto-round" else ""
    if not said or (said == "auto-round" and form not in ("auto_round:auto_gptq", "auto_round:auto_awq")):
        found = f"packed as {form or 'nothing says what'}" if said else "nothing says whether by GPTQ or AWQ, and how"
        remedy = "Put the quantize_config.json there that came with it, or name the float checkpoint it was made of"
        raise IngotError(file, f"weights are already quantised ({weights[0]}.qweight): {found}", remedy)
    if said == "awq" or form.endswith("awq"):
        version = str(settings.get("version") or "gemm").lower()
        if version != "gemm":
            raise IngotError(file, f"weights are already quantised (AWQ, laid out for {version}): gemm is read",
                             FLOAT_REMEDY)  # fmt: skip
        return {f"{name}.weight": packed.awq(name, layout) for name in weights}
    form = str(settings.get("checkpoint_format") or settings.get("format") or "gptq")
    if form not in ("gptq", "gptq_v2") or settings.get("is_marlin_format"):
        found = f"weights are already quantised (GPTQ, laid out as {form if form != 'gptq' else 'marlin'})"
        raise IngotError(file, f"{found}: gptq and gptq_v2 are read", FLOAT_REMEDY)
    return {f"{name}.weight": packed.gptq(name, layout, 1 if form == "gptq" else 0) for name in weights}

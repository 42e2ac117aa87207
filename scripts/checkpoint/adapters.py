"""Is this a LoRA adapter that can be merged? What its config and headers say by themselves, before anything is loaded.

`base_model_name_or_path` in an adapter's config is only a hint: folders are renamed and models re-uploaded. Whether the
adapter fits its base is asked of peft, tensor by tensor, in `fitting`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.checkpoint import contained
from scripts.checkpoint.headers import Tensor, read_safetensors
from scripts.checkpoint.layout import PICKLES
from scripts.checkpoint.user_json import json_object
from scripts.checkpoint.weights import FLOATS, find_below, trainer_checkpoints
from scripts.common.errors import IngotError
from scripts.common.model_files import ADAPTER_FOLDERS, is_adapter_file
from scripts.results.remarks import Remark

WEIGHTS = "adapter_model.safetensors"
#: What helps where an adapter and its base do not belong together.
OTHER_BASE = "Name the model that this adapter was trained on as `source`, or train it again"
_SAVED = "Name the folder that peft's save_pretrained wrote"
_TRAIN_AGAIN = "Merge it where it was trained, and name the merged model as `source`"
#: Settings of an adapter that make of it something else than a change of weights, or one that can't be repeated here.
_REFUSED = {
    "alora_invocation_tokens": "an activated LoRA (aLoRA): it acts from certain tokens on, so it can't be merged",
    "layer_replication": "an adapter that repeats layers of its base",
    "arrow_config": "a router over other adapters (Arrow)",
    "use_bdlora": "a block-diagonal LoRA",
    "use_qalora": "a QALoRA adapter, bound to its quantised base",
    "kasa_config": "a KaSA adapter, which also changes its base",
    "velora_config": "a VeLoRA adapter",
    "monteclora_config": "a MonteCLoRA adapter, which is random",
    "megatron_config": "an adapter of Megatron's parallel layers",
}
#: Initialisations that leave the base as it is.
PLAIN = ("gaussian", "eva", "orthogonal")
#: Those that take their start out of the base's weights, and peft repeats that when it loads the adapter.
_REPEATED = ("pissa", "olora")
_WHOLE = ("use_dora", "modules_to_save", "trainable_token_indices", "lora_bias")
_MOST_RANK = 1 << 16
#: What peft 0.21 takes where a config says none.
_ALPHA = 8
#: What the names of quantised bases have in them.
_QUANTISED_BASE = re.compile(r"bnb|gptq|awq|fp8|[-_](int)?[48][-_]?bit|[-_]int[48]\b", re.IGNORECASE)


@dataclass(frozen=True)
class Adapter:
    """An adapter that could be merged: its folder, config, tensors by their names in the file, and its factor."""

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    weight: float
    remarks: tuple[Remark, ...] = ()


def trained_on_quantised(adapter: Adapter) -> list[Remark]:
    """What there is to say where an adapter's config names a quantised base, and it is merged into a float one."""
    base = adapter.config.get("base_model_name_or_path")
    if not isinstance(base, str) or not _QUANTISED_BASE.search(base.rstrip("/").rpartition("/")[2]):
        return []
    what = f"trained on quantised weights ({base}), merged into float ones, which differ a little from those"
    return [Remark(f"adapter {adapter.folder.name}", what)]


def check_adapter(path: Path, weight: float = 1.0, *, alone: bool = True) -> Adapter:
    """Read an adapter's config and header. Raises `IngotError` unless it is a LoRA adapter that can be merged.

    `weight` is the factor it will be merged with; one that is not 1 needs an adapter that is linear in it. `alone` says
    that no other adapter is merged beside it.
    """
    if not path.exists():
        raise IngotError(path, "adapter folder not found", "Correct the path in `adapters`")
    if not path.is_dir():
        kind = "a GGUF file" if path.suffix == ".gguf" else "a file"
        remedy = _SAVED
        if path.suffix == ".gguf":
            remedy += ", or merge this (llama-export-lora -m BASE --lora FILE -o MERGED) and name MERGED as `source`"
        raise IngotError(path, f"{kind}, not an adapter's folder", remedy)
    folder = adapter_folder(path)
    contained.check(path, is_adapter_file)
    file = folder / "adapter_config.json"
    config = json_object(file, _SAVED)
    if "fine_tune_type" in config and "peft_type" not in config:
        remedy = "Merge it there (mlx_lm.fuse --model BASE --adapter-path FOLDER) and name the fused model as `source`"
        raise IngotError(file, "an adapter of MLX, whose layout is its own", remedy)
    if config.get("peft_type") != "LORA":
        raise IngotError(file, f"adapter of type {config.get('peft_type')}", "Only LoRA adapters can be merged")
    _check_kind(file, config, weight, alone=alone)
    _check_numbers(file, config)
    tensors = read_safetensors(_weights(folder))
    _check_floats(folder / WEIGHTS, tensors)
    said = [] if folder == path else [Remark(folder.name, f"taken as the adapter in {path.name}")]
    if "lora_alpha" not in config:
        what = f"says no lora_alpha: {_ALPHA} is taken, as peft does; if it was trained with another, write that there"
        said.append(Remark(f"adapter {folder.name}", f"adapter_config.json {what}"))
    return Adapter(folder, config, tensors, weight, tuple(said))


def adapter_folder(path: Path) -> Path:
    """The folder that holds adapter_config.json: `path`, or the folder `adapter` in it, where Olive puts it."""
    if (path / "adapter_config.json").is_file():
        return path
    for name in ADAPTER_FOLDERS:
        if (path / name / "adapter_config.json").is_file():
            return path / name
    if (path / "config.json").is_file():
        found = "a whole model, not an adapter: it has config.json and no adapter_config.json"
        raise IngotError(path, found, "Name it as `source`, and take it out of `adapters`")
    if below := find_below(path, "adapter_config.json"):
        raise IngotError(path, "no adapter_config.json", f"Name the folder that holds it: {below}")
    if last := trainer_checkpoints(path, "adapter_config.json"):
        found = f"no adapter_config.json, but a trainer's checkpoints ({', '.join(found.name for found in last[-3:])})"
        raise IngotError(path, found, f"Name one of them in `adapters`, the last one is {last[-1]}")
    return path


def _weights(folder: Path) -> Path:
    path = folder / WEIGHTS
    if path.exists():
        return path
    if pickled := sorted(found.name for found in folder.iterdir() if found.suffix in PICKLES):
        remedy = "Pickle can run code; save the adapter again with safe_serialization=True"
        raise IngotError(folder, f"adapter weights only as pickle ({pickled[0]})", remedy)
    raise IngotError(path, "adapter weights not found", _SAVED)


def _check_floats(path: Path, tensors: dict[str, Tensor]) -> None:
    for name, tensor in sorted(tensors.items()):
        if 0 in tensor.shape:
            found = f"{name} is empty {list(tensor.shape)}, as DeepSpeed's ZeRO-3 leaves what it had spread over GPUs"
            remedy = "Save it with what was spread gathered: stage3_gather_16bit_weights_on_model_save in its config"
            raise IngotError(path, found, remedy)
        if tensor.dtype not in FLOATS:
            found = f"{name} is {tensor.dtype}, and an adapter's numbers are floats: it was quantised, or is no adapter"
            raise IngotError(path, found, "Save the adapter again in float32, float16 or bfloat16")


def _check_kind(path: Path, config: dict[str, Any], weight: float, *, alone: bool) -> None:
    if not math.isfinite(weight):
        raise IngotError(path, f"adapter weight {weight}", "Give a finite number, 1.0 for the adapter as trained")
    if weight == 0:
        raise IngotError(path, "adapter weight 0: it would change nothing", "Give another weight, or take it out")
    for key, what in _REFUSED.items():
        if config.get(key):
            raise IngotError(path, what, _TRAIN_AGAIN)
    if config.get("task_type") not in (None, "CAUSAL_LM"):
        found = f"trained for {config['task_type']}, not to generate text"
        raise IngotError(path, found, "Only adapters of task type CAUSAL_LM are merged")
    mapping = config.get("auto_mapping")
    if isinstance(mapping, dict) and mapping.get("custom_module_mapping"):
        raise IngotError(path, "maps custom modules", _TRAIN_AGAIN)
    start = config.get("init_lora_weights", True)
    if not isinstance(start, bool) and start not in PLAIN:
        if not isinstance(start, str) or not start.startswith(_REPEATED):
            remedy = "Save it as a plain LoRA: save_pretrained(…, path_initial_model_for_weight_conversion=…)"
            raise IngotError(path, f"init_lora_weights is {start!r}: its training began from a changed base", remedy)
        if weight != 1 or not alone:
            company = f"adapter weight {weight:g}" if weight != 1 else "beside another adapter"
            found = f"a {start} adapter, which changes its base as well, {company}"
            raise IngotError(path, found, "Merge such an adapter alone and with weight 1.0")
    for key in _WHOLE:
        if weight != 1.0 and config.get(key):
            raise IngotError(path, f"adapter weight {weight} with {key}", "Such an adapter merges with weight 1.0 only")


def _check_tokens(path: Path, given: Any) -> None:
    tables = [*given.values()] if isinstance(given, dict) else [given]
    if given is not None and not all(isinstance(table, list) for table in tables):
        raise IngotError(path, "trainable_token_indices is neither a list of tokens nor one for each layer", _SAVED)


def _check_numbers(path: Path, config: dict[str, Any]) -> None:
    """Ranks, alphas and patterns: what peft would compute with, or search with."""
    ranks, alphas = (config.get(key) or {} for key in ("rank_pattern", "alpha_pattern"))
    for key, pattern in (("rank_pattern", ranks), ("alpha_pattern", alphas)):
        if not isinstance(pattern, dict):
            raise IngotError(path, f"{key} is not a table of modules and numbers", _SAVED)
    for key, rank in (("r", config.get("r", 8)), *(("rank_pattern", rank) for rank in ranks.values())):
        if type(rank) is not int or not 1 <= rank <= _MOST_RANK:
            raise IngotError(path, f"{key} is {_shown(rank)} where a rank from 1 to {_MOST_RANK} is due", _SAVED)
    general = config.get("lora_alpha", _ALPHA)
    for key, alpha in (("lora_alpha", general), *(("alpha_pattern", alpha) for alpha in alphas.values())):
        if type(alpha) not in (int, float) or not abs(alpha) <= 1e9:
            raise IngotError(path, f"{key} is {_shown(alpha)} where a finite number is due", _SAVED)
    for key in ("target_modules", "exclude_modules", "layers_pattern"):
        value = config.get(key)
        names: Sequence[Any] = [value] if isinstance(value, str) else value or ()
        if not isinstance(names, list) and names:
            raise IngotError(path, f"{key} is neither a name nor a list of them", _SAVED)
        if not all(isinstance(name, str) for name in names):
            raise IngotError(path, f"{key} holds something else than names", _SAVED)
    _check_tokens(path, config.get("trainable_token_indices"))
    for pattern in (*ranks, *alphas):
        if not _is_tame(pattern):
            found = f"the pattern {_shown(pattern)} could take for ever to search with"
            raise IngotError(path, found, "Write the ranks and alphas by the modules' names instead")


def _is_tame(pattern: str) -> bool:
    """Whether a regular expression is one that can't take long: no repeated group, few repetitions."""
    repeated = re.search(r"\)\s*[*+{]", pattern)
    return len(pattern) <= 500 and not repeated and len(re.findall(r"[*+{]", pattern)) <= 3


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"

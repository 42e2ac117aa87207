"""Does a LoRA adapter fit a checkpoint? Decided from the shapes in the two headers, before anything is loaded.

`base_model_name_or_path` in an adapter's config is only a hint: folders are renamed and models re-uploaded. What must
fit are the shapes: A is [rank, inputs], B is [outputs, rank] of the base's weight [outputs, inputs].
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from scripts.checkpoint.headers import Tensor, read_safetensors
from scripts.checkpoint.weights import PICKLES, Checkpoint, json_object
from scripts.common.errors import IngotError

PREFIX = "base_model.model."
OTHER_BASE = "Name the model that this adapter was trained on as `source`, or train it again"
#: Keys of an adapter's config that make it touch fewer layers than its target modules say.
NARROWING = ("layers_to_transform", "layers_pattern", "exclude_modules", "target_parameters")
#: Endings of an adapter's tensors: for each, which dimension of it meets which of the base's weight.
PARTS = {
    "lora_A.weight": (1, 1),
    "lora_B.weight": (0, 0),
    "lora_embedding_A": (1, 0),
    "lora_embedding_B": (0, 1),
    "lora_magnitude_vector": (0, 0),
}


def check_adapter(folder: Path, base: Checkpoint, weight: float = 1.0) -> None:
    """Raise `IngotError` unless `folder` holds a whole LoRA adapter, as safetensors, that fits `base`.

    `weight` is the factor it will be merged with; one that is not 1 needs an adapter that is linear in it.
    """
    if not folder.is_dir():
        raise IngotError(folder, "adapter folder not found", "Correct the path in `adapters`")
    config = json_object(folder / "adapter_config.json", "Name the folder that peft's save_pretrained wrote")
    if config.get("peft_type") != "LORA":
        found = f"adapter of type {config.get('peft_type')}"
        raise IngotError(folder / "adapter_config.json", found, "Only LoRA adapters can be merged")
    if config.get("auto_mapping") and config["auto_mapping"].get("custom_module_mapping"):
        raise IngotError(folder / "adapter_config.json", "maps custom modules", "Merge it where it was trained")
    _check_weight(folder / "adapter_config.json", config, weight)
    tensors = read_safetensors(_weights(folder))
    modules = {_check_tensor(folder, name, tensor, base) for name, tensor in tensors.items()}
    _check_coverage(folder, config, modules, base)


def _weights(folder: Path) -> Path:
    path = folder / "adapter_model.safetensors"
    if path.exists():
        return path
    if pickled := sorted(found.name for found in folder.iterdir() if found.suffix in PICKLES):
        remedy = "Pickle can run code; save the adapter again with safe_serialization=True"
        raise IngotError(folder, f"adapter weights only as pickle ({pickled[0]})", remedy)
    raise IngotError(path, "adapter weights not found", "Name the folder that peft's save_pretrained wrote")


def _check_weight(path: Path, config: dict[str, Any], weight: float) -> None:
    if not math.isfinite(weight):
        raise IngotError(path, f"adapter weight {weight}", "Give a finite number, 1.0 for the adapter as trained")
    for key in ("use_dora", "modules_to_save", "trainable_token_indices"):
        if weight != 1.0 and config.get(key):
            raise IngotError(path, f"adapter weight {weight} with {key}", "Such an adapter merges with weight 1.0 only")


def _check_tensor(folder: Path, name: str, tensor: Tensor, base: Checkpoint) -> str:
    """Hold one tensor of the adapter against the base; returns the base's module that it belongs to."""
    module, part = _split(name)
    if part.startswith(("lora_bias", "trainable_tokens")) or part in ("lora_B.bias", "bias"):
        return module
    weight = _weight_of(module, base)
    if weight is None:
        found = f"adapter for another base: it changes {module}, which {base.path} does not have"
        raise IngotError(folder, found, OTHER_BASE)
    if part in PARTS:
        mine, theirs = PARTS[part]
        fits = tensor.shape[mine] == weight.shape[theirs]
    else:  # a module saved whole
        fits = tensor.shape == weight.shape
    if not fits:
        found = f"adapter for another base: {module} {part} is {list(tensor.shape)}, the base's {list(weight.shape)}"
        raise IngotError(folder, found, OTHER_BASE)
    return module


def _split(name: str) -> tuple[str, str]:
    """`base_model.model.M.lora_A.weight` → (`M`, `lora_A.weight`); a module saved whole → (`M`, `weight`)."""
    name = name.removeprefix(PREFIX).replace(".modules_to_save.", ".").replace(".base_layer.", ".")
    for part in (*PARTS, "lora_B.bias", "trainable_tokens_delta"):
        if name.endswith("." + part):
            return name.removesuffix("." + part).removesuffix(".token_adapter"), part
    module, _, part = name.rpartition(".")
    return module, part


def _weight_of(module: str, base: Checkpoint) -> Tensor | None:
    """The base's weight of a module, whatever stands before `layers.` in its name."""
    if exact := base.tensors.get(module + ".weight"):
        return exact
    if module == "lm_head" and base.tied:
        module = "embed_tokens"
    tail = module[module.find("layers.") :] if "layers." in module else module.rpartition(".")[2]
    same = [tensor for name, tensor in base.tensors.items() if name.endswith(f"{tail}.weight")]
    return same[0] if len(same) == 1 else None


def _check_coverage(folder: Path, config: dict[str, Any], modules: set[str], base: Checkpoint) -> None:
    """Peft adapts every module of a target's name, so one that the adapter lacks tells a base with fewer layers."""
    targets = config.get("target_modules")
    if not isinstance(targets, list) or any(config.get(key) for key in NARROWING):
        return
    ends = tuple("." + target for target in targets)
    adapted = {_layer(module) for module in modules}
    for name in sorted(base.tensors):
        module = name.removesuffix(".weight")
        if module == name or ".layers." not in module or not module.endswith(ends):
            continue
        if _layer(module) not in adapted:
            found = f"adapter for another base: it leaves {module} of {base.path} as it is"
            raise IngotError(folder, found, OTHER_BASE)


def _layer(module: str) -> str:
    return module[module.find("layers.") :]

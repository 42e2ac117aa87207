"""Do a checkpoint's tensors make up the model that its config describes? Asked of transformers, from headers alone.

The class is built on torch's `meta` device, where tensors have shapes and no numbers, and the checkpoint's headers are
loaded into it as `from_pretrained` would load the weights. What is then missing, left over or of another shape would
later be filled with zeros, ones or random numbers, and a log line that nobody reads.

Tools that wrap a model while it is saved leave their mark in the tensors' names (`_orig_mod.`, `module.`,
`base_model.model.`, `.base_layer.`, `language_model.`). Where a name that nothing asks for becomes a missing one
without such marks, and no other does, it is renamed.
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from scripts.checkpoint.headers import Tensor
from scripts.checkpoint.plausible import REMEDY
from scripts.common.errors import IngotError
from scripts.common.imports import uncollected
from scripts.common.watch import computing

#: Parts of a name that come from what was wrapped around a model, or that say only where in it the text model is.
_WRAPPERS = frozenset(
    {
        *("_orig_mod", "module", "base_model", "model", "base_layer", "language_model"),
        *("_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module", "transformer"),
    }
)
#: What older versions saved beside the weights and newer ones compute, the value head of reinforcement learning, and
#: scales for a cache in fp8: no parameter, whatever the family.
_BESIDE = re.compile(
    r"rotary_emb\.(inv_freq|cos_cached|sin_cached)$|\.(masked_bias|attn\.bias)$|(^|\.)v_head\."
    r"|attn(\.attn)?\.([qkv]|prob|kv)_scale$"
)
#: How torch says that sizes do not go together.
_MISMATCH = r"broadcast a dimension|must match the|expects split_sizes|invalid for input of size|cannot be multiplied"
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn"}


class Described:
    """A model that exists as a description only: its class, its config, and its parameters' names and shapes."""

    def __init__(self, path: Path, architecture: str, config: Mapping[str, Any]) -> None:
        self.path, self.config = path, copy.deepcopy(dict(config))
        self.kind = find_class(path, architecture)
        _check_type(path, self.kind, self.config)

    def load(self, tensors: Mapping[str, Tensor]) -> tuple[Any, dict[str, Any]]:
        """The model on `meta` with these tensors loaded into it, and transformers' account of what did not fit."""
        import torch

        state = {
            name: torch.empty(tensor.shape, dtype=getattr(torch, _DTYPES.get(tensor.dtype, "uint8")), device="meta")
            for name, tensor in tensors.items()
        }
        try:
            with computing(
                self.path, "to build the model that it describes", seconds=40, memory=1 << 30, remedy=REMEDY
            ):
                model, account = self.kind.from_pretrained(
                    None,
                    config=self.kind.config_class.from_dict(_decoded(copy.deepcopy(self.config))),
                    state_dict=state,
                    device_map={"": "meta"},
                    ignore_mismatched_sizes=True,  # they are told below, all of them, rather than raised one by one
                    output_loading_info=True,
                )
        except IngotError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a class raises at numbers that it can't be built from
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise IngotError(self.path, f"transformers can't build a model from it ({reason})", REMEDY) from None
        return model, account


def _decoded(value: Any) -> Any:
    """What JSON has no number for is written by transformers as {"__float__": "Infinity"}."""
    if isinstance(value, dict):
        if value.keys() == {"__float__"}:
            return float(value["__float__"])
        return {key: _decoded(entry) for key, entry in value.items()}
    return [_decoded(entry) for entry in value] if isinstance(value, list) else value


def find_class(path: Path, architecture: str) -> Any:
    """The class of transformers by its name."""
    with uncollected():
        import transformers

        kind = getattr(transformers, architecture, None)
    if kind is None:
        found = f"transformers {transformers.__version__} does not know {architecture}"
        raise IngotError(path, found, "Use a checkpoint of a class that it knows")
    return kind


def _check_type(path: Path, kind: Any, config: Mapping[str, Any]) -> None:
    """Tools go by `architectures` or by `model_type`: both must mean one class."""
    said, due = config.get("model_type"), kind.config_class.model_type
    if said != due:
        raise IngotError(path, f"model_type is {said!r}, but {kind.__name__} is of type {due!r}", REMEDY)


def place(
    folder: Path, described: Described, tensors: Mapping[str, Tensor], spare: Collection[str] = ()
) -> tuple[Any, dict[str, str], list[str]]:
    """Find every tensor's place: the model on `meta`, tensors that must be renamed, and those that are left out.

    `spare` are tensors that may be left out where the class has no place for them. Raises `IngotError` that names the
    first tensors which are missing, have no place or do not fit.
    """
    kept = {name: tensor for name, tensor in tensors.items() if not _BESIDE.search(name)}
    model, account = described.load(kept)
    if useless := set(spare) & set(account["unexpected_keys"]):
        kept = {name: tensor for name, tensor in kept.items() if name not in useless}
        model, account = described.load(kept)
    renamed: dict[str, str] = {}
    if account["missing_keys"] and account["unexpected_keys"]:
        renamed = unwrap(account["unexpected_keys"], account["missing_keys"])
        model, account = described.load({renamed.get(name, name): tensor for name, tensor in kept.items()})
    refuse_misfits(folder, account)
    patterns = getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()
    passed_over = {name for name in kept if any(re.search(pattern, name) for pattern in patterns)}
    passed_over -= set(renamed) | set(model.state_dict())
    return model, renamed, sorted(set(tensors) - set(kept) | passed_over)


def try_out(path: Path, model: Any) -> None:
    """Have a model on `meta` compute: shapes only, in milliseconds.

    Raises `IngotError`, naming `path`, where its class asks for tensors that do not go together at the numbers of its
    config. What `meta` itself cannot do (experts, anything that looks at numbers) says nothing.
    """
    import torch

    try:
        with torch.no_grad():
            model(input_ids=torch.zeros((1, 2), dtype=torch.int64, device="meta"))
    except Exception as error:  # noqa: BLE001 - whatever a class raises
        reason = " ".join(str(error).split())
        if re.search(_MISMATCH, reason):
            found = f"{type(model).__name__} can't compute with the sizes in it ({reason[:160]})"
            raise IngotError(path, found, REMEDY) from None


def refuse_misfits(folder: Path, account: Mapping[str, Any]) -> None:
    """Raise `IngotError` unless a load, by transformers' own account, found everything and nothing else."""
    missing, unexpected = sorted(account["missing_keys"]), sorted(account["unexpected_keys"])
    if mismatched := sorted(account["mismatched_keys"], key=lambda entry: str(entry[0])):
        name, found, due = mismatched[0]
        rest = f" (and {len(mismatched) - 1} more)" if len(mismatched) > 1 else ""
        if name == "lm_head.weight" and len(mismatched) == 1 and list(found)[1:] == list(due)[1:]:
            what = f"{name} has {found[0]} rows, and the embedding {due[0]}"
            raise IngotError(folder, what, "Give both as many: model.resize_token_embeddings(len(tokenizer))")
        raise IngotError(folder, f"{name} is {list(found)}, but its config asks for {list(due)}{rest}", REMEDY)
    if lora := [name for name in unexpected if ".lora_" in name]:
        remedy = "Save the merged model: model.merge_and_unload().save_pretrained(FOLDER)"
        raise IngotError(folder, f"holds an adapter's tensors among the weights ({lora[0]})", remedy)
    parts = []
    if missing:
        parts.append(f"the weights lack {_listed(missing)}")
    if unexpected:
        parts.append(f"the model of its config has nothing called {_listed(unexpected)}")
    if parts:
        found = ", and ".join(parts)
        remedy = "Save the checkpoint again from the tool that made it, or rename the tensors as transformers has them"
        if not missing:
            remedy = f"{REMEDY}. If it is that one, they are an addition, which no class of transformers computes"
        if missing == ["lm_head.weight"] and not unexpected:
            remedy = "If its head is its embedding, set tie_word_embeddings to true in config.json; else save it again"
        raise IngotError(folder, found, remedy)
    if account.get("error_msgs"):
        raise IngotError(folder, " ".join(str(account["error_msgs"][0]).split())[:200], "Save the checkpoint again")


def unwrap(strange: Collection[str], due: Collection[str]) -> dict[str, str]:
    """Strange names to due ones, where without wrappers both read the same and no third one does.

    Else where all that is due stands under one more prefix (`student.`, `llm.`), and under no other.
    """
    cores, asked = {core(name): name for name in due}, Counter(map(core, due))
    met = Counter(map(core, strange))
    found = {name: cores[key] for name in strange if asked[key := core(name)] == met[key] == 1}
    if found or not due:
        return found
    first = min(cores)
    prefixes = {key.removesuffix(first) for key in met if key.endswith(f".{first}")}
    whole = [prefix for prefix in prefixes if all(met[prefix + key] == 1 for key in cores)]
    if len(whole) != 1 or max(asked.values()) > 1:
        return {}
    due_by_core = {whole[0] + key: name for key, name in cores.items()}
    return {name: due_by_core[core(name)] for name in strange if core(name) in due_by_core}


def core(name: str) -> str:
    """A tensor's name without what wrappers put into it."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _listed(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more

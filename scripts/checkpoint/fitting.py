"""Does an adapter fit its base, tensor by tensor? Asked of peft, on the meta device, where tensors have no numbers.

Peft puts the adapter that its config describes into the described base; what it would then save is what the file must
hold, by full name and shape. Names that a wrapper or the adapter's own name was written into are told by what is left
without it.
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from scripts.checkpoint import added_rows
from scripts.checkpoint.adapter_names import PART, PREFIX, plain, undone
from scripts.checkpoint.adapters import OTHER_BASE, PLAIN, Adapter
from scripts.checkpoint.truth import core
from scripts.common.errors import IngotError
from scripts.common.watch import computing
from scripts.results.remarks import Remark

NAME = "default"  # what the adapter is called once it is in the model
#: Settings of an adapter that make it touch fewer modules than its targets' names say.
_NARROWING = ("layers_to_transform", "layers_pattern", "exclude_modules", "target_parameters")


@dataclass(frozen=True)
class Fit:
    """How an adapter goes into its base: under which names, with how many tokens, and whether two layers part ways.

    `targets` are the modules that get LoRA, by full name; None leaves it to the adapter's config. `untie` says that
    embedding and output head, which were one, get changes of their own.
    """

    names: dict[str, str]
    targets: tuple[str, ...] | None
    rows: int | None
    untie: bool
    remarks: tuple[Remark, ...]


def fit(adapter: Adapter, base: Any, base_path: Path) -> Fit:
    """Find a place in `base`, a transformers model of whose tensors only the shapes are looked at, for an adapter.

    Raises `IngotError` that names the first tensors which have none, which are missing or of another shape.
    """
    from peft.utils.save_and_load import get_peft_model_state_dict

    changed = {name[: part.start()] for name in adapter.tensors if (part := PART.search(name))}
    adapter, originals = undone(adapter, changed, {core(name) for name in _modules(base)})
    targets = _targets(adapter, base, base_path)
    model = blank(base)
    rows = added_rows.count(adapter, model)
    if rows:
        model.resize_token_embeddings(rows, mean_resizing=False)
    untie = _parts_ways(adapter)
    if untie:
        untie_head(model)
    wrapped = insert(model, adapter, targets, load=False)
    due = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    spare = {plain(name): value for name, value in wrapped.state_dict().items() if plain(name) not in due}
    twins = _twins(wrapped, due)
    names = _names([name for name in adapter.tensors if plain(name) not in twins], due, spare)
    names |= {name: twins[plain(name)] for name in adapter.tensors if plain(name) in twins}
    found = {names.get(name, name): name for name in adapter.tensors}
    _refuse_misfits(adapter, found, due, spare, base_path)
    if rows and rows > base.get_input_embeddings().weight.shape[0]:
        added_rows.refuse_unfilled(adapter, base, rows, apart=untie or not is_tied(base))
    remarks = _unknown(adapter)
    names = {originals.get(name, name): names.get(name, name) for name in adapter.tensors}
    if renamed := sorted(name for name, other in names.items() if name != other):
        what = f"{len(renamed)} tensors renamed as peft calls them, {renamed[0]} to {names[renamed[0]]} the first"
        remarks.append(Remark(f"adapter {adapter.folder.name}", what))
    if held := sorted(name for name in found if ".base_layer." in name):
        what = f"holds {len(held)} weights of its base, {held[0]} the first: as in peft, they take the base's place"
        remarks.append(Remark(f"adapter {adapter.folder.name}", what))
    if rows:
        what = f"brings tokens of its own: the embedding gets {rows} rows"
        remarks.append(Remark(f"adapter {adapter.folder.name}", what))
    return Fit(names, targets, rows, untie, tuple(remarks))


def fit_all(adapters: Sequence[Adapter], base: Any, base_path: Path) -> list[Fit]:
    """How each adapter goes into the base, if all of them can go into one."""
    fits = [fit(adapter, base, base_path) for adapter in adapters]
    _refuse_overlaps(adapters, fits)
    return fits


def _refuse_overlaps(adapters: Sequence[Adapter], fits: Sequence[Fit]) -> None:
    """Raise `IngotError` where two adapters change one module and one of them does not just add to it.

    A module saved whole replaces what another adapter did, and DoRA scales by what the weight was in training: with
    either, the result would depend on the order.
    """
    touched, alone = [], []
    for adapter, fit in zip(adapters, fits, strict=True):
        names = {plain(fit.names.get(name, name)).removeprefix(PREFIX) for name in adapter.tensors}
        added = {PART.sub("", name) for name in names if PART.search(name)}
        modules = {name.rpartition(".")[0] for name in names if not PART.search(name)}
        whole = {name.removesuffix(".token_adapter").removesuffix(".base_layer") for name in modules}
        touched.append(added | whole)
        alone.append(added | whole if adapter.config.get("use_dora") else whole)
    for first, single in enumerate(alone):
        for second, others in enumerate(touched):
            if first != second and (both := sorted(single & others)):
                how = "scales it as a whole (DoRA)" if adapters[first].config.get("use_dora") else "holds it whole"
                found = f"changes {both[0]}, which {adapters[second].folder.name} changes too, and {how}"
                raise IngotError(adapters[first].folder, found, "Merge adapters together that change different modules")


def insert(model: Any, adapter: Adapter, targets: tuple[str, ...] | None, *, load: bool) -> Any:
    """`model` with the adapter's modules in it: to load into, or else on meta, for their names and shapes."""
    import torch
    from peft import LoraConfig, PeftModel

    known = {field.name for field in fields(LoraConfig)} - {"auto_mapping", "eva_config", "loftq_config"}
    settings = {key: value for key, value in adapter.config.items() if key in known}
    if targets is not None:
        settings |= dict.fromkeys(("exclude_modules", "layers_to_transform", "layers_pattern"))
        settings["target_modules"] = list(targets)
    start = settings.get("init_lora_weights", True)
    if not load or isinstance(start, bool) or start in PLAIN:
        settings["init_lora_weights"] = False  # every number is loaded: none need be computed
    settings |= {"inference_mode": True, "task_type": "CAUSAL_LM"}
    try:
        with _inserting(adapter, load), torch.device("cpu" if load else "meta"):
            return PeftModel(model, LoraConfig(**settings), NAME, low_cpu_mem_usage=not load)
    except (ValueError, TypeError, RuntimeError, KeyError, IndexError, AttributeError, re.error) as error:
        reason = " ".join(str(error).split())[:200]
        path = adapter.folder / "adapter_config.json"
        raise IngotError(path, f"peft can't put it into this base ({reason})", OTHER_BASE) from None


def _inserting(adapter: Adapter, load: bool) -> AbstractContextManager[None]:
    """Watch while peft searches the modules that the adapter's config means; to load takes what the weights take."""
    if load:
        return nullcontext()
    path = adapter.folder / "adapter_config.json"
    return computing(path, "to find the modules that it means", seconds=40, memory=1 << 30, remedy=OTHER_BASE)


def _modules(base: Any) -> dict[str, Any]:
    """What of a model has weights, by full name."""
    return {name: module for name, module in base.named_modules() if getattr(module, "weight", None) is not None}


def _unknown(adapter: Adapter) -> list[Remark]:
    """What the adapter's config holds that this peft has no word for; options that are off say nothing."""
    from peft import LoraConfig, __version__

    strange = set(adapter.config) - {field.name for field in fields(LoraConfig)}
    if said := sorted(key for key in strange if adapter.config[key]):
        what = f"peft {__version__} does not know {', '.join(said)} in adapter_config.json"
        return [Remark(f"adapter {adapter.folder.name}", what)]
    return []


def blank(model: Any) -> Any:
    """The model again, on the meta device, with what is tied still tied."""
    import torch

    with torch.device("meta"):
        other = type(model)(copy.deepcopy(model.config))
    if is_tied(model):
        other.tie_weights()
    else:
        untie_head(other)
    return other


def is_tied(model: Any) -> bool:
    """Whether a model's output head is its embedding."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    return head is None or head.weight is embedding.weight


def untie_head(model: Any) -> None:
    """Give the head weights of its own. Tied, a change trained for one of the two would be merged into both."""
    import torch

    if is_tied(model):
        head = model.get_output_embeddings()
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
        model.config.tie_word_embeddings = False


def _targets(adapter: Adapter, base: Any, base_path: Path) -> tuple[str, ...] | None:
    """The modules that the adapter's tensors change, by their full names in the base.

    A stranger's regular expressions are not searched with: what an adapter changes, its tensors' names say.
    """
    if adapter.config.get("target_parameters"):
        return None
    modules = _modules(base)
    cores = Counter(map(core, modules))
    by_core = {core(name): name for name in modules if cores[core(name)] == 1}
    targets = set()
    for tensor in sorted(adapter.tensors):
        if not (part := PART.search(tensor)):
            continue
        asked = tensor[: part.start()].removeprefix(PREFIX)
        name = asked if asked in modules else by_core.get(core(asked))
        if name is None:
            found = f"adapter for another base: it changes {asked}, which {base_path} does not have"
            raise IngotError(adapter.folder, found, OTHER_BASE)
        targets.add(name)
    _check_coverage(adapter, modules, targets, base_path)
    return tuple(sorted(targets))


def _check_coverage(adapter: Adapter, modules: Mapping[str, Any], targets: Collection[str], base_path: Path) -> None:
    """Peft adapts every module of a target's name, so one that the adapter lacks tells a base with fewer layers."""
    wanted = adapter.config.get("target_modules")
    if any(adapter.config.get(key) for key in _NARROWING) or not (isinstance(wanted, list) or wanted == "all-linear"):
        return
    ends = None if wanted == "all-linear" else tuple("." + target for target in wanted)
    for name, module in modules.items():
        meant = type(module).__name__ == "Linear" if ends is None else name.endswith(ends)
        if ".layers." in name and meant and name not in targets:
            found = f"adapter for another base: it leaves {name} of {base_path} as it is"
            raise IngotError(adapter.folder, found, OTHER_BASE)


def _parts_ways(adapter: Adapter) -> bool:
    """Whether an adapter has its own change, LoRA or whole, for the output head or the embedding alone."""
    if adapter.config.get("ensure_weight_tying"):
        return False
    saved = tuple(adapter.config.get("modules_to_save") or ())
    for name in adapter.tensors:
        if "token_adapter" in name or "trainable_tokens" in name:
            continue
        layer = next((layer for layer in ("lm_head", "embed_tokens") if f".{layer}." in name), None)
        if layer and (PART.search(name) or layer in saved or ".modules_to_save." in name):
            return True
    return False


def _names(have: Collection[str], due: Collection[str], spare: Collection[str]) -> dict[str, str]:
    """The names in the file to those that are due; one that is spare, of the base itself, is its own."""
    strange = [name for name in have if name not in due and name not in spare]
    missing = [name for name in due if name not in have]
    cores, asked = {core(plain(name)): name for name in missing}, Counter(core(plain(name)) for name in missing)
    met = Counter(core(plain(name)) for name in strange)
    return {name: cores[key] for name in strange if asked[key := core(plain(name))] == met[key] == 1}


def _twins(wrapped: Any, due: Collection[str]) -> dict[str, str]:
    """Names of what is tied, and is due under another name: peft saves it under both with the embedding."""
    names: dict[int, list[str]] = {}
    for name, value in wrapped.named_parameters(remove_duplicate=False):
        names.setdefault(id(value), []).append(plain(name))
    pairs = [(name, known) for group in names.values() for known in group if known in due for name in group]
    return {name: known for name, known in pairs if name not in due}


def _refuse_misfits(
    adapter: Adapter, found: Mapping[str, str], due: Mapping[str, Any], spare: Mapping[str, Any], base_path: Path
) -> None:
    for name, original in sorted(found.items()):
        target = due.get(name, spare.get(name))
        if target is None:
            what = f"adapter for another base: nothing in {base_path} takes its tensor {original}"
            raise IngotError(adapter.folder, what, OTHER_BASE)
        shape = adapter.tensors[original].shape
        if shape != tuple(target.shape):
            what = f"adapter for another base: {original} is {list(shape)}, and {list(target.shape)} is due"
            raise IngotError(adapter.folder, what, OTHER_BASE)
    if missing := sorted(set(due) - set(found)):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        what = f"its config asks for {missing[0]}{more}, which its weights lack"
        raise IngotError(adapter.folder, what, "Save the adapter again: model.save_pretrained(FOLDER)")

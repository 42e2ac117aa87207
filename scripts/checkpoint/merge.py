"""Merge LoRA adapters into a model in float32: weight + scale · alpha / rank · B · A.

In float32 because a step of fine-tuning is often smaller than what bfloat16 can add to a weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.checkpoint import fitting
from scripts.checkpoint.adapters import OTHER_BASE, WEIGHTS, Adapter
from scripts.checkpoint.spilled import Spill
from scripts.common.errors import IngotError

#: Size limit of one written weights file; fixed, because it decides which tensor goes into which file.
SHARD = "4GB"


def merge(model: Any, adapters: Sequence[Adapter], fits: Sequence[fitting.Fit], spill: Spill) -> Any:
    """Merge each adapter, scaled by its weight, into `model` and return the model; the order does not matter.

    `spill` holds the model's weights: what is merged goes into its files.

    Raises `IngotError` for an adapter that after all changes nothing, or whose sum with the model is not finite.
    """
    rows = max((fit.rows for fit in fits if fit.rows), default=None)
    if rows:
        model.resize_token_embeddings(rows, mean_resizing=False)
    for adapter, fit in zip(adapters, fits, strict=True):
        print(f"checkpoint: merging {adapter.folder.name} with weight {adapter.weight:g}", flush=True)
        if fit.untie:
            fitting.untie_head(model)
        before = _fingerprints(model)
        try:
            wrapped = loaded(model, adapter, fit)
            spill.keep_merged(wrapped)
            model = wrapped.merge_and_unload(safe_merge=True)
        except ValueError as error:
            remedy = "Check that its training did not diverge"
            raise IngotError(adapter.folder, f"does not merge: {error}", remedy) from None
        except (RuntimeError, NotImplementedError) as error:
            reason = " ".join(str(error).split())
            remedy = "Serve it where it was trained, or train one without that option"
            raise IngotError(adapter.folder, f"peft can't merge it ({reason})", remedy) from None
        after = _fingerprints(model)
        if not any(after[name] != before.get(name) for name in after):
            found = "changes nothing: merged, every weight is what it was before"
            raise IngotError(adapter.folder, found, "Name the adapter as it was after training, or take it out")
    return model


def loaded(model: Any, adapter: Adapter, fit: fitting.Fit) -> Any:
    """Peft's model: `model` with the adapter in it, every tensor of its file in place, scaled by its weight."""
    from peft.tuners.lora import LoraLayer
    from peft.utils.save_and_load import set_peft_model_state_dict
    from safetensors.torch import load_file

    wrapped = fitting.insert(model, adapter, fit.targets, load=True)
    state = {fit.names.get(name, name): value for name, value in load_file(adapter.folder / WEIGHTS).items()}
    result = set_peft_model_state_dict(wrapped, state, fitting.NAME)
    if result.unexpected_keys:
        found = f"peft found no place for {result.unexpected_keys[0]}"
        raise IngotError(adapter.folder, found, OTHER_BASE)
    if adapter.weight != 1:
        for module in wrapped.modules():
            if isinstance(module, LoraLayer):
                module.set_scale(fitting.NAME, adapter.weight)
    return wrapped


def save(model: Any, folder: Path) -> bool:
    """Write config, generation config and safetensors, deterministically; returns whether the head is tied.

    An adapter may have told the output head from the embedding; then both are written and the config says so.
    """
    tied = fitting.is_tied(model)
    model.config.tie_word_embeddings = tied
    model.save_pretrained(folder, max_shard_size=SHARD)
    for path in folder.glob("*.safetensors"):  # safetensors makes them readable for their owner alone
        path.chmod(0o644)
    return tied


def _fingerprints(model: Any) -> dict[str, bytes]:
    """A digest of each parameter's bytes."""
    import torch
    from blake3 import blake3

    parameters = ((name, value.detach().contiguous().flatten()) for name, value in model.named_parameters())
    return {name: blake3(memoryview(value.view(torch.uint8).numpy())).digest() for name, value in parameters}

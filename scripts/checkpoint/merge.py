"""Load a checkpoint in float32 and merge LoRA adapters into it: weight + scale · alpha / rank · B · A.

In float32 because a step of fine-tuning is often smaller than what bfloat16 can add to a weight.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from scripts.checkpoint.headers import read_safetensors
from scripts.checkpoint.weights import Checkpoint
from scripts.common import quiet
from scripts.common.errors import IngotError

#: Size limit of one written weights file; fixed, because it decides which tensor goes into which file.
SHARD = "4GB"


def load(checkpoint: Checkpoint) -> Any:
    """The model in float32, as transformers reads it; out of GGUF its weights are de-quantised."""
    _be_quiet()
    import torch
    import transformers

    kind = getattr(transformers, checkpoint.architecture, None)
    if kind is None:
        found = f"transformers {transformers.__version__} does not know {checkpoint.architecture}"
        raise IngotError(checkpoint.path, found, "Merge the adapter where the model was trained")
    path = checkpoint.path.resolve()
    if path.is_dir():
        return kind.from_pretrained(path, dtype=torch.float32, local_files_only=True)
    model = kind.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32, local_files_only=True)
    _forget_quantizer(model)
    return model


@contextmanager
def parsed_once() -> Iterator[None]:
    """Remember what the gguf package answers while model and tokenizer are loaded out of one file.

    Transformers 5.23 parses the whole header once for the config, once for the weights and once for the tokenizer, and
    draws up the same table of tensor names for every module: 12 s of the 27 that a model of 135M takes.
    """
    import gguf

    pure = {name: getattr(gguf, name) for name in ("GGUFReader", "get_tensor_name_map")}
    for name, function in pure.items():
        setattr(gguf, name, cache(function))
    try:
        yield
    finally:
        for name, function in pure.items():
            setattr(gguf, name, function)


def load_gguf_tokenizer(path: Path, context: int | None) -> Any:
    """The tokenizer inside a GGUF file, with its special tokens and chat template.

    Transformers 5.23 gives up what `tokenizer.ggml.pre` says on splitting digits before runs of blanks. That is left
    so: genai 0.18's tokenizer does not know that split either, and training, judging and serving must agree.
    """
    _be_quiet()
    from transformers import AutoTokenizer

    path = path.resolve()
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
    if context:
        tokenizer.model_max_length = context
    for key in ("is_local", "local_files_only", "name_or_path"):  # how it was loaded is not part of it
        tokenizer.init_kwargs.pop(key, None)
    return tokenizer


def merge(model: Any, adapters: Sequence[Path], weights: Sequence[float]) -> Any:
    """Merge each adapter, scaled by its weight, into `model` and return the model; the order does not matter."""
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer

    for adapter, weight in zip(adapters, weights, strict=True):
        print(f"checkpoint: merging {adapter.name} with weight {weight:g}", flush=True)
        if _tells_apart(adapter):
            _untie(model)
        adapted = PeftModel.from_pretrained(model, str(adapter), torch_device="cpu", local_files_only=True)
        for module in adapted.modules():
            if isinstance(module, LoraLayer):
                module.set_scale("default", weight)
        try:
            model = adapted.merge_and_unload(safe_merge=True)
        except ValueError as error:
            raise IngotError(adapter, f"does not merge: {error}", "Check that its training did not diverge") from None
    return model


def save(model: Any, folder: Path) -> bool:
    """Write config, generation config and safetensors, deterministically; returns whether the head is tied.

    An adapter may have told the output head from the embedding; then both are written and the config says so.
    """
    tied = _is_tied(model)
    model.config.tie_word_embeddings = tied
    model.save_pretrained(folder, max_shard_size=SHARD)
    for path in folder.glob("*.safetensors"):  # safetensors makes them readable for their owner alone
        path.chmod(0o644)
    return tied


def _tells_apart(adapter: Path) -> bool:
    """Whether an adapter has its own change, LoRA or whole, for the output head or the embedding."""
    names = read_safetensors(adapter / "adapter_model.safetensors")
    return any(("lm_head." in name or "embed" in name) and "token_adapter" not in name for name in names)


def _untie(model: Any) -> None:
    """Give the head weights of its own. Tied, a change trained for one of the two would be merged into both."""
    import torch

    if _is_tied(model):
        head = model.get_output_embeddings()
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
        model.config.tie_word_embeddings = False


def _is_tied(model: Any) -> bool:
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    return head is None or head.weight.data_ptr() == embedding.weight.data_ptr()


def _forget_quantizer(model: Any) -> None:
    """Transformers 5.23 marks a model out of quantised GGUF as quantised and then refuses to save its floats."""
    model.hf_quantizer = None
    for name in ("is_quantized", "quantization_method", "_is_quantized_training_enabled"):
        if name in vars(model):
            delattr(model, name)
    for name in ("quantization_config", "_name_or_path", "_model_name_or_path"):
        if name in vars(model.config):
            delattr(model.config, name)


def _be_quiet() -> None:
    """No progress bars, no advice, no network: this output is a log."""
    quiet.silence()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|peft")
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()

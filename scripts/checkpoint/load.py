"""Load a checkpoint with transformers, and believe its account of it: nothing missing, nothing left over.

Transformers fills what a checkpoint lacks with zeros, ones or random numbers and says so in a log line. Every stage
that loads a model does it through here.
"""

from __future__ import annotations

import math
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scripts.checkpoint.layout import find_weights
from scripts.checkpoint.truth import refuse_misfits
from scripts.common import json_files, quiet
from scripts.common.imports import uncollected


def load(kind: Any, folder: Path, **options: Any) -> Any:
    """The model in `folder`, of a class of transformers or an Auto class. Raises `IngotError` unless all fits."""
    model, account = kind.from_pretrained(folder, local_files_only=True, output_loading_info=True, **options)
    refuse_misfits(folder, account)
    return model


def load_as_stored(kind: Any, folder: Path, **options: Any) -> Any:
    """`load`, with every weight mapped as the files hold it where transformers can, else as float32; none is rounded.

    Most weights have one type: that is the model's, and what is stored otherwise becomes float32. Raises `IngotError`.
    """
    import torch

    common = _most_common_type(folder)
    with none_rounded(folder):
        model = load(kind, folder, dtype=common, **options)
    exact = {_tail(name) for name, value in model.state_dict().items() if value.dtype == torch.float32}
    if _stored_otherwise(folder, common) <= exact:
        return model
    return load(kind, folder, dtype=torch.float32, **options)  # one has another name in the model, and may be rounded


def _most_common_type(folder: Path) -> Any:
    """The type that most bytes of the weights in `folder` are of, of those that fit into a float32."""
    import torch

    if "quantization_config" in json_files.read(folder / "config.json"):
        return torch.float32
    sizes: Counter[str] = Counter()
    for tensor in find_weights(folder).tensors.values():
        sizes[tensor.dtype] += math.prod(tensor.shape)
    [(most, _)] = sizes.most_common(1)
    return {"BF16": torch.bfloat16, "F16": torch.float16}.get(most, torch.float32)


def _stored_otherwise(folder: Path, kind: Any) -> set[str]:
    """The tails of the weights in `folder` that are of another type than `kind`, and are numbers."""
    import torch

    types = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    stored = ((name, types.get(tensor.dtype)) for name, tensor in find_weights(folder).tensors.items())
    return {_tail(name) for name, found in stored if found not in (None, kind)}


@contextmanager
def none_rounded(folder: Path) -> Iterator[None]:
    """Have transformers load meanwhile as float32 what `folder` stores otherwise than its config says.

    Norms in float32 beside matrices in bfloat16 would be rounded to the config's one type, and so would a checkpoint in
    float32 or float16 whose config says bfloat16.
    """
    import torch
    from transformers import PreTrainedModel

    original = PreTrainedModel._get_dtype_plan

    def plan(self: Any, dtype: Any) -> dict[str, Any]:
        return {**original(self, dtype), **dict.fromkeys(sorted(_stored_otherwise(folder, dtype)), torch.float32)}

    PreTrainedModel._get_dtype_plan = plan
    try:
        yield
    finally:
        PreTrainedModel._get_dtype_plan = original


def _tail(name: str) -> str:
    """What a tensor is called in whichever layer, as transformers' pattern for it (`layers.*.layer_scalar`); widening
    more of that name than was asked for does no harm.
    """
    parts = ["*" if part.isdecimal() else part for part in name.split(".")]
    words = [at for at, part in enumerate(parts) if part != "*"]
    return ".".join(parts[words[-2:][0] if words else 0 :])


@contextmanager
def all_loads_checked() -> Iterator[None]:
    """Hold every model that some library loads meanwhile, by `from_pretrained`, against its account likewise."""
    from transformers import PreTrainedModel

    original = vars(PreTrainedModel)["from_pretrained"]  # the class method itself, bound to no class

    def checked(cls: Any, /, path: Any, *args: Any, output_loading_info: bool = False, **options: Any) -> Any:
        model, account = original.__func__(cls, path, *args, output_loading_info=True, **options)
        refuse_misfits(Path(str(path)), account)
        return (model, account) if output_loading_info else model

    PreTrainedModel.from_pretrained = classmethod(checked)
    try:
        yield
    finally:
        PreTrainedModel.from_pretrained = original


def forget_quantizer(model: Any) -> None:
    """Make of a model whose weights were de-quantised while it was loaded one that can be saved as what it is.

    Transformers 5.23 marks it as quantised still and then refuses to save its floats, or (MXFP4) saves them under the
    names of the quantised blocks.
    """
    model.hf_quantizer = None
    for name in ("is_quantized", "quantization_method", "_is_quantized_training_enabled"):
        if name in vars(model):
            delattr(model, name)
    for name in ("quantization_config", "_name_or_path", "_model_name_or_path"):
        if name in vars(model.config):
            delattr(model.config, name)


def be_quiet() -> None:
    """No progress bars, no advice, no network: what is printed here is a log."""
    quiet.silence()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|peft")
    warnings.filterwarnings("ignore", category=UserWarning, module="peft")
    with uncollected():
        import torch  # noqa: F401 - whoever wants it quiet needs it next
        from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()

"""Run a checkpoint in float32 while holding one layer of it in float32, whatever the whole weighs.

The weights stay in the checkpoint's files, mapped, as they are stored. While a layer of the model runs, its parameters
are float32 copies in buffers that all layers of its shape share; a parameter that is float32 in the file is used where
it is mapped. Outside of its layer's turn a parameter is NaN, so that a model which reaches for one past its module's
own call gives no number at all rather than a wrong one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scripts.checkpoint.load import load_as_stored


def load_streamed(kind: Any, checkpoint: Path) -> Any:
    """The model in `checkpoint`, of the transformers class `kind`, to be called as any other.

    Its logits are those of the same class in float32. Raises `IngotError` unless the files hold all of it.
    """
    import torch
    from accelerate import init_empty_weights
    from transformers.initialization import no_init_weights

    stored = load_as_stored(kind, checkpoint, attn_implementation="eager").eval()
    config = stored.config
    with init_empty_weights(), no_init_weights():
        model = type(stored)._from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    _take_buffers(model, stored)
    buffers = _Buffers()
    for prefix, module, whole in _turns(model):
        _Turn(module, stored.get_submodule(prefix), whole, buffers)
    return model


def _take_buffers(model: Any, stored: Any) -> None:
    """Buffers that a checkpoint carries come from it; what a model computes by itself it has computed in float32."""
    saved, parameters = stored.state_dict(keep_vars=True), dict(stored.named_parameters(remove_duplicate=False))
    for name, value in saved.items():
        if name not in parameters:
            buffer = model.get_buffer(name)
            buffer.copy_(value)


def _turns(module: Any, prefix: str = "", listed: bool = False) -> Iterator[tuple[str, Any, bool]]:
    """Each module whose parameters come and go with its call: (name, module, whether those below it do so too)."""
    import torch

    if listed and any(True for _ in module.parameters()):
        yield prefix, module, True
        return
    if module._parameters:
        yield prefix, module, False
    of_list = isinstance(module, torch.nn.ModuleList)
    for name, child in module.named_children():
        yield from _turns(child, f"{prefix}.{name}" if prefix else name, of_list)


class _Buffers:
    """Float32 tensors that are lent again and again: fresh memory costs more than the copy into it."""

    def __init__(self) -> None:
        self._free: dict[Any, list[Any]] = defaultdict(list)

    def take(self, value: Any) -> Any:
        """`value` as float32: itself where it is that already, else a copy in a buffer."""
        import torch

        if value.dtype == torch.float32:
            return value
        free = self._free[value.shape]
        buffer = free.pop() if free else torch.empty(value.shape, dtype=torch.float32)
        return buffer.copy_(value)

    def give_back(self, value: Any, origin: Any) -> None:
        if value is not origin:
            self._free[value.shape].append(value)


class _Turn:
    """Gives a module its parameters before each call and takes them away after it."""

    def __init__(self, module: Any, stored: Any, whole: bool, buffers: _Buffers) -> None:
        import torch

        self._buffers = buffers
        owners = list(module.named_modules()) if whole else [("", module)]
        self._places = [
            (owner, name, stored.get_submodule(path)._parameters[name].detach())
            for path, owner in owners
            for name, value in owner._parameters.items()
            if value is not None
        ]
        nothing = torch.tensor(float("nan"))
        self._absent = {id(value): nothing.expand(value.shape) for _, _, value in self._places}
        self._lent: list[Any] = []
        self._take_away()
        if type(module) is torch.nn.Embedding:  # its rows are what is asked for, not the table
            table = self._places[0][2]
            if table.dtype != torch.float32:
                module._parameters["weight"] = _frozen(table)
                module.register_forward_hook(lambda _module, _given, result: result.float())
                return
        module.register_forward_pre_hook(self._give)
        module.register_forward_hook(self._end, always_call=True)

    def _give(self, *_: Any) -> None:
        for owner, name, value in self._places:
            self._lent.append(self._buffers.take(value))
            owner._parameters[name] = _frozen(self._lent[-1])

    def _end(self, *_: Any) -> None:
        for lent, (_, _, value) in zip(self._lent, self._places, strict=True):
            self._buffers.give_back(lent, value)
        self._lent.clear()
        self._take_away()

    def _take_away(self) -> None:
        for owner, name, value in self._places:
            owner._parameters[name] = _frozen(self._absent[id(value)])


def _frozen(value: Any) -> Any:
    import torch

    return torch.nn.Parameter(value, requires_grad=False)

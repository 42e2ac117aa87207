"""Float32 weights that live in files of a scratch folder: what is merged weighs on the disk, not on the memory.

Loading maps a checkpoint's weights as they are stored, and costs no memory. Each is then written to a file of its own
as float32, and the parameter becomes a shared mapping of that file, whose pages the system writes back and takes away
where memory gets short. A weight that an adapter replaces moves into a file likewise, one matrix at a time.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from scripts.checkpoint.load import load_as_stored


class Spill:
    """The files of one model's weights, in the new folder `folder`, which must stay until the model is gone."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        # By a parameter's id: the parameter, so that no other gets that id, and its mapped file.
        self._mapped: dict[int, tuple[Any, Any]] = {}
        self._numbers = itertools.count()  # a parameter that was resized gets a second file

    def load(self, kind: Any, checkpoint: Path) -> Any:
        """The model in `checkpoint`, of transformers' class `kind`, in float32. Raises `IngotError` unless all fits."""
        return self.take(load_as_stored(kind, checkpoint))

    def take(self, model: Any) -> Any:
        """Move all weights of `model` into files, as float32, and return it."""
        import torch

        for module in model.modules():
            self.keep(module)
        for settings in (model.config, model.config.get_text_config()):
            settings.dtype = torch.float32
        return model

    def keep(self, module: Any) -> None:
        """Move the module's own parameters into files, where they aren't there yet; its buffers become float32."""
        for parameter in module._parameters.values():
            if parameter is not None and parameter.is_floating_point() and parameter.numel():
                parameter.data = self._written(parameter)
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.is_floating_point():
                module._buffers[name] = buffer.float()

    def keep_merged(self, model: Any) -> None:
        """Have each layer of a peft model move what it merges into its file as soon as it has merged it."""
        from peft.tuners.tuners_utils import BaseTunerLayer

        for module in model.modules():
            if isinstance(module, BaseTunerLayer):
                module.merge = self._then_kept(module, module.merge)

    def _then_kept(self, module: Any, merge: Any) -> Any:
        def merged(*given: Any, **options: Any) -> None:
            merge(*given, **options)
            self.keep(module.get_base_layer())

        return merged

    def _written(self, parameter: Any) -> Any:
        """The parameter's mapped file, with its present value in it."""
        import torch

        value = parameter.data
        _, mapped = self._mapped.get(id(parameter), (None, None))
        if mapped is None or mapped.shape != value.shape:
            path = self._folder / f"{next(self._numbers)}.bin"
            mapped = torch.from_file(str(path), shared=True, size=value.numel(), dtype=torch.float32).view(value.shape)
            self._mapped[id(parameter)] = parameter, mapped
        return mapped if mapped.data_ptr() == value.data_ptr() else mapped.copy_(value)

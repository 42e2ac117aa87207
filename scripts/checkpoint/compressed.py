"""Around compressed-tensors 0.20: its weights as floats, by its own library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.compressors.format import infer_module_format
from compressed_tensors.quantization import QuantizationConfig
from compressed_tensors.utils.match import match_name


class Schemes:
    """What a config says of how its weights are compressed. Raises `ValueError` where the library can't read that."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        known = {key: value for key, value in settings.items() if key in QuantizationConfig.model_fields}
        self._config = QuantizationConfig.model_validate(known)

    def decompress(self, module: str, parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The float weight of `module`, of its tensors by their last words; `ValueError` where no scheme is for it."""
        groups = list(self._config.config_groups.values())
        named = [group for group in groups if any(match_name(module, target) for target in group.targets)]
        by_class = [group for group in groups if not any(target.startswith("re:") for target in group.targets)]
        scheme = next(iter(named or by_class), None)
        if scheme is None or scheme.weights is None:
            raise ValueError(f"no group of its config is for {module}")
        form = scheme.format or self._config.format
        if form in (None, "mixed-precision", "dense"):
            form = infer_module_format(torch.nn.Linear, scheme)
        compressor = BaseCompressor.get_value_from_registry(getattr(form, "value", form))
        return compressor.decompress(dict(parts), scheme)["weight"].float()

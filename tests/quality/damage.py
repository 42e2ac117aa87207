"""Exports that were converted wrongly, as real bugs do it: the file loads, generates, and is another model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

Tensors = dict[str, np.ndarray[Any, Any]]


def copy(export: Path, folder: Path, change: Callable[[Tensors], None]) -> Path:
    """Copy `export` to `folder` with `change` done to its initialisers, by name."""
    shutil.copytree(export, folder)
    model = onnx.load(export / "model.onnx")
    tensors = {item.name: numpy_helper.to_array(item).copy() for item in model.graph.initializer}
    change(tensors)
    for item in model.graph.initializer:
        item.CopyFrom(numpy_helper.from_array(tensors[item.name], item.name))
    (folder / "model.onnx.data").unlink()
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="model.onnx.data")
    return folder


def scale_one(tensors: Tensors) -> None:
    """One matrix of one layer comes out half as large again."""
    tensors["model.layers.1.mlp.down_proj.MatMul.weight"] *= np.float32(1.5)


def scale_one_a_little(tensors: Tensors) -> None:
    """One matrix of one layer comes out ten percent too large."""
    tensors["model.layers.1.mlp.down_proj.MatMul.weight"] *= np.float32(1.1)


def swap_layers(tensors: Tensors) -> None:
    """Layers 0 and 1 change places."""
    for name in [name for name in tensors if name.startswith("model.layers.0.")]:
        other = name.replace("layers.0.", "layers.1.")
        tensors[name], tensors[other] = tensors[other], tensors[name]


def wrong_rope(tensors: Tensors) -> None:
    """The rotary base is 500,000, where the checkpoint has 10,000."""
    length, half = tensors["cos_cache"].shape
    angles = np.outer(np.arange(length), 500_000.0 ** (-np.arange(half) / half))
    tensors["cos_cache"], tensors["sin_cache"] = np.cos(angles, dtype=np.float32), np.sin(angles, dtype=np.float32)


def not_a_number(tensors: Tensors) -> None:
    """One weight is NaN."""
    tensors["model.layers.1.mlp.down_proj.MatMul.weight"][0, 0] = np.nan


def round_coarsely(tensors: Tensors) -> None:
    """Every matrix keeps five values: far below int4."""
    for name, value in tensors.items():
        if name.endswith("MatMul.weight"):
            step = np.abs(value).max(axis=0, keepdims=True) / 2
            tensors[name] = (np.round(value / step) * step).astype(np.float32)


def as_is(_: Tensors) -> None:
    """Nothing is wrong."""

"""What a model weighs: bytes on disk, parameters, bits for each of them."""

from __future__ import annotations

from pathlib import Path

from scripts.checkpoint.headers import read_safetensors
from scripts.common import manifest
from scripts.common.model_files import files_in, is_weight_file
from scripts.results import remarks

_NOT_MODEL = ("manifest.json", "provenance.json", remarks.NAME)


def size_bytes(folder: Path) -> int | None:
    """Bytes of the files that belong to a model; the build's own notes do not. None where there is no folder."""
    if not folder.is_dir():
        return None
    return sum(size for name, size in _sizes(folder) if Path(name).name not in _NOT_MODEL) or None


def parameters(checkpoint: Path) -> int | None:
    """How many numbers the weights of a checkpoint are, by the headers of its files; None where there are none."""
    files = files_in(checkpoint, is_weight_file) if checkpoint.is_dir() else []
    return sum(tensor.elements for file in files for tensor in read_safetensors(file).values()) or None


def bits(onnx: Path, weights: int | None) -> float | None:
    """Bits of the files that hold weights, the graph and its data, for each of so many."""
    size = sum(size for name, size in _sizes(onnx) if ".onnx" in Path(name).name)
    return round(8 * size / weights, 4) if size and weights else None


def _sizes(folder: Path) -> list[tuple[str, int]]:
    """Each file with its bytes; what its manifest lists and was removed to save disk counts as well."""
    there = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    listed = (manifest.load(str(folder)) or {"files": {}})["files"]
    return [*({name: int(file["size"]) for name, file in listed.items()} | there).items()]

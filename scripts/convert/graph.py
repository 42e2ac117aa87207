"""ONNX graphs whose weights stay on disk: read through a memory map, written one tensor at a time.

`model.onnx` holds the graph, `model.onnx.data` the weights (ONNX "external data": onnx/docs/ExternalData.md; each
tensor names location, offset and length). A rewrite holds one weight at a time, so a 7B model needs no more memory
than its largest matrix, and the 2 GB limit of protobuf never matters.
"""

from __future__ import annotations

import mmap
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from scripts.common.model_files import GRAPH, GRAPH_DATA

Array = NDArray[Any]

#: Below this many bytes a tensor stays in the graph: shapes and other constants that shape inference must see.
_INLINE = 1024
#: Tensors of a page or more start on a page, so that the runtime can map them in place.
_PAGE = 4096
_CHUNK = 1 << 24


class Graph:
    """A model read without its weights; `weights(name)` gives one, mapped from disk."""

    def __init__(self, path: Path) -> None:
        self.folder = path.parent
        self.model = onnx.load(path, load_external_data=False)
        self.graph = self.model.graph
        self.initializers: dict[str, TensorProto] = {tensor.name: tensor for tensor in self.graph.initializer}
        self.consumers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.graph.node:
            for name in dict.fromkeys(node.input):
                self.consumers[name].append(node)

    def is_weight(self, name: str, rank: int = 2) -> bool:
        """Whether `name` is an initializer of `rank` dimensions, float32 or float16."""
        tensor = self.initializers.get(name)
        floats = (TensorProto.FLOAT, TensorProto.FLOAT16)
        return tensor is not None and len(tensor.dims) == rank and tensor.data_type in floats

    def array(self, name: str) -> Array:
        """The values of an initializer: a read-only view of the file where they are external."""
        tensor = self.initializers[name]
        if tensor.data_location != TensorProto.EXTERNAL:
            values: Array = numpy_helper.to_array(tensor)
            return values
        where = {entry.key: entry.value for entry in tensor.external_data}
        kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        shape = tuple(tensor.dims)
        path, offset = self.folder / where["location"], int(where.get("offset", 0))
        if 0 in shape:
            return np.zeros(shape, kind)
        return np.memmap(path, kind, "r", offset, shape)

    def outputs(self) -> set[str]:
        """Names of the graph's outputs."""
        return {value.name for value in self.graph.output}


class Writer:
    """Writes a graph into `folder` as model.onnx and model.onnx.data; use as a context manager.

    Weights go out through `add`, in order; `finish` writes the graph around them.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.tensors: dict[str, TensorProto] = {}
        self._file: BinaryIO = (folder / GRAPH_DATA).open("wb")

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *failure: object) -> None:
        self._file.close()

    def add(self, name: str, values: Array) -> str:
        """Write one tensor and return its name; adding a name twice is a bug."""
        if name in self.tensors:
            raise ValueError(f"tensor {name!r} is written twice")
        if values.nbytes < _INLINE:
            self.tensors[name] = numpy_helper.from_array(np.asarray(values), name)
            return name
        align = _PAGE if values.nbytes >= _PAGE else 64
        self._file.write(b"\0" * (-self._file.tell() % align))
        tensor = TensorProto(
            name=name,
            data_type=helper.np_dtype_to_tensor_dtype(values.dtype),
            dims=values.shape,
            data_location=TensorProto.EXTERNAL,
        )
        for key, value in (("location", GRAPH_DATA), ("offset", self._file.tell()), ("length", values.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        flat = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        for start in range(0, flat.size, _CHUNK):
            self._file.write(flat[start : start + _CHUNK].data)
        self.tensors[name] = tensor
        release(values)
        return name

    def finish(self, source: Graph, nodes: list[onnx.NodeProto]) -> Path:
        """Write model.onnx: `source`'s graph with `nodes` (in topological order) and the weights that they read.

        Weights of `source` that nobody wrote yet and that are still read are copied. Returns the file's path.
        """
        read = {name for node in nodes for name in node.input}
        for name in source.initializers:
            if name in read and name not in self.tensors and not any(name in node.output for node in nodes):
                self.add(name, source.array(name))
        model = onnx.ModelProto()
        model.CopyFrom(source.model)
        graph = model.graph
        del graph.node[:], graph.initializer[:]
        graph.node.extend(nodes)
        graph.initializer.extend(self.tensors.values())
        made = {name for node in nodes for name in node.output} | {value.name for value in graph.input}
        known = [value for value in graph.value_info if value.name in made]
        del graph.value_info[:]
        graph.value_info.extend(known)
        if all(entry.domain != "com.microsoft" for entry in model.opset_import):
            model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        path = self.folder / GRAPH
        path.write_bytes(model.SerializeToString(deterministic=True))
        return path


def room(size: int) -> int:
    """Bytes that a tensor of `size` bytes takes among others, at most: a small one before one that starts on a page."""
    return size if size < _INLINE else size + -size % _PAGE


def release(values: Array) -> None:
    """Tell the system that the mapped pages of `values` are not needed now, so they stop counting as our memory."""
    base: Any = values
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(base, "madvise"):
        base.madvise(mmap.MADV_DONTNEED)


def summary(path: Path) -> dict[str, Any]:
    """What stands in the graph: `operators` with their counts, and `blocks`, the counts of (bits, block size, has
    zero points) over its MatMulNBits nodes.
    """
    graph = Graph(path).graph
    blocks: Counter[tuple[int, int, bool]] = Counter()
    for node in graph.node:
        if node.op_type == "MatMulNBits":
            given = {attribute.name: attribute.i for attribute in node.attribute}
            blocks[given.get("bits", 4), given["block_size"], len(node.input) > 3 and bool(node.input[3])] += 1
    return {"operators": dict(Counter(node.op_type for node in graph.node)), "blocks": dict(blocks)}

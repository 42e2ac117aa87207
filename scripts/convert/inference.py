"""A float graph in ONNX Runtime, over windows of a text: tensors of its middle, and no more of it than leads to them.

Where tensors are asked for in turns, since not all can be held at once, each turn is a *stretch*: it begins with what
the stretches before it have computed, kept on disk for each window, so that the graph is run once and not once a turn.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from scripts.common import genai_config
from scripts.common.errors import IngotError
from scripts.convert.blockwise import Array

_KINDS = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int8)": np.int8,
}


def session(given: onnx.ModelProto, path: Path, names: Sequence[str], *, mapped: bool = False) -> Any:
    """A graph whose weights are beside `path`, as far as it leads to the tensors `names`, its only outputs; `mapped`:
    computed with from the file, not packed in memory a second time.
    """
    return _session(given, path, names, leading_to(given.graph, names), {}, mapped=mapped)


def _session(
    given: onnx.ModelProto, path: Path, names: Sequence[str], nodes: Iterable[onnx.NodeProto],
    known: Mapping[str, Array], *, mapped: bool,
) -> Any:  # fmt: skip
    """`session` of these nodes, where the tensors `known` are inputs, of these types and so many dimensions."""
    import onnxruntime

    model = onnx.ModelProto()
    model.CopyFrom(given)
    graph = model.graph
    for part in (graph.node, graph.initializer, graph.input, graph.output, graph.value_info):
        del part[:]
    graph.node.extend(nodes)
    made = {name for node in graph.node for name in node.output}
    graph.value_info.extend(value for value in given.graph.value_info if value.name in made)
    read = {name for node in graph.node for name in _reads(node)} | set(names)
    graph.initializer.extend(tensor for tensor in given.graph.initializer if tensor.name in read)
    graph.input.extend(value for value in given.graph.input if value.name in read and value.name not in known)
    for name, values in known.items():
        kind = helper.np_dtype_to_tensor_dtype(values.dtype)
        graph.input.append(helper.make_tensor_value_info(name, kind, [None] * values.ndim))
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other steps run meanwhile
    if mapped:
        options.add_session_config_entry("session.disable_prepacking", "1")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent.resolve()))
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def leading_to(graph: onnx.GraphProto, names: Iterable[str], known: Collection[str] = ()) -> list[onnx.NodeProto]:
    """The nodes, in their order, that `names` are computed by, where the tensors `known` need not be."""
    makers = {name: place for place, node in enumerate(graph.node) for name in node.output if name}
    wanted, found = [name for name in names if name not in known], set[int]()
    while wanted:
        place = makers.get(wanted.pop())
        if place is not None and place not in found:
            found.add(place)
            wanted += [name for name in _reads(graph.node[place]) if name not in known]
    return [graph.node[place] for place in sorted(found)]


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """The names that a node reads, and those inside the branches and loops that it holds."""
    yield from filter(None, node.input)  # '' stands for one that is left out
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            yield from (name for one in inner.node for name in _reads(one))
            yield from (value.name for value in inner.output)


def _constant(graph: onnx.GraphProto) -> set[str]:
    """Names of what is computed of weights alone, such as a table that is turned about: the same for any text."""
    known = {tensor.name for tensor in graph.initializer} - {value.name for value in graph.input}
    found = set[str]()
    for node in graph.node:
        if known.issuperset(_reads(node)):
            found.update(filter(None, node.output))
            known.update(node.output)
    return found


class Stretches:
    """Tensors of a graph, in turns, over the windows of a text; one turn after another, each node is computed once."""

    def __init__(self, given: onnx.ModelProto, path: Path, turns: Sequence[Sequence[str]], windows: Array) -> None:
        """`turns`: the names of the tensors that are wanted together; `windows` int [windows, tokens]."""
        self._given, self._path, self._turns, self._windows = given, path, turns, windows
        self._holder = tempfile.TemporaryDirectory(prefix="stretches-")
        self.folder = Path(self._holder.name)  # of what is kept
        self._kept: dict[str, int] = {}  # tensors on disk, and the numbers that their files have
        self._constant = _constant(given.graph)
        self._count = self._next = 0

    def run(self, turn: int) -> Iterator[list[Array]]:
        """The tensors of a turn, in their order, of each window."""
        if turn < self._next:  # back: from the beginning of the graph
            self._kept = {}
        names, graph = self._turns[turn], self._given.graph
        nodes = leading_to(graph, names, self._kept)
        made = {name for node in nodes for name in node.output if name}
        read = {*names, *(name for node in nodes for name in _reads(node))}
        later = {name for names in self._turns[turn + 1 :] for name in names}
        later |= {name for node in leading_to(graph, later, self._kept.keys() | made) for name in _reads(node)}
        numbers = {name: self._count + at for at, name in enumerate(sorted(later & made - self._constant))}
        self._count += len(numbers)
        wanted = [*dict.fromkeys(name for name in (*names, *numbers) if name in made)]
        given = [name for name in self._kept if name in read]
        run = None
        for place, window in enumerate(self._windows):
            seen = {name: np.load(self._file(self._kept[name], place)) for name in given}
            if wanted:
                run = run or _session(self._given, self._path, wanted, nodes, seen, mapped=True)
                seen |= zip(wanted, run.run(wanted, feeds(run, window, self._path, seen)), strict=True)
            for name, number in numbers.items():
                np.save(self._file(number, place), seen[name])
            yield [seen[name] for name in names]
        for name in self._kept.keys() - later:
            for place in range(len(self._windows)):
                self._file(self._kept[name], place).unlink()
        self._kept = {name: number for name, number in self._kept.items() if name in later} | numbers
        self._next = turn + 1

    def _file(self, number: int, window: int) -> Path:
        return self.folder / f"{number}-{window}.npy"


def feeds(session: Any, window: Array, path: Path, computed: Mapping[str, Array] | None = None) -> dict[str, Array]:
    """Inputs for a text with nothing before it, an empty past included, in the words of either exporter (genai's
    builder 0.18, mobius); positions in time, height and width are those of text, the same three times. Those of the
    names in `computed` are taken from there.

    Raises `IngotError` for an input of which nothing is known.
    """
    head_size = genai_config.read(path.parent)["model"]["decoder"]["head_size"]
    ids = window[None].astype(np.int64)
    known = {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": np.arange(ids.size)[None]}
    given, computed = dict[str, Array](), computed or {}
    for wanted in session.get_inputs():
        kind = _KINDS[wanted.type]
        if wanted.name in computed:
            given[wanted.name] = computed[wanted.name]
        elif wanted.name in known:
            values = known[wanted.name]
            ahead = wanted.shape[: max(0, len(wanted.shape) - values.ndim)]
            given[wanted.name] = np.broadcast_to(values, (*ahead, *values.shape)).astype(kind)
        else:
            given[wanted.name] = np.zeros([_size(size, head_size, wanted, path) for size in wanted.shape], kind)
    return given


def _size(size: int | str, head_size: int, wanted: Any, path: Path) -> int:
    """A dimension of an input that holds what came before, of which there is nothing."""
    if isinstance(size, int):
        return size
    known = {"batch": 1, "past": 0, "kv_cache_dim": head_size}
    found = next((value for word, value in known.items() if word in size), None)
    if found is None:
        raise IngotError(path, f"its input {wanted.name} has a size of which nothing is known: {size}",
                         "Take a recipe that does not calibrate, such as int4")  # fmt: skip
    return found

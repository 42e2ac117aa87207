"""What a model's matrices are multiplied with: texts to calibrate on, and the Gram matrix of every MatMul's input.

Texts are the model's own kind (conversations in JSON lines, through its chat template, or plain text) and general
prose, so that a fine-tune keeps what it learnt and what it knew. Of each text up to `WINDOWS` windows count.

The float graph runs in ONNX Runtime with the inputs of its MatMuls as outputs. H = XᵀX / n is [K, K] for K inputs: as
many of these are gathered at once as fit into a budget, in the order of the graph; a large model is run several times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from scripts.checkpoint import tokenizer as tokenizers
from scripts.common import genai_config, json_values
from scripts.common.errors import IngotError
from scripts.common.user_files import read_beginning
from scripts.convert import blas, gptq
from scripts.convert.blockwise import Array, Quantized, Scheme
from scripts.convert.graph import Graph

#: Tokens of a window, and windows of one text.
WINDOW, WINDOWS = 512, 8
_KINDS = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int8)": np.int8,
}
#: Bytes of a plain text that are read: more than its windows need, in any language.
_MOST_TEXT = 1 << 20
#: Bytes of Gram matrices held at once.
_BUDGET = 2 << 30


def tokens(folder: Path, texts: Sequence[Path]) -> Array:
    """Windows int32 [windows, WINDOW] of the texts, by the tokenizer and chat template of `folder`.

    Raises `IngotError` for a text that cannot be read, or that all together fill not even one window.
    """
    tokenizer = tokenizers.load(folder)
    windows: list[Array] = []
    for text in texts:
        ids: list[int] = []
        for piece in _pieces(text, tokenizer):
            ids += tokenizer(piece, add_special_tokens=False)["input_ids"]
            if len(ids) >= WINDOW * WINDOWS:
                break
        count = min(len(ids) // WINDOW, WINDOWS)
        windows += list(np.array(ids[: count * WINDOW], np.int32).reshape(count, WINDOW))
    if not windows:
        found = f"fill no window of {WINDOW} tokens"
        raise IngotError(", ".join(map(str, texts)) or "calibration", found, "Give a longer text under `calibration`")
    return np.stack(windows)


def _pieces(text: Path, tokenizer: Any) -> Iterator[str]:
    """A plain text whole; of JSON lines each one's "text", or its "messages" as the chat template writes them."""
    if text.suffix != ".jsonl":
        yield read_beginning(text, _MOST_TEXT)[0]
        return
    remedy = 'Give {"messages": [{"role", "content"}, …]} or {"text": "…"}'
    for place, row in json_values.lines(text, remedy):
        try:
            piece = row["text"] if "text" in row else tokenizer.apply_chat_template(row["messages"], tokenize=False)
        except tokenizers.REFUSALS as error:
            reason = f"{type(error).__name__}: {error}"
            raise IngotError(place, f"is not a text to calibrate on ({reason})", remedy) from None
        yield piece


#: What matrices are multiplied with, by its name in the graph, for those that are cut into blocks of one size.
Inputs = tuple[str, int]


class Calibration:
    """What GPTQ knows of a graph's MatMul inputs; asked for in the order of the graph, each input is run once."""

    def __init__(
        self, windows: Array, source: Graph, path: Path, widths: Mapping[Inputs, int], progress: Callable[[str], None]
    ) -> None:
        """`windows` [windows, tokens] of text; `widths` {(activations, block size): K} of the MatMuls to calibrate."""
        self._source, self._path, self._windows, self._progress = source, path, windows, progress
        self._groups = _groups(widths)
        self._ready: dict[Inputs, gptq.Factor] = {}

    def quantize(self, activations: str, weight: Array, scheme: Scheme) -> Quantized:
        """Quantise `weight` [K, N] by what it is multiplied with, the tensor called `activations`."""
        return gptq.quantize(weight, scheme, self.factor((activations, scheme.block_size)))

    def factor(self, inputs: Inputs) -> gptq.Factor:
        """`gptq.factor` of these activations, for blocks of this size."""
        if inputs not in self._ready:
            self._ready.clear()
            group = next(group for group in self._groups if inputs in group)
            grams = self._grams({name: group[name, size] for name, size in group})
            self._ready = gptq.factors(grams, group)
        return self._ready[inputs]

    def _grams(self, group: Mapping[str, int]) -> dict[str, Array]:
        run = session(self._source.model, self._path, list(group), mapped=True)
        found = {name: np.zeros((width, width), np.float32) for name, width in group.items()}
        for number, window in enumerate(self._windows, 1):
            seen = run.run(list(group), feeds(run, window, self._path))
            pairs = [(found[name], values) for name, values in zip(group, seen, strict=True)]
            blas.spread(_add, pairs, lambda pair: len(pair[0]) <= gptq.AT_ONCE)
            self._progress(f"calibrate: {number * WINDOW} of {self._windows.size} tokens")
        for gram in found.values():
            gram /= self._windows.size
        return found


def _add(given: tuple[Array, Array]) -> None:
    """Add the products of a window's activations [.., K] to their Gram matrix [K, K]."""
    gram, values = given
    rows = values.reshape(-1, values.shape[-1])
    gram += rows.T @ rows


def _groups(widths: Mapping[Inputs, int]) -> list[dict[Inputs, int]]:
    """`widths`, {inputs: K}, cut where the matrices [K, K] would pass the budget."""
    groups: list[dict[Inputs, int]] = []
    held = _BUDGET + 1
    for inputs, width in widths.items():
        size = 4 * width * width
        if held + size > _BUDGET:
            groups.append({})
            held = 0
        groups[-1][inputs] = width
        held += size
    return groups


def session(given: onnx.ModelProto, path: Path, names: Sequence[str], *, mapped: bool = False) -> Any:
    """A graph whose weights are beside `path`, as far as it leads to the tensors `names`, its only outputs; `mapped`:
    computed with from the file, not packed in memory a second time.
    """
    import onnxruntime

    model = onnx.ModelProto()
    model.CopyFrom(given)
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other steps run meanwhile
    if mapped:
        options.add_session_config_entry("session.disable_prepacking", "1")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent.resolve()))
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def feeds(session: Any, window: Array, path: Path) -> dict[str, Array]:
    """Inputs for a text with nothing before it, an empty past included, in the words of either exporter (genai's
    builder 0.18, mobius); positions in time, height and width are those of text, the same three times.

    Raises `IngotError` for an input of which nothing is known.
    """
    head_size = genai_config.read(path.parent)["model"]["decoder"]["head_size"]
    ids = window[None].astype(np.int64)
    known = {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": np.arange(ids.size)[None]}
    given = {}
    for wanted in session.get_inputs():
        kind = _KINDS[wanted.type]
        if wanted.name in known:
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

"""What a model's matrices are multiplied with: texts to calibrate on, and the Gram matrix of every MatMul's input.

Texts are the model's own kind (conversations in JSON lines, through its chat template, or plain text) and general
prose, so that a fine-tune keeps what it learnt and what it knew. Of each text up to `WINDOWS` windows count.

The float graph runs in ONNX Runtime with the inputs of its MatMuls as outputs. H = XᵀX / n is [K, K] for K inputs: as
many of these are gathered at once as fit into a budget, in the order of the graph; a large model is run in stretches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scripts.checkpoint import tokenizer as tokenizers
from scripts.common import json_values
from scripts.common.errors import IngotError
from scripts.common.user_files import read_beginning
from scripts.convert import blas, gptq
from scripts.convert.blockwise import Array, Quantized, Scheme
from scripts.convert.graph import Graph
from scripts.convert.inference import Stretches

#: Tokens of a window, and windows of one text.
WINDOW, WINDOWS = 512, 8
#: Bytes of a plain text that are read: more than its windows need, in any language.
_MOST_TEXT = 1 << 20
#: Bytes of Gram matrices held at once; fewer cost little: the graph goes on where it stopped.
_BUDGET = 1 << 30
#: Bytes of activations that are added at once: a matrix [K, K] is written anew for each time.
_AT_ONCE = 1 << 27


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
        self._windows, self._path, self._progress, self._groups = windows, path, progress, _groups(widths)
        turns = [[*dict.fromkeys(name for name, _ in group)] for group in self._groups]
        self._stretches = Stretches(source.model, path, turns, windows)
        self._ready: dict[Inputs, gptq.Factor] = {}

    def quantize(self, activations: str, weight: Array, scheme: Scheme) -> Quantized:
        """Quantise `weight` [K, N] by what it is multiplied with, the tensor called `activations`.

        Raises `IngotError` for activations whose products are too large for float32, or no numbers.
        """
        return gptq.quantize(weight, scheme, self.factor((activations, scheme.block_size)))

    def factor(self, inputs: Inputs) -> gptq.Factor:
        """`gptq.factor` of these activations, for blocks of this size."""
        if inputs not in self._ready:
            self._ready.clear()
            turn = next(turn for turn, group in enumerate(self._groups) if inputs in group)
            self._ready = gptq.factors(self._grams(turn), self._groups[turn])
        return self._ready[inputs]

    def _grams(self, turn: int) -> dict[str, Array]:
        widths = {name: width for (name, _), width in self._groups[turn].items()}
        found = {name: np.zeros((width, width), np.float32) for name, width in widths.items()}
        at_once = max(1, _AT_ONCE // (4 * WINDOW * sum(widths.values())))
        waiting: list[Sequence[Array]] = []
        for number, seen in enumerate(self._stretches.run(turn), 1):
            waiting.append(seen)
            if len(waiting) == at_once or number == len(self._windows):
                pairs = [(found[name], values) for name, *values in zip(widths, *waiting, strict=True)]
                waiting.clear()
                blas.spread(_add, pairs, lambda pair: len(pair[0]) <= gptq.AT_ONCE)
            self._progress(f"calibrate: {number * WINDOW} of {self._windows.size} tokens")
        for name, gram in found.items():
            gram /= self._windows.size
            if not np.isfinite(np.diag(gram)).all():
                remedy = "Calibrate on other texts, or take a recipe that does not calibrate, such as int4"
                raise IngotError(self._path, f"what it computes for the texts overflows: {name}", remedy)
        return found


def _add(given: tuple[Array, Sequence[Array]]) -> None:
    """Add the products of some windows' activations, each [.., K], to their Gram matrix [K, K]."""
    gram, values = given
    rows = np.concatenate([some.reshape(-1, len(gram)) for some in values])
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

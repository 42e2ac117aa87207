"""The logits of an ONNX Runtime GenAI folder over a text, some positions at a time.

GenAI is given the text in pieces and keeps the keys and values of what it has seen; after each piece
its output `logits` is [1, piece, vocabulary]. Memory is the model, its KV buffer for this text, and one piece. Weights
that are mapped are read again for each piece where they don't fit in memory, so of those the pieces are large.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scripts.common import json_files
from scripts.common.context import SPARE
from scripts.common.errors import IngotError
from scripts.runtime import genai

#: A piece holds about this many logits (32 MiB in float32), whatever the vocabulary; with mapped weights at most so
#: many (128 MiB): else in 6 GB of memory the 12.3 GB of a 3B model were read 13 times for a text of 682 tokens.
PIECE, MAPPED_PIECE = 2**23, 2**25
#: Positions of a piece at most: what attention holds for it grows with their square.
_MOST = 1024


def rows_for(vocabulary: int) -> int:
    """How many positions make up one piece for a vocabulary of that size."""
    return max(8, min(256, PIECE // vocabulary))


def together(rows: int, vocabulary: int) -> int:
    """How many positions, a multiple of `rows`, are fed at once where the weights are mapped."""
    return rows * max(1, min(_MOST, MAPPED_PIECE // vocabulary) // rows)


class GenaiModel:
    """A GenAI folder, loaded. Raises `IngotError` where it is not one or does not load."""

    def __init__(
        self, folder: Path, *, mapped: bool = False, elsewhere: bool = False, graph: bytes | None = None
    ) -> None:
        """`mapped`: compute on float32 weights where they are mapped, without the packed copy that ONNX Runtime makes.

        That spares the model's weight in memory and tells nothing else of it; quantised weights compute by another way
        where they aren't packed, and must be judged as they are served. `elsewhere`: on the device it was made for.
        `graph`: in place of the folder's, with its weights.
        """
        if not (folder / "genai_config.json").is_file():
            raise IngotError(folder, "there is no genai_config.json in it", "Give the folder of a finished conversion")
        self.folder, self._mapped = folder, mapped
        try:
            # The scratch for attention grows with every piece, and ORT's arena keeps each of them: 100 KiB a token.
            options = {"enable_cpu_mem_arena": False} | ({"session.disable_prepacking": "1"} if mapped else {})
            self._model = genai.Model(folder, options, elsewhere=elsewhere, graph=graph)
        except genai.GenaiFault as fault:
            raise IngotError(folder, f"the model does not load: {fault.found}", "Convert it again") from None

    def logits(self, ids: npt.NDArray[np.int32], rows: int) -> Iterator[npt.NDArray[np.float32]]:
        """Yield float32 [n, vocabulary] for `ids`, `rows` positions at a time, in order; n = rows but at the end.

        Row i holds the logits that predict the token after `ids[i]`. A graph that was built to give the last position
        only is fed token by token: slow, and right.
        """
        fed = together(rows, self._vocabulary) if self._mapped else rows
        for piece in self.pieces(ids, [(at, min(at + fed, len(ids))) for at in range(0, len(ids), fed)]):
            yield from (piece[at : at + rows] for at in range(0, len(piece), rows))

    def pieces(self, ids: npt.NDArray[np.int32], bounds: list[tuple[int, int]]) -> Iterator[npt.NDArray[np.float32]]:
        """The same for pieces of any size, each from one position to another; they follow one another."""
        generation, last_only = self._model.generation(len(ids) + SPARE), False
        for start, stop in bounds:
            if not last_only:
                found = self._feed(generation, ids[start:stop])
                last_only = len(found) < stop - start
                if last_only:  # from the beginning again, up to here at once
                    generation = self._model.generation(len(ids) + SPARE)
                    if start:
                        self._feed(generation, ids[:start])
            if last_only:
                found = np.concatenate([self._feed(generation, ids[at : at + 1]) for at in range(start, stop)])
            yield found

    @property
    def context(self) -> int:
        """How many tokens the folder's configuration allows."""
        return int(self._settings["context_length"])

    @property
    def _vocabulary(self) -> int:
        return int(self._settings["vocab_size"])

    @property
    def _settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = json_files.read(self.folder / "genai_config.json")["model"]
        return settings

    def _feed(self, generation: genai.Generation, ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        try:
            generation.append(ids)
            return generation.logits()
        except genai.GenaiFault as fault:
            raise IngotError(self.folder, f"the model fails while it runs: {fault.found}", "Convert it again") from None

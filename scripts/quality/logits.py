"""The logits of an ONNX Runtime GenAI folder over a text, some positions at a time.

GenAI is given the text in pieces (`append_tokens`) and keeps the keys and values of what it has seen; after each piece
its output `logits` is [1, piece, vocabulary]. Memory is the model, its KV buffer for this text, and one piece.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scripts.common.errors import IngotError

#: A piece holds about this many logits (32 MiB in float32), whatever the vocabulary.
PIECE = 2**23
#: Room behind the text that GenAI wants in its KV buffer.
SPARE = 8


def rows_for(vocabulary: int) -> int:
    """How many positions make up one piece for a vocabulary of that size."""
    return max(8, min(256, PIECE // vocabulary))


class GenaiModel:
    """A GenAI folder, loaded. Raises `IngotError` where the folder is none or does not load."""

    def __init__(self, folder: Path) -> None:
        if not (folder / "genai_config.json").is_file():
            raise IngotError(folder, "there is no genai_config.json in it", "Give the folder of a finished conversion")
        import onnxruntime_genai as og

        self.folder, self._og = folder, og
        try:
            config = og.Config(str(folder))
            # The scratch for attention grows with every piece, and ORT's arena keeps each of them: 100 KiB a token.
            config.overlay(json.dumps({"model": {"decoder": {"session_options": {"enable_cpu_mem_arena": False}}}}))
            self._model = og.Model(config)
        except Exception as error:  # noqa: BLE001 - the binding raises what C++ threw, as plain Exceptions
            raise IngotError(folder, f"the model does not load: {_line(error)}", "Convert it again") from None

    def logits(self, ids: npt.NDArray[np.int32], rows: int) -> Iterator[npt.NDArray[np.float32]]:
        """Yield float32 [n, vocabulary] for `ids`, `rows` positions at a time, in order; n = rows but at the end.

        Row i holds the logits that predict the token after `ids[i]`. A graph that was built to give the last position
        only is fed token by token: slow, and right.
        """
        first = self._feed(self._generator(len(ids)), ids[: min(2, len(ids))])
        step = 1 if len(ids) > 1 and len(first) == 1 else rows
        generator = self._generator(len(ids))
        for start in range(0, len(ids), rows):
            piece = ids[start : start + rows]
            parts = [self._feed(generator, piece[i : i + step]) for i in range(0, len(piece), step)]
            yield parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _generator(self, length: int) -> Any:
        params = self._og.GeneratorParams(self._model)
        params.set_search_options(max_length=length + SPARE)
        return self._og.Generator(self._model, params)

    def _feed(self, generator: Any, ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        try:
            generator.append_tokens(ids)
            output = generator.get_output("logits")
        except Exception as error:  # noqa: BLE001 - as above
            raise IngotError(
                self.folder, f"the model fails while it runs: {_line(error)}", "Convert it again"
            ) from None
        return np.asarray(output[0], dtype=np.float32)


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

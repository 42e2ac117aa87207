"""Which tokens a model says most: by the probabilities that it gives each on texts, not by which stand in them, since
of most tokens a text of some thousand words holds none.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from scripts.common import genai_config
from scripts.convert.blockwise import Array
from scripts.convert.graph import Graph
from scripts.convert.inference import feeds, session

#: Tokens of each window that are read.
TOKENS = 64
#: Those that end what is said: a calibration on plain text never shows them.
_ENDS = ("eos_token_id", "bos_token_id", "pad_token_id")


def order(source: Graph, path: Path, windows: Array, progress: Callable[[str], None]) -> Array:
    """Every token of the logits, int64 [V], the most probable first; before them those that begin and end a text.

    `windows` int [windows, tokens] of text; of each the first `TOKENS` count.
    """
    run = session(source.model, path, ["logits"], mapped=True)
    said = np.zeros(0)
    for window in windows:
        (logits,) = run.run(["logits"], feeds(run, window[:TOKENS], path))
        values = logits[0].astype(np.float32)
        values -= values.max(axis=1, keepdims=True)
        np.exp(values, out=values)
        values /= values.sum(axis=1, keepdims=True)
        said = said if said.size else np.zeros(values.shape[1])
        said += values.sum(axis=0, dtype=np.float64)
    progress(f"frequency: {said.size} tokens, by {min(TOKENS, windows.shape[1]) * len(windows)} of text")
    model = genai_config.read(path.parent)["model"]
    for name in _ENDS:
        ids = model.get(name)
        for token in ids if isinstance(ids, list) else [ids]:
            if isinstance(token, int) and 0 <= token < said.size:
                said[token] = np.inf
    return np.argsort(-said, kind="stable")

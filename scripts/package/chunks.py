"""Long prompts in pieces: what is computed of a prompt at once takes memory by its length, and not the less time.

Measured on SmolLM2-135M, int4, SDK 2.2.1, 2 threads: a prompt of 2,000 tokens takes 7.1 s of the processor at once and
6.9 in pieces of 256, and its process peaks at 518 MB instead of 594; one of 937 tokens at 491 instead of 537. The
quality stage judges in pieces of at most this size, too. onnxruntime-genai knows the key since 0.11.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.common.genai_config import providers

PIECE = 256
#: Inputs of a decoder that keeps keys and values and nothing else from one piece to the next.
_PLAIN = {"input_ids", "attention_mask", "position_ids", "past_key_names", "past_value_names"}


def read_in_pieces(genai: dict[str, Any], folder: Path) -> None:
    """Have a prompt computed in pieces, in `genai` (a parsed genai_config.json, changed), on a CPU.

    Left as it is where a piece may not be computed as it would be in the whole: with states beside keys and values, a
    sliding window, or a graph that branches on the length (LongRoPE). A size that the settings name stays, too.
    """
    decoder = genai["model"]["decoder"]
    states = set(decoder.get("inputs", {})) - _PLAIN
    if providers(genai) or states or decoder.get("sliding_window") or _branches(folder / decoder["filename"]):
        return
    genai["search"].setdefault("chunk_size", PIECE)


def _branches(graph: Path) -> bool:
    import onnx

    return any(node.op_type == "If" for node in onnx.load(str(graph), load_external_data=False).graph.node)

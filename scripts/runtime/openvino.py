"""The adapter of OpenVINO, by which ONNX Runtime's OpenVINO provider computes what is made for Intel's devices.

That provider (onnxruntime-ep-openvino 1.8.1) hands its part of a graph to this library, but offers devices of Intel
alone; the library itself computes on the CPU of any machine. Measured with openvino 2026.4.1, the newest at that time.
What is bridged here:
- It knows graphs and no conversations: keys and values go from one step into the next by their names in
  genai_config.json.
- Importing it sends a message home, by a package that its own code can do without: it is not let in.
Not bridged: where LongRoPE changes its factors onnxruntime-genai computes keys and values anew, and this does not.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scripts.common import genai_config
from scripts.common.errors import IngotError
from scripts.runtime import genai

#: What OpenVINO's errors say where it has no operator for one of a graph's.
LACKS = "OpConversionFailure"
_LONGEST = 600  # characters of an error's text


def provide(device: str) -> str:
    """What OpenVINO's `device`, such as "CPU", is here, for people; raises `IngotError` where there is none."""
    if find_spec("openvino") is None:
        remedy = "pip install -e '.[openvino]'"
        raise IngotError("openvino", "is not installed, and what is made for Intel's devices needs it", remedy)
    core = _core()
    if not any(one.split(".")[0] == device for one in core.available_devices):  # two GPUs are GPU.0 and GPU.1
        raise IngotError("openvino", f"finds no {device} here", "Install its driver, or run this where one is")
    return f"{core.get_property(device, 'FULL_DEVICE_NAME')} ({device}), openvino {version('openvino')}"


class Model:
    """A package, compiled for one of OpenVINO's devices. Raises `IngotError` where it does not compile."""

    def __init__(self, folder: Path, device: str) -> None:
        config = genai_config.read(folder)
        decoder = config["model"]["decoder"]
        self._folder, self._decoder = folder, decoder
        self._ends = np.atleast_1d(config["model"]["eos_token_id"])
        try:
            compiled = _core().compile_model(folder / decoder["filename"], device)
        except RuntimeError as error:
            raise IngotError(folder, f"OpenVINO does not compile it: {_words(error)}", "See the log") from None
        self._compiled, self._inputs = compiled, {one.any_name: one.partial_shape for one in compiled.inputs}
        self._kept = dict(self._cache_names())
        known = {"input_ids", "attention_mask", "position_ids", *self._kept}
        if unknown := sorted(self._inputs.keys() - known):
            raise IngotError(folder, f"its graph asks for {unknown[0]}, which is none of a plain decoder's inputs", "")

    def logits(self, ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """float32 [positions, vocabulary]: row i predicts the token after `ids[i]`."""
        state = self._empty()
        return np.concatenate([self._step([token], at, state) for at, token in enumerate(ids.tolist())])

    def greedy(self, messages: Sequence[Mapping[str, str]], tokens: int) -> str:
        """The answer to a conversation, of at most so many tokens, each the most likely one."""
        tokenizer = genai.Tokenizer(self._folder)
        prompt = tokenizer.encode(tokenizer.render(messages))
        decode, state, text = tokenizer.stream(), self._empty(), ""
        given, at = prompt, 0
        for _ in range(tokens):
            chosen = int(self._step(given, at, state)[-1].argmax())
            if chosen in self._ends:
                break
            text += decode(chosen)
            given, at = [chosen], at + len(given)
        return text

    def _cache_names(self) -> list[tuple[str, str]]:
        """Input → output of each layer's keys and values."""
        names, made = self._decoder["inputs"], self._decoder["outputs"]
        return [
            (names[f"past_{kind}_names"] % layer, made[f"present_{kind}_names"] % layer)
            for layer in range(int(self._decoder["num_hidden_layers"]))
            for kind in ("key", "value")
        ]

    def _empty(self) -> dict[str, npt.NDArray[np.float32]]:
        """Keys and values of no token: [1, heads, 0, size]; of each layer its own, where the graph tells."""
        known = int(self._decoder["num_key_value_heads"]), int(self._decoder["head_size"])
        found = {}
        for name in self._kept.keys() & self._inputs.keys():
            _, heads, _, size = self._inputs[name]
            sizes = (
                one.get_length() if one.is_static else usual for one, usual in zip((heads, size), known, strict=True)
            )
            found[name] = np.zeros((1, next(sizes), 0, next(sizes)), np.float32)
        return found

    def _step(self, ids: Sequence[int], at: int, state: dict[str, Any]) -> npt.NDArray[np.float32]:
        """The logits of more tokens, from position `at` on; `state` gets their keys and values."""
        given = {
            "input_ids": np.array([ids], np.int64), "attention_mask": np.ones((1, at + len(ids)), np.int64),
            "position_ids": np.arange(at, at + len(ids), dtype=np.int64)[None], **state,
        }  # fmt: skip
        try:
            found = self._compiled({name: value for name, value in given.items() if name in self._inputs})
        except RuntimeError as error:
            raise IngotError(self._folder, f"OpenVINO does not compute it: {_words(error)}", "See the log") from None
        state |= {name: found[self._kept[name]] for name in state}
        return np.asarray(found[self._decoder["outputs"].get("logits", "logits")][0], dtype=np.float32)


def _core() -> Any:
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # its import fails
    import openvino

    return openvino.Core()


def _words(error: Exception) -> str:
    """The end of what it says, where the cause is, and whether it lacks an operator, which stands at the beginning."""
    text = " ".join(str(error).split())
    return f"{LACKS}: {text[-_LONGEST:]}" if LACKS in text else text[-_LONGEST:]

"""The adapter of onnxruntime-genai: the library that Foundry Local's runtime computes with, without the runtime.

No other module imports it; its model builder, another program in the same wheel, has an adapter of its own in
`scripts.convert`. Measured with onnxruntime-genai 0.18.0, the newest at that time. What is bridged here, until a later
release does it itself:
- The binding raises what C++ threw as whatever Python exception fits, or as a bare `Exception`: all are `GenaiFault`.
- `decode` of a whole sequence ends at the first byte that is not UTF-8: `Model.greedy` decodes token by token, as the
  runtime does.
- A cache of keys and values below the model's sliding window is refused: `Model.generation` makes room for it.
- An end-of-text token ends a generation early, and there is no switch against that: a minimum length that is the
  maximum one keeps it away (`Model.generation(fixed=True)`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.common import json_files
from scripts.common.errors import IngotError
from scripts.common.watch import MEMORY, computing

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ids = Sequence[int] | npt.NDArray[np.int32]

#: How ONNX Runtime says that a provider can't compute a node of a sound graph: on loading, NOT_IMPLEMENTED; on running,
#: in the words of the kernel.
_LACKS = re.compile(
    r"Could not find an implementation for \S+ node with name"
    r"|while running \S+ node\..* Status Message: .*(?:NOT_IMPLEMENTED|not (?:yet )?(?:supported|implemented))"
)
_LONGEST = 600  # characters of an error's text
_TOKENIZER = "tokenizer.json"
_SIMPLER = 'Give another one: template = "FILE.jinja" in models.toml'
#: Bytes that the runtime takes for each byte of a tokenizer's file, with room to spare.
_OF_EACH = 24


def installed() -> str:
    """Version of the installed library, without importing it."""
    return version("onnxruntime-genai")


def lacks_kernel(words: str) -> bool:
    """Whether a fault's words say that the CPU has no kernel that a graph needs; all else is the graph's fault."""
    return _LACKS.search(words) is not None


class GenaiFault(IngotError):  # noqa: N818 - reads as what it is
    """onnxruntime-genai refused or broke; `found` holds its own words, on one line."""


class Tokenizer:
    """A model folder's tokenizer and chat template, as the runtime that serves has them. Raises `GenaiFault`."""

    def __init__(self, folder: Path, model: Any = None) -> None:
        """`model`: the loaded model of the folder, where there is one."""
        import onnxruntime_genai as og

        self._folder = folder
        with _faults(folder), _loading(folder):
            self._tokenizer = og.Tokenizer(str(folder) if model is None else model)

    def render(
        self, messages: Sequence[Mapping[str, str]], *, tools: Sequence[Mapping[str, Any]] = (), prompt: bool = True
    ) -> str:
        """A conversation as the text that the model gets, up to where its answer begins if `prompt` says so."""
        options: dict[str, Any] = {"tools": json.dumps(list(tools))} if tools else {}
        subject = f"{self._folder}: chat template"
        with _faults(self._folder), computing(subject, "to render a conversation in the runtime", remedy=_SIMPLER):
            talk = json.dumps(list(messages))
            return str(self._tokenizer.apply_chat_template(talk, add_generation_prompt=prompt, **options))

    def encode(self, text: str) -> list[int]:
        """The text's token ids: special tokens in it become special ids, none are added."""
        with _faults(self._folder), computing(self._folder / _TOKENIZER, "to make tokens of a text in the runtime"):
            return [int(token) for token in self._tokenizer.encode(text)]

    def stream(self) -> Callable[[int], str]:
        """A decoder that is given one token after the other, and returns the text that each of them completes."""
        decode = self._tokenizer.create_stream().decode
        return lambda token: str(decode(token))


class Generation:
    """One sequence in the making: give it tokens, have it choose some, read its logits. Raises `GenaiFault`."""

    def __init__(self, folder: Path, generator: Any) -> None:
        self._folder, self._generator = folder, generator

    def append(self, tokens: Ids) -> None:
        """Compute on more tokens of the text."""
        with _faults(self._folder):
            self._generator.append_tokens(tokens)

    def step(self) -> None:
        """Have the model choose the next token."""
        with _faults(self._folder):
            self._generator.generate_next_token()

    def newest(self) -> int:
        """The token that the last step chose."""
        return int(self._generator.get_next_tokens()[0])

    def is_done(self) -> bool:
        """Whether the text has come to its end, or to the greatest length."""
        return bool(self._generator.is_done())

    def logits(self) -> npt.NDArray[np.float32]:
        """float32 [positions, vocabulary], of what was computed last; a pruned graph gives the last position alone."""
        import numpy as np

        with _faults(self._folder):
            return np.asarray(self._generator.get_output("logits")[0], dtype=np.float32)


class Model:
    """A model folder, loaded on the CPU, whatever it was made for. Raises `GenaiFault` where it does not load."""

    def __init__(
        self,
        folder: Path,
        session_options: Mapping[str, Any] | None = None,
        *,
        elsewhere: bool = False,
        graph: bytes | None = None,
    ) -> None:
        """`session_options`: ONNX Runtime's, over those of the folder's genai_config.json. `elsewhere`: on the device
        that it was made for, once `scripts.runtime.plugins` has provided that. `graph`: in place of the folder's, with
        the folder's weights.
        """
        import onnxruntime_genai as og

        self.folder, self._og = folder, og
        with _faults(folder):
            config = og.Config(str(folder))
            if not elsewhere:
                config.clear_providers()
            if session_options:
                config.overlay(json.dumps({"model": {"decoder": {"session_options": dict(session_options)}}}))
            decoder = json_files.read(folder / "genai_config.json")["model"].get("decoder", {})
            if graph:
                config.add_model_data(decoder["filename"], graph)
            self._model = og.Model(config)
        self._window = int((decoder.get("sliding_window") or {}).get("window_size") or 0)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Its tokenizer."""
        return Tokenizer(self.folder, self._model)

    def generation(self, length: int, *, fixed: bool = False) -> Generation:
        """A greedy sequence with room for `length` tokens, the prompt's included; with `fixed`, not ended before."""
        with _faults(self.folder):
            params = self._og.GeneratorParams(self._model)
            least = {"min_length": length} if fixed else {}
            params.set_search_options(max_length=max(length, self._window), do_sample=False, **least)
            return Generation(self.folder, self._og.Generator(self._model, params))

    def greedy(self, messages: Sequence[Mapping[str, str]], tokens: int) -> str:
        """The answer to a conversation, of at most so many tokens, each the most likely one."""
        prompt = self.tokenizer.encode(self.tokenizer.render(messages))
        generation, decode, text = self.generation(len(prompt) + tokens), self.tokenizer.stream(), ""
        generation.append(prompt)
        for _ in range(tokens):
            if generation.is_done():
                break
            generation.step()
            text += decode(generation.newest())
        return text


def _loading(folder: Path) -> AbstractContextManager[None]:
    file = folder / _TOKENIZER
    size = file.stat().st_size if file.is_file() else 0
    return computing(file, "to load it in the runtime", seconds=40, memory=MEMORY + _OF_EACH * size)


@contextmanager
def _faults(folder: Path) -> Iterator[None]:
    try:
        yield
    except IngotError:
        raise
    except Exception as error:
        words = " ".join(str(error).split()) or type(error).__name__
        raise GenaiFault(folder, words[:_LONGEST]) from error

"""Is this folder a model? Its files are there, it loads, and it generates, twice through the graph and more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.common import json_files
from scripts.common.errors import IngotError
from scripts.definitions.passes import HERE, graph_for
from scripts.runtime import genai

TOKENS = 8
_PROMPT = "The capital of France is"
_REMEDY = "The model was built but must not be used; try another recipe, and see the log"


class _WrongAnswerError(Exception):
    """It loads and runs, and what comes out is wrong."""


def check(folder: Path, target: str = "cpu") -> None:
    """Load `folder` with onnxruntime-genai and generate 8 tokens; raises `IngotError` saying what failed.

    The second token is what matters: it is the first to read the key-value cache, and a float16 graph on CPU dies
    there. Logits must be finite. What is made for another execution provider than cpu is run on the CPU too, as
    `on_cpu` has it. Where the CPU has no kernel for a graph of that provider's own, its structure and its weights are
    checked; any other fault is one of the graph.
    """
    from scripts.convert import on_cpu, structure

    settings = _settings(folder)
    name = settings["model"]["decoder"]["filename"]
    if not (folder / name).is_file():
        raise IngotError("genai_config.json", f"names {name}, which is not there", _REMEDY)
    elsewhere = graph_for(target) != HERE
    if elsewhere:
        structure.check(folder, settings)
    try:
        tokens = _generate(folder, name, on_cpu.graph_of(folder) if elsewhere else None)
    except (genai.GenaiFault, _WrongAnswerError) as error:
        reason = error.found if isinstance(error, genai.GenaiFault) else error
        if elsewhere and isinstance(error, genai.GenaiFault) and genai.lacks_kernel(error.found):
            structure.numbers(folder, settings)
            print(f"check: not run; on the CPU a model for {target} does not run: {reason}", flush=True)
            return
        raise IngotError("the converted model", f"does not load and generate: {reason}", _REMEDY) from error
    print(f"check: generated {tokens} tokens" + (f", not for {target}" if target != HERE else ""), flush=True)


def _settings(folder: Path) -> Any:
    path = folder / "genai_config.json"
    try:
        settings = json_files.read(path)
        settings["model"]["decoder"]["filename"]
    except FileNotFoundError:
        found = "is missing: the workflow made ONNX, but no GenAI model"
        raise IngotError(path.name, found, "Let its first pass be ModelBuilder") from None
    except (KeyError, TypeError, ValueError) as error:
        raise IngotError(path.name, f"is not a GenAI configuration: {error}", _REMEDY) from None
    return settings


def _generate(folder: Path, name: str, graph: bytes | None) -> int:
    import numpy as np

    from scripts.convert.graph import summary

    # A float graph is computed with from the mapped file; packed for speed it would stand in memory a second time.
    # Quantised weights have kernels for the packed form only, and are small.
    is_float = not summary(folder / name)["blocks"]
    model = genai.Model(folder, {"session.disable_prepacking": "1"} if is_float else None, graph=graph)
    prompt = model.tokenizer.encode(_PROMPT)
    generation = model.generation(len(prompt) + TOKENS, fixed=True)  # no longer: a short one keeps the cache small
    generation.append(prompt)
    count = 0
    while count < TOKENS and not generation.is_done():
        generation.step()
        count += 1
        if not np.isfinite(generation.logits()).all():
            raise _WrongAnswerError(f"the logits of token {count} are not finite")
    if count < TOKENS:
        raise _WrongAnswerError(f"it stopped after {count} tokens")
    return count

"""Is this folder a model? Its files are there, it loads, and it generates, twice through the graph and more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scripts.common import json_files
from scripts.common.errors import IngotError

TOKENS = 8
_PROMPT = "The capital of France is"
_REMEDY = "The model was built but must not be used; try another recipe, and see the log"


def check(folder: Path, target: str = "cpu") -> None:
    """Load `folder` with onnxruntime-genai and generate 8 tokens; raises `IngotError` saying what failed.

    The second token is what matters: it is the first to read the key-value cache, and a float16 graph on CPU dies
    there. Logits must be finite. For an execution provider other than cpu only the files are checked: this machine's
    onnxruntime-genai cannot load it.
    """
    settings = _settings(folder)
    name = settings["model"]["decoder"]["filename"]
    if not (folder / name).is_file():
        raise IngotError("genai_config.json", f"names {name}, which is not there", _REMEDY)
    if target != "cpu":
        print(f"check: files only; a model for {target} is untested on this machine", flush=True)
        return
    try:
        tokens = _generate(folder, name)
    except (RuntimeError, ValueError) as error:  # what onnxruntime-genai raises
        reason = " ".join(str(error).split())[:600]
        raise IngotError("the converted model", f"does not load and generate: {reason}", _REMEDY) from error
    print(f"check: generated {tokens} tokens", flush=True)


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


def _generate(folder: Path, name: str) -> int:
    import numpy as np
    import onnxruntime_genai as og

    from scripts.convert.graph import summary

    config = og.Config(str(folder))
    if not summary(folder / name)["blocks"]:
        # A float graph is computed with from the mapped file; packed for speed it would stand in memory a second time.
        # Quantised weights have kernels for the packed form only, and are small.
        config.overlay(json.dumps({"model": {"decoder": {"session_options": {"session.disable_prepacking": "1"}}}}))
    model = og.Model(config)
    prompt = og.Tokenizer(model).encode(_PROMPT)
    params = og.GeneratorParams(model)
    # min_length keeps an end-of-text token from ending it early; a short max_length keeps the cache small.
    length = len(prompt) + TOKENS
    params.set_search_options(max_length=length, min_length=length, do_sample=False)
    generator = og.Generator(model, params)
    generator.append_tokens(prompt)
    count = 0
    while count < TOKENS and not generator.is_done():
        generator.generate_next_token()
        count += 1
        if not np.isfinite(np.asarray(generator.get_output("logits"), np.float32)).all():
            raise ValueError(f"the logits of token {count} are not finite")
    if count < TOKENS:
        raise ValueError(f"it stopped after {count} tokens")
    return count

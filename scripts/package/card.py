"""The model card: what is in the folder, under which licence, how to load it. Same inputs, same text."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from scripts.common.genai_config import providers
from scripts.common.model_id import ModelId
from scripts.common.visible import code, json_text, markdown
from scripts.package import sampling, usage
from scripts.package.template import PromptTemplate
from scripts.package.tokens import Agreement


@dataclass(frozen=True)
class PackageSpec:
    """What to call the model and how it should behave; `sampling` as the user gave it, unchecked."""

    model_id: str
    precision: str
    description: str = ""
    version: str = "1"
    license: str = ""
    sampling: Any = None
    context_length: int | None = None


@dataclass(frozen=True)
class Facts:
    """All that the card tells: `size` in bytes of the ONNX files, `cache` in bytes of a full context's keys and values,
    if that is known, `licences` the licence files beside it.
    """

    spec: PackageSpec
    identity: ModelId
    licences: tuple[str, ...]
    genai: dict[str, Any]
    size: int
    cache: int | None
    template: PromptTemplate
    agreement: Agreement
    gained: str = ""


def render(facts: Facts) -> str:
    """The card as Markdown, with the front matter that model hubs read."""
    blocks = [
        _front_matter(facts),
        f"# {facts.identity.name}",
        _description(facts.spec.description),
        _table(facts),
        *sampling.remarks(facts.genai),
        *(["## What fine-tuning gained", facts.gained] if facts.gained else []),
        "## How to load it",
        _LOAD.replace("PROGRAM", usage.sdk(facts.spec.model_id, "FOLDER")),
        "## Prompt",
        _prompt(facts),
        "## Licence",
        _licence(facts),
    ]
    return "\n\n".join(blocks) + "\n"


def _description(text: str) -> str:
    """The user's words as text, in their paragraphs."""
    paragraphs = [markdown(part) for part in re.split(r"\n\s*\n", text) if part.strip()]
    return "\n\n".join(paragraphs) or "A language model for Foundry Local."


def _front_matter(facts: Facts) -> str:
    lines = ["library_name: onnxruntime-genai", "pipeline_tag: text-generation", "tags: [onnx, foundry-local]"]
    if facts.spec.license:  # JSON strings are YAML strings
        lines.insert(0, f"license: {json_text(json.dumps(facts.spec.license, ensure_ascii=False))}")
    return "\n".join(["---", *lines, "---"])


def _table(facts: Facts) -> str:
    search, context = facts.genai["search"], facts.genai["model"]["context_length"]
    defaults = [f"{key} {search[key]:g}" for key in ("temperature", "top_p", "repetition_penalty") if key in search]
    defaults += [f"{key} {search[key]}" for key in ("top_k", "max_length") if key in search]
    rows = {
        "Model id": f"`{facts.spec.model_id}`",
        "Alias": f"`{facts.identity.alias}`",
        "Version": markdown(facts.spec.version),
        "Precision": _precision(facts),
        "Runs on": f"{', '.join(asked)}; not run by Foundry where it was built"
        if (asked := providers(facts.genai))
        else "CPU",
        "ONNX files": f"{facts.size / 1e6:.1f} MB",
        "Context": f"{context} tokens"
        + (f" (cache of keys and values up to {facts.cache / 1e6:.0f} MB)" if facts.cache else ""),
        "Sampling defaults": ", ".join(defaults),
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items())])


def _precision(facts: Facts) -> str:
    on_cpu = not providers(facts.genai)
    stored = facts.spec.precision.startswith("fp16") and on_cpu
    return markdown(facts.spec.precision) + (", stored as fp16, computes in fp32" if stored else "")


def _prompt(facts: Facts) -> str:
    agreement, lines = facts.agreement, []
    lines.append(
        "The runtime renders the chat template in `tokenizer_config.json`. Its token ids were compared with those of "
        f"transformers on {agreement.compared} conversations and are equal."
    )
    if agreement.skipped:
        names = markdown(", ".join(agreement.skipped))
        lines.append(f"The chat template itself refuses {len(agreement.skipped)} more ({names}).")
    if agreement.with_tools:
        lines.append("With tools they are not: the runtime renders them otherwise.")
    if agreement.rendered:
        names = ", ".join(agreement.rendered)
        lines.append(f"The runtime trims otherwise: {names} get other token ids.")
    if agreement.different:
        names = markdown(", ".join(agreement.different))
        lines.append(f"The runtime does not normalise text as this tokenizer should: {names} get other token ids.")
    if facts.template.parts:
        names = ", ".join(f"`{name}`" for name in facts.template.parts)
        lines.append(f"`PromptTemplate` in `inference_model.json`, for older runtimes, was derived from it: {names}.")
    else:
        lines.append("`inference_model.json` has no `PromptTemplate`, which only older runtimes read.")
    return "\n".join([*lines, *(f"- {markdown(remark)}" for remark in facts.template.remarks)])


def _licence(facts: Facts) -> str:
    files, named = ", ".join(map(code, facts.licences)), markdown(facts.spec.license)
    if named and files:
        return f"{named}; the licence of the base model is in {files}."
    if files:
        return f"That of the base model, in {files}."
    if named:
        return f"{named}. The base model came without a licence file."
    return "Not stated, and the base model came without a licence file: ask whoever made it before passing this on."


_LOAD = f"""With the Foundry Local SDK (`{usage.INSTALL}`), from the folder that holds this file:

```python
PROGRAM
```

`FOLDER` is the absolute path of this folder. Command lines that scan
their cache find it there by `inference_model.json`. In the project that
built it, `doit chat` talks to it, and `doit serve` puts it behind an
OpenAI-compatible service."""

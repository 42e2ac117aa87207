"""The model card of a package with what was measured of it: Hugging Face's form, the figures as its model-index.

The text is the package's own card, see `scripts.package.card`; here it only gains what was not known before. The form
of its metadata: https://huggingface.co/docs/hub/model-cards; written and parsed by huggingface_hub.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import cast

from huggingface_hub.repocard import ModelCard
from huggingface_hub.repocard_data import EvalResult, ModelCardData

from scripts.attest.figures import Figure
from scripts.attest.licences import UNKNOWN
from scripts.common.model_files import BOM, STATEMENT
from scripts.common.visible import line, markdown
from scripts.results.remarks import Remark

_BEFORE = "## How to load it"


def render(card: str, name: str, licence: str, base: str, figures: Sequence[Figure], told: Sequence[Remark]) -> str:
    """The card of a package called `name`, whose own `card` knew no figures yet.

    `licence`: as it is stated; "unknown" leaves the card's own. `base`: id on the hub of what it was fine-tuned
    from, or empty; `told`: remarks on licences.
    """
    parsed = ModelCard(card)
    data = cast(ModelCardData, parsed.data)
    said = data.license if licence == UNKNOWN else licence
    if isinstance(said, str):
        data.license = line(said)
    if base:
        data.base_model = base
    if figures:
        data.model_name = name
        data.eval_results = [
            EvalResult(
                task_type="text-generation", task_name="Text generation", dataset_type="local", dataset_name=one.data,
                metric_type=one.metric, metric_name=one.name, metric_value=one.value,
            )
            for one in figures
        ]  # fmt: skip
    parts = [f"{_figures(figures)}\n\n" if figures else "", _BEFORE]
    text = parsed.text.replace(_BEFORE, "".join(parts), 1)
    remarks = "".join(f"- {markdown(remark.text)}\n" for remark in told)
    body = text.rstrip("\n") + "\n" + (f"\n{remarks}" if told else "")
    body += f"\n## What it was made of\n\n`{BOM}` is the bill of materials (CycloneDX), `{STATEMENT}` the provenance " \
            "(in-toto, SLSA):\nweights, adapters, data and tools, with digests.\n"  # fmt: skip
    return f"---\n{data.to_yaml()}\n---\n{_opened(body)}"


def _figures(figures: Sequence[Figure]) -> str:
    rows = [f"| {one.name.removesuffix(', %').removesuffix(', nats')} | {one.told} | {one.data} |" for one in figures]
    return "\n".join(["## Figures", "", "| | | on |", "|---|---|---|", *rows])


def _opened(body: str) -> str:
    return "\n" + re.sub(r"\A\n+", "", body)

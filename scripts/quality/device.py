"""Run a precision that is made for another device on one that is here: does it say there what it was built to say?

A GPU computes with kernels of its own, so that what its graph says on the CPU proves the weights and not the device.
Here the package runs on the device itself, in onnxruntime-genai, with the provider's own library: its logits are held
against the float export's on the CPU, and its answers to some cases against those of the same graph on the CPU. The
Foundry runtime takes no part in it: SDK 2.2.1 knows WebGPU on Windows and macOS alone.
"""

from __future__ import annotations

import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from scripts.cases import cases as asking
from scripts.common.errors import IngotError
from scripts.definitions.gates import parse_gates
from scripts.quality import gates as gating
from scripts.quality import reference as references
from scripts.quality.logits import GenaiModel
from scripts.quality.tally import Tally
from scripts.results import measured
from scripts.results.quality import Device, Text
from scripts.runtime import genai, plugins

#: Positions of the first text, cases and tokens of an answer: a software adapter computes some tokens a second.
POSITIONS, CASES, TOKENS = 32, 2, 24


def run(
    package: Path, export: Path, reference: Path, cases: Path | None = None, gates: Any = "{}", provider: str = "webgpu"
) -> Device:
    """Compare the package on the device of `provider` with the float folder `export`, and ask it some cases.

    Returns the content of device.json: "skipped" where the device can't compute the graph, with its own words. Raises
    `IngotError` where the provider's package or any device is missing, and on bad input.
    """
    begin = time.perf_counter()
    on, limits = plugins.provide(provider), parse_gates(gates)
    print(f"device: {provider}, {on}", flush=True)
    held = {name: limit for name, limit in limits.items() if name in ("kl", "kl_warn")}
    known: dict[str, Any] = {
        "provider": provider, "device": on, "gates": held, "package": measured.digest(package),
        "runtime": f"onnxruntime-genai {genai.installed()}",
    }  # fmt: skip
    try:
        text = _distance(package, export, references.load(reference))
        print(f"device: KL {text.kl}", flush=True)
        alike, asked = _answers(package, cases)
    except IngotError as error:
        why = f"not run here: on {on}: {error.found}"
        return Device(verdict="skipped", reasons=[why], kl=None, top1=None, **known)
    verdict, reasons = gating.judge({"on the device": text}, held)
    if alike != asked:
        told = f"{asked - alike} of {asked} answers are not those of the same graph on the CPU"
        verdict, reasons = gating.worst((verdict, "warned")), [*reasons, told]
    return Device(
        verdict=verdict, reasons=reasons, kl=text.kl, top1=text.top1_all, positions=text.positions, cases=asked,
        alike=alike, seconds=round(time.perf_counter() - begin, 2), **known,
    )  # fmt: skip


def _distance(package: Path, export: Path, truth: references.Reference) -> Text:
    """KL(float export on the CPU ‖ package on its device) over the first positions of the first text, all at once."""
    tokens = truth.texts[0].tokens[: POSITIONS + 1]
    ids = tokens[:-1]
    q, p = (
        np.concatenate(list(model.logits(ids, len(ids))))
        for model in (GenaiModel(package, elsewhere=True), GenaiModel(export, mapped=True))
    )
    if not np.isfinite(q).all():
        return Text(error="logits that are NaN or infinite", kl=None, top1=None, perplexity_ratio=None)
    width, tally = min(p.shape[1], q.shape[1]), Tally()
    tally.add(p[:, :width], q[:, :width], tokens[1:])
    return tally.figures()


def _answers(package: Path, cases: Path | None) -> tuple[int, int]:
    """How many greedy answers on the device are those of the same graph on the CPU, and how many were asked for."""
    asked = list(islice((case for case in asking.load(cases) if not case.tools), CASES)) if cases else []
    if not asked:
        return 0, 0
    there, here = genai.Model(package, elsewhere=True), genai.Model(package)
    alike = 0
    for case in asked:
        most = min(case.max_tokens, TOKENS)
        answers = [model.greedy(list(case.messages), most) for model in (there, here)]
        print(f"device: {case.id}: {answers[0]!r}" + ("" if answers[0] == answers[1] else f", not {answers[1]!r}"))
        alike += answers[0] == answers[1]
    return alike, len(asked)

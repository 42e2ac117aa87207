"""Run a precision that is made for another device on one that is here: does it say there what it was built to say?

A GPU computes with kernels of its own, so that what its graph says on the CPU proves the weights and not the device.
Here the package runs on the device itself, in onnxruntime-genai with the provider's own library or in OpenVINO: its
logits are held against the float export's on the CPU, and its answers to some cases against those of the same graph by
ONNX Runtime on the CPU. The Foundry runtime takes no part in it: SDK 2.2.1 knows WebGPU on Windows and macOS alone, and
OpenVINO on Windows.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scripts.cases import cases as asking
from scripts.common.errors import IngotError
from scripts.convert import on_cpu
from scripts.definitions.gates import parse_gates
from scripts.definitions.passes import OPENVINO
from scripts.quality import gates as gating
from scripts.quality import reference as references
from scripts.quality.logits import GenaiModel
from scripts.quality.tally import Tally
from scripts.results import measured
from scripts.results.quality import Device, Text
from scripts.runtime import genai, openvino, plugins

#: Positions of the first text, cases and tokens of an answer: a software adapter computes some tokens a second.
POSITIONS, CASES, TOKENS = 32, 2, 24
#: Positions where OpenVINO computes them, on a device that is really there.
MORE_POSITIONS = 256


def run(package: Path, export: Path, reference: Path, cases: Path | None, gates: Any, provider: str) -> Device:
    """Compare the package on the device of `provider` with the float folder `export`, and ask it some cases.

    Returns the content of device.json: "skipped" where the device lacks what the graph needs, with its own words.
    Raises `IngotError` where the provider's package or any device is missing, and for every other fault: of the
    package, the export, the reference or the cases.
    """
    begin = time.perf_counter()
    intel = OPENVINO.get(provider)
    on, limits = openvino.provide(intel) if intel else plugins.provide(provider), parse_gates(gates)
    print(f"device: {provider}, {on}", flush=True)
    held = {name: limit for name, limit in limits.items() if name in ("kl", "kl_warn")}
    known: dict[str, Any] = {
        "provider": provider, "device": on, "gates": held, "package": measured.digest(package),
        "runtime": on if intel else f"onnxruntime-genai {genai.installed()}",
    }  # fmt: skip
    tokens = references.load(reference).texts[0].tokens[: (MORE_POSITIONS if intel else POSITIONS) + 1]
    asked, truth = _asked(cases), _truth(export, tokens)
    try:
        there = openvino.Model(package, intel) if intel else _Plugin(package)
        text = _distance(there.logits(tokens[:-1]), truth, tokens)
        print(f"device: KL {text.kl}", flush=True)
        on_cpu = _on_cpu(package, asked)
        asked = asked[: len(on_cpu)]
        alike = _alike(there, asked, on_cpu)
    except IngotError as error:
        if not (openvino.LACKS in error.found if intel else plugins.lacks(error.found)):
            raise
        why = f"not run here: on {on}: {error.found}"
        return Device(verdict="skipped", reasons=[why], kl=None, top1=None, **known)
    verdict, reasons = gating.judge({"on the device": text}, held)
    if alike != len(asked):
        told = f"{len(asked) - alike} of {len(asked)} answers are not those of the same graph on the CPU"
        verdict, reasons = gating.worst((verdict, "warned")), [*reasons, told]
    return Device(
        verdict=verdict, reasons=reasons, kl=text.kl, top1=text.top1_all, positions=text.positions, cases=len(asked),
        alike=alike, seconds=round(time.perf_counter() - begin, 2), **known,
    )  # fmt: skip


class _Plugin:
    """A package in onnxruntime-genai, on the device whose library was provided."""

    def __init__(self, package: Path) -> None:
        self._package = package

    def logits(self, ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        return _logits(GenaiModel(self._package, elsewhere=True), ids)

    def greedy(self, messages: Sequence[Mapping[str, str]], tokens: int) -> str:
        return self._model.greedy(messages, tokens)

    @cached_property
    def _model(self) -> genai.Model:
        return genai.Model(self._package, elsewhere=True)


def _truth(export: Path, tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    """float32 [positions, vocabulary]: the float export's logits on the CPU, for all tokens but the last."""
    found = _logits(GenaiModel(export, mapped=True), tokens[:-1])
    if not np.isfinite(found).all():
        raise IngotError(export, "gives logits that are NaN or infinite", "Convert it again")
    return found


def _logits(model: GenaiModel, ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    return np.concatenate(list(model.logits(ids, len(ids))))


def _distance(q: npt.NDArray[np.float32], p: npt.NDArray[np.float32], tokens: npt.NDArray[np.int32]) -> Text:
    """KL(`p` ‖ `q`) of two logits, [positions, vocabulary] each, for all `tokens` but the last."""
    if not np.isfinite(q).all():
        return Text(error="logits that are NaN or infinite", kl=None, top1=None, perplexity_ratio=None)
    width, tally = min(p.shape[1], q.shape[1]), Tally()
    tally.add(p[:, :width], q[:, :width], tokens[1:])
    return tally.figures()


def _asked(cases: Path | None) -> list[asking.Case]:
    return list(islice((case for case in asking.load(cases) if not case.tools), CASES)) if cases else []


def _most(case: asking.Case) -> int:
    return min(case.max_tokens, TOKENS)


def _on_cpu(package: Path, asked: Sequence[asking.Case]) -> list[str]:
    """The greedy answers of the same graph on the CPU; none where the CPU has no kernel for it."""
    try:
        model = genai.Model(package, graph=on_cpu.graph_of(package))
        return [model.greedy(list(case.messages), _most(case)) for case in asked]
    except genai.GenaiFault as error:
        if not genai.lacks_kernel(error.found):
            raise
        print(f"device: no answers are compared: on the CPU the graph does not run: {error.found}", flush=True)
        return []


def _alike(there: _Plugin | openvino.Model, asked: Sequence[asking.Case], on_cpu: Sequence[str]) -> int:
    """How many greedy answers on the device are those of the same graph on the CPU."""
    alike = 0
    for case, right in zip(asked, on_cpu, strict=True):
        answer = there.greedy(list(case.messages), _most(case))
        print(f"device: {case.id}: {answer!r}" + ("" if answer == right else f", not {right!r}"))
        alike += answer == right
    return alike

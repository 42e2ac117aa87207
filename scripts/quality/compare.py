"""How far is one model from another, over the full vocabulary, position by position?

    KL(float ‖ other) = Σ_v p(v)·log(p(v) / q(v)) in nats

p is the float model's next-token distribution, q the other's. Both are normalised and summed in float64, a few
positions at a time, so memory does not grow with the text. Export against checkpoint takes p from a reference folder;
a precision against the export runs both side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from scripts.common.context import SPARE
from scripts.common.errors import IngotError
from scripts.convert import on_cpu
from scripts.definitions.gates import parse_gates
from scripts.definitions.passes import HERE, graph_for
from scripts.quality import changes
from scripts.quality import gates as gating
from scripts.quality import reference as references
from scripts.quality.changes import STEPS, WHOLE
from scripts.quality.logits import GenaiModel
from scripts.quality.tally import Floats, Tally
from scripts.results.quality import Quality, Text
from scripts.runtime import genai

#: Positions taken to float64 at once: what fits the processor's cache beats one big array.
_BLOCK = 16


class _NotFiniteError(Exception):
    pass


def run(onnx: Path, reference: Path, export: Path | None, gates: Any, target: str = HERE) -> Quality:
    """Compare the GenAI folder `onnx` with `export`, or with the reference's checkpoint where that is None.

    Returns the content of quality.json: verdict and reasons, the worst over the texts of each figure, and every text's.
    Logits that are NaN or infinite, and a vocabulary that lost words, are refused. What was made for another `target`
    is judged as `on_cpu.graph_of` has it, and skipped where the CPU has no kernel for that either. Raises `IngotError`
    on bad input.
    """
    limits = parse_gates(gates)
    graph = on_cpu.graph_of(onnx) if graph_for(target) != HERE else None
    if graph_for(target) != HERE and (why := _does_not_run(onnx, graph)):
        return Quality(verdict="skipped", reasons=[f"on the CPU a graph for {target} does not run: {why}"], kl=None,
                       top1=None, perplexity_ratio=None, gates=limits)  # fmt: skip
    truth = references.load(reference)
    other = GenaiModel(onnx, mapped=export is None, graph=graph)
    against = GenaiModel(export, mapped=True) if export else None
    vocabulary: dict[str, int] = {}
    texts = {text.name: _text(text, truth, other, against, vocabulary) for text in truth.texts}
    around = {} if export else _passage(truth, other, vocabulary)
    verdict, reasons = gating.judge(texts, limits)
    of_kl = {name: limit for name, limit in limits.items() if name in ("kl", "kl_warn", "kl_p99")}
    elsewhere, more = gating.judge(around, of_kl)
    return Quality(
        verdict=gating.worst((verdict, elsewhere)),
        reasons=reasons + more,
        against="export" if export else "checkpoint",
        **worst(texts),
        gates=limits,
        vocabulary=vocabulary,
        texts=texts,
        changes=around,
    )


def _does_not_run(onnx: Path, graph: bytes | None) -> str | None:
    """Which kernel the CPU lacks for the graph; None where it runs there. Raises what else is wrong."""
    try:
        next(GenaiModel(onnx, graph=graph).logits(np.zeros(3, dtype=np.int32), 3))
    except IngotError as error:
        if not genai.lacks_kernel(error.found):
            raise
        return error.found
    return None


def worst(texts: Mapping[str, Text]) -> dict[str, Any]:
    """Each figure, and its interval, from the text where it is worst; the perplexities go with the worst ratio.

    All are None where a text could not be compared: half a result would flatter the model.
    """
    ratio = ("perplexity_ratio", "perplexity_ratio_interval", "perplexity", "perplexity_float")
    groups = (("kl", "kl_interval"), ("kl_p99",), ("top1", "top1_interval"), ("top1_all",), ratio)
    if any(text.error for text in texts.values()):
        return {name: None for group in groups for name in group}
    result: dict[str, Any] = {}
    for group in groups:
        known = [text for text in texts.values() if getattr(text, group[0]) is not None]
        choose = min if group[0].startswith("top1") else max
        text = choose(known, key=attrgetter(group[0]), default=None)
        result |= {name: getattr(text, name, None) for name in group}
    return result


def _text(
    text: references.Text,
    truth: references.Reference,
    other: GenaiModel,
    against: GenaiModel | None,
    vocabulary: dict[str, int],
) -> Text:
    # What lies beyond the context of a conversion is never served.
    tokens = text.tokens[: min(model.context for model in (other, against) if model) - SPARE]
    ids, targets, tally, done = tokens[:-1], tokens[1:], Tally(), 0
    left: Iterator[Floats] = against.logits(ids, truth.rows) if against else text.log_probabilities()
    right = other.logits(ids, truth.rows)
    for q, truths in zip(right, left, strict=False):
        p = truths[: len(q)]
        if len(p) != len(q):
            raise IngotError(other.folder, f"gave {len(q)} positions where the reference has {len(p)}")
        width = min(p.shape[1], q.shape[1])
        vocabulary.update(float=p.shape[1], other=q.shape[1], compared=width)
        if width < max(truth.tokenizer_size if p.shape[1] != q.shape[1] else 0, int(text.tokens.max()) + 1):
            found = f"the vocabulary has {width} of the tokenizer's {truth.tokenizer_size} entries"
            return Text(error=found, kl=None, top1=None, perplexity_ratio=None)
        try:
            for part in range(0, len(p), _BLOCK):
                rows = slice(part, min(part + _BLOCK, len(p)))
                at = slice(done + rows.start, done + rows.stop)
                # Entries past the tokenizer's are padding that some tools drop: leave them out of both.
                tally.add(
                    _finite(p[rows, :width], at.start, "the float model"),
                    _finite(q[rows, :width], at.start, "the model"),
                    targets[at],
                )
        except _NotFiniteError as error:
            return Text(error=str(error), positions=done, kl=None, top1=None, perplexity_ratio=None)
        done += len(p)
        print(f"quality: {text.name}: {done} of {len(ids)} positions", flush=True)
    return tally.figures()


def _passage(truth: references.Reference, other: GenaiModel, vocabulary: dict[str, int]) -> dict[str, Text]:
    """The figures around each length at which the model changes, for each way of feeding it up to there.

    What lies beyond the context that the conversion allows is left out: it is never served.
    """
    passage, found = truth.passage, dict[str, Text]()
    spans = [span for span in passage.spans if span.stop + SPARE <= other.context]
    for way in (WHOLE, STEPS):
        for seen, of in changes.passes(spans, truth.rows, way):
            rows: dict[changes.Span, list[Floats]] = {span: [] for span in seen}
            for (start, stop), values in zip(of, other.pieces(passage.tokens[: seen[-1].stop], of), strict=True):
                for span in seen:
                    if span.start <= start and stop <= span.stop:
                        rows[span].append(values)
            for span, parts in rows.items():
                name = f"tokens {span.start} to {span.stop}, around {span.what}, fed {way}"
                found[name] = _span(span, np.load(passage.truth[span, way]), np.concatenate(parts), passage, vocabulary)
                print(f"quality: {name}", flush=True)
    return found


def _span(span: changes.Span, p: Floats, q: Floats, passage: references.Passage, vocabulary: dict[str, int]) -> Text:
    tally, width = Tally(), vocabulary["compared"]
    # The token after the passage's last does not exist: any will do, perplexity is not judged here.
    targets = np.resize(passage.tokens[span.start + 1 : span.stop + 1], span.stop - span.start)
    try:
        left, right = (
            _finite(rows[:, :width], span.start, who) for rows, who in ((p, "the float model"), (q, "the model"))
        )
    except _NotFiniteError as error:
        return Text(error=str(error), kl=None, top1=None, perplexity_ratio=None)
    tally.add(left, right, targets)
    return tally.figures()


def _finite(values: Floats, start: int, who: str) -> Floats:
    good = np.isfinite(values).all(axis=1)
    if not good.all():
        raise _NotFiniteError(
            f"{who} gives logits that are NaN or infinite from position {start + int(good.argmin())} on"
        )
    return values

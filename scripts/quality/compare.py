"""How far is one model from another, over the full vocabulary, position by position?

    KL(float ‖ other) = Σ_v p(v)·log(p(v) / q(v)) in nats

p is the float model's next-token distribution, q the other's. Both are normalised and summed in float64, a few
positions at a time, so memory does not grow with the text. Export against checkpoint takes p from a reference folder;
a precision against the export runs both side by side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scripts.engine.errors import IngotError
from scripts.quality import gates as gating
from scripts.quality import reference as references
from scripts.quality.logits import GenaiModel

#: Where the float model's best two tokens are closer than this (nats), which comes first is chance.
SURE = 0.1
#: Positions taken to float64 at once: what fits the processor's cache beats one big array.
_BLOCK = 16

Floats = npt.NDArray[Any]


class _NotFiniteError(Exception):
    pass


@dataclass
class Tally:
    """Figures per position of one text, gathered piece by piece; all float64 or bool, [positions so far]."""

    kl: list[Floats] = field(default_factory=list)
    agree: list[Floats] = field(default_factory=list)
    sure: list[Floats] = field(default_factory=list)
    loss: list[Floats] = field(default_factory=list)
    float_loss: list[Floats] = field(default_factory=list)

    def add(self, truth: Floats, other: Floats, targets: npt.NDArray[np.int32]) -> None:
        """Add n positions: `truth` and `other` [n, vocabulary] (logits or log-probabilities), `targets` [n]."""
        rows = np.arange(len(targets))
        p, q = _log_softmax(truth), _log_softmax(other)
        best, choice = p.max(axis=1), q.argmax(axis=1)
        # Equal, not "the same index": float16 can make the best two of the reference tie.
        self.agree.append(p[rows, choice] == best)
        self.loss.append(-q[rows, targets])
        self.float_loss.append(-p[rows, targets])
        np.subtract(p, q, out=q)
        self.kl.append(np.einsum("nv,nv->n", np.exp(p), q))
        p[rows, p.argmax(axis=1)] = -np.inf
        self.sure.append(best - p.max(axis=1) > SURE)

    def figures(self) -> dict[str, Any]:
        """The text's figures: kl, kl_p99 (nats), top1, top1_all (0 to 1), perplexities, positions, sure_positions."""
        kl, agree, sure = (np.concatenate(part) for part in (self.kl, self.agree, self.sure))
        loss, float_loss = np.concatenate(self.loss).mean(), np.concatenate(self.float_loss).mean()
        return {
            "kl": _round(max(0.0, kl.mean())),
            "kl_p99": _round(max(0.0, np.quantile(kl, 0.99))),
            "top1": _round(agree[sure].mean()) if sure.any() else None,
            "top1_all": _round(agree.mean()),
            "perplexity": _round(np.exp(min(loss, 700.0))),
            "perplexity_float": _round(np.exp(min(float_loss, 700.0))),
            "perplexity_ratio": _round(np.exp(min(loss - float_loss, 700.0))),
            "positions": len(kl),
            "sure_positions": int(sure.sum()),
        }


def run(onnx: Path, reference: Path, export: Path | None, gates: Any) -> dict[str, Any]:
    """Compare the GenAI folder `onnx` with `export`, or with the reference's checkpoint where that is None.

    Returns the whole quality.json: verdict and reasons, the worst over the texts of each figure, and every text's.
    Logits that are NaN or infinite, and a vocabulary that lost words, are refused. Raises `IngotError` on bad input.
    """
    limits = gating.parse(gates)
    truth = references.load(reference)
    other = GenaiModel(onnx)
    against = GenaiModel(export) if export else None
    vocabulary: dict[str, int] = {}
    texts = {text.name: _text(text, truth, other, against, vocabulary) for text in truth.texts}
    verdict, reasons = gating.judge(texts, limits)
    return {
        "verdict": verdict,
        "reasons": reasons,
        "against": "export" if export else "checkpoint",
        **worst(texts),
        "gates": limits,
        "vocabulary": vocabulary,
        "texts": texts,
    }


def worst(texts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Each figure from the text where it is worst; the perplexity is that of the text with the worst ratio.

    All are None where a text could not be compared: half a result would flatter the model.
    """
    names = ("kl", "kl_p99", "top1", "top1_all", "perplexity", "perplexity_float", "perplexity_ratio")
    if any(text.get("error") for text in texts.values()):
        return dict.fromkeys(names)
    ratio = max(texts.values(), key=lambda text: text["perplexity_ratio"])
    result = {name: ratio[name] for name in names}
    for name in ("kl", "kl_p99"):
        result[name] = max(text[name] for text in texts.values())
    for name in ("top1", "top1_all"):
        result[name] = min((text[name] for text in texts.values() if text[name] is not None), default=None)
    return result


def _text(
    text: references.Text,
    truth: references.Reference,
    other: GenaiModel,
    against: GenaiModel | None,
    vocabulary: dict[str, int],
) -> dict[str, Any]:
    ids, targets, tally, done = text.tokens[:-1], text.tokens[1:], Tally(), 0
    left: Iterator[Floats] = against.logits(ids, truth.rows) if against else text.log_probabilities()
    right = other.logits(ids, truth.rows)
    for p, q in zip(left, right, strict=True):
        if len(p) != len(q):
            raise IngotError(other.folder, f"gave {len(q)} positions where the reference has {len(p)}")
        width = min(p.shape[1], q.shape[1])
        vocabulary.update(float=p.shape[1], other=q.shape[1], compared=width)
        if width < max(truth.tokenizer_size if p.shape[1] != q.shape[1] else 0, int(text.tokens.max()) + 1):
            found = f"the vocabulary has {width} of the tokenizer's {truth.tokenizer_size} entries"
            return {"error": found, "positions": 0}
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
            return {"error": str(error), "positions": done}
        done += len(p)
        print(f"quality: {text.name}: {done} of {len(ids)} positions", flush=True)
    return tally.figures()


def _finite(values: Floats, start: int, who: str) -> Floats:
    good = np.isfinite(values).all(axis=1)
    if not good.all():
        raise _NotFiniteError(
            f"{who} gives logits that are NaN or infinite from position {start + int(good.argmin())} on"
        )
    return values


def _log_softmax(values: Floats) -> Floats:
    result = values.astype(np.float64)
    result -= result.max(axis=1, keepdims=True)
    result -= np.log(np.exp(result).sum(axis=1, keepdims=True))
    return result


def _round(value: Any) -> float:
    """Six digits: what differs beyond them is the order of additions, and must not start a rebuild."""
    return float(f"{float(value):.6g}")

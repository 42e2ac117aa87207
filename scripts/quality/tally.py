"""What two models differ by, position by position, and the figures that this makes of a whole text.

Per position only a handful of numbers is kept, so a text of any length costs next to nothing.

How sure is a mean over one text? Neighbouring positions share a sentence and a topic and are not independent, so the
95 % intervals come from a circular block bootstrap (Politis & Romano 1992): whole stretches of the text are drawn
again, the end wrapping round to the beginning so that every position is drawn as often as any other. A stretch has
3·n^(1/3) positions. The power is the one that estimates a variance best (Hall, Horowitz & Jing 1995); the factor is
measured: on SmolLM2-135M in int4 and int8 the standard error of the mean KL grows with the stretch, to 1.3 to 1.8
times that of independent positions, and levels off at about 30 of a thousand.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from scripts.results.base import Interval
from scripts.results.quality import Stretch, Text

#: Where the float model's best two tokens are closer than this (nats), which comes first is chance.
SURE = 0.1
#: Draws of the bootstrap, and their seed: the same figures give the same intervals.
DRAWS, _SEED = 2000, 0
#: So many draws are made together: all at once would take a hundred times the memory of the text's figures.
_AT_ONCE = 50
#: A text is cut into at most so many equal stretches to show how KL goes along it, none shorter than _SHORTEST.
BUCKETS, _SHORTEST = 32, 8
#: exp() of more than this does not fit a float64.
_LARGEST = 700.0

Floats = npt.NDArray[Any]


@dataclass
class Tally:
    """Numbers per position of one text, gathered piece by piece; all float64 or bool, [positions so far].

    `kl`: KL(float ‖ other), nats. `loss`, `float_loss`: -log probability of the token that came, nats. `agree`: the
    other's first choice is the float model's. `sure`: the float model's first choice leads by more than `SURE`.
    """

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

    def figures(self) -> Text:
        """The text's figures: kl, kl_p99 (nats), top1, top1_all (0 to 1), perplexities, positions, sure_positions.

        Beside kl, top1 and perplexity_ratio their 95 % intervals, [low, high]; `kl_by_position` is the mean KL of
        stretches of the text. top1 and its interval are None where the float model is sure of nothing.
        """
        kl, agree, sure = (np.concatenate(part) for part in (self.kl, self.agree, self.sure))
        loss, float_loss = np.concatenate(self.loss), np.concatenate(self.float_loss)
        sums = bootstrap_sums(np.stack([kl, loss - float_loss, agree & sure, sure]))
        drawn = sums[3] > 0
        return Text(
            kl=_round(max(0.0, kl.mean())),
            kl_interval=_interval(np.maximum(0.0, sums[0] / len(kl))),
            kl_p99=_round(max(0.0, np.quantile(kl, 0.99))),
            top1=_round(agree[sure].mean()) if sure.any() else None,
            top1_interval=_interval(sums[2, drawn] / sums[3, drawn]) if sure.any() else None,
            top1_all=_round(agree.mean()),
            perplexity=_round(_exp(loss.mean())),
            perplexity_float=_round(_exp(float_loss.mean())),
            perplexity_ratio=_round(_exp(loss.mean() - float_loss.mean())),
            perplexity_ratio_interval=_interval(_exp(sums[1] / len(kl))),
            positions=len(kl),
            sure_positions=int(sure.sum()),
            kl_by_position=by_position(kl),
        )


def bootstrap_sums(series: Floats) -> Floats:
    """Sums over redrawn texts: `series` [figures, n] → [figures, DRAWS], each over n positions.

    All figures are drawn together, so that a ratio of two of them is one of the same redrawn text.
    """
    n = series.shape[1]
    size = min(n, round(3 * n ** (1 / 3)))
    wrapped = np.concatenate([series, series[:, :size]], axis=1).astype(np.float64)
    before = np.concatenate([np.zeros((len(series), 1)), np.cumsum(wrapped, axis=1)], axis=1)
    whole, rest = divmod(n, size)
    lengths = np.array([size] * whole + [rest])
    draws, sums = np.random.default_rng(_SEED), []
    for _ in range(DRAWS // _AT_ONCE):
        starts = draws.integers(0, n, size=(_AT_ONCE, whole + 1))
        sums.append((before[:, starts + lengths] - before[:, starts]).sum(axis=2))
    return np.concatenate(sums, axis=1)


def by_position(kl: Floats) -> list[Stretch]:
    """Mean KL of equal stretches of the text, [from, to); the last may be shorter."""
    size = max(_SHORTEST, -(-len(kl) // BUCKETS))
    edges = range(0, len(kl), size)
    return [
        Stretch(start=start, end=min(start + size, len(kl)), kl=_round(max(0.0, kl[start : start + size].mean())))
        for start in edges
    ]


def _interval(draws: Floats) -> Interval:
    low, high = np.quantile(draws, (0.025, 0.975))
    return [_round(low), _round(high)]


def _exp(value: Floats) -> Floats:
    return np.exp(np.minimum(value, _LARGEST))


def _log_softmax(values: Floats) -> Floats:
    result = values.astype(np.float64)
    result -= result.max(axis=1, keepdims=True)
    result -= np.log(np.exp(result).sum(axis=1, keepdims=True))
    return result


def _round(value: Any) -> float:
    """Six digits: what differs beyond them is the order of additions, and must not start a rebuild."""
    return float(f"{float(value):.6g}")

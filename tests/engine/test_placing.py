"""What a step does where its worker or the scheduler goes; the scheduler is a stand-in, whose times are set here."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, cast

import pytest

from scripts.engine import cluster as module
from scripts.engine.cluster import Cluster
from scripts.engine.scheduler import Scheduler, Worker, describe_worker

pytestmark = pytest.mark.needs("distributed")

JOB = {"step": "a step", "stage": "text", "verb": "copy", "sources": {}, "tools": {}, "observed": {}}
WELL = {"reason": None, "worker": "one"}


class StandIn:
    """A scheduler with two workers. `answers`: what becomes of each job that is given to it; None: nothing."""

    def __init__(self, *answers: Mapping[str, Any] | Exception | None, answers_for: float = 1e9) -> None:
        self.answers, self.given, self.closed = [*answers], list[Future[Any]](), False
        self._end = time.monotonic() + answers_for

    @property
    def answered(self) -> float:
        return min(time.monotonic(), self._end)

    def seen(self, _: object) -> float:
        return 0.0

    def workers(self) -> dict[str, Worker]:
        return {name: Worker({"memory": 1}, describe_worker()) for name in ("one", "other")}

    def submit(self, *_: object) -> Future[Any]:
        answer, future = self.answers.pop(0), Future[Any]()
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            future.set_result(answer)
        self.given.append(future)
        return future

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(module, "PATIENCE", 1.0)
    return []


def placed(monkeypatch: pytest.MonkeyPatch, lines: list[str], *schedulers: StandIn) -> object:
    """What becomes of the step, where each connection leads to the next of these."""
    left = iter(schedulers)
    monkeypatch.setattr(module, "Scheduler", lambda _: cast(Scheduler, next(left)))
    return Cluster("tcp://somewhere", lines.append).build(JOB, {"memory": 1}, lambda _: None)


def test_a_worker_that_is_gone_leaves_the_steps_of_others_alone(
    monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    scheduler = StandIn(None, WELL)
    assert placed(monkeypatch, lines, scheduler) == WELL and not scheduler.closed
    assert scheduler.given[0].cancelled() and "nobody who may build it" in lines[0]


def test_a_scheduler_that_is_gone_is_reached_anew(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    gone = StandIn(None, WELL, answers_for=0)
    assert placed(monkeypatch, lines, gone, StandIn(WELL)) == WELL and gone.closed
    assert "gave no answer" in lines[0]


def test_what_it_said_long_ago_counts_for_nothing(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    silent = StandIn(WELL, answers_for=-1)
    assert placed(monkeypatch, lines, silent, StandIn(WELL)) == WELL and silent.closed and not silent.given


def test_a_connection_that_closed_itself_is_made_anew(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    closed = StandIn(RuntimeError("Client is closed"))
    assert placed(monkeypatch, lines, closed, StandIn(WELL)) == WELL and closed.closed
    assert "Client is closed" in lines[0]


def test_what_a_worker_made_but_could_not_store_is_asked_of_no_other(
    monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    scheduler = StandIn({"unstored": "what was made can't be stored", "worker": "one"}, WELL)
    assert placed(monkeypatch, lines, scheduler) is None and len(scheduler.given) == 1
    assert lines == ["dask a step: one: what was made can't be stored; building it here"]

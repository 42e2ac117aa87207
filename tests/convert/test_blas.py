"""Small matrices side by side with one thread each, large ones by themselves; and the same figures either way."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

from scripts.convert import blas, gptq


def threads() -> int:
    """How many threads numpy takes at this moment; 1 where it has no OpenBLAS to ask."""
    library = blas._library()
    return library[0]() if library else 1


def test_items_are_worked_on_in_order_and_large_ones_by_themselves() -> None:
    before, main = threads(), threading.get_ident()
    seen: dict[int, tuple[bool, int]] = {}

    def work(item: int) -> int:
        seen[item] = threading.get_ident() == main, threads()
        return 10 * item

    assert blas.spread(work, [3, 100, 1, 2], lambda item: item < 10) == [30, 1000, 10, 20]
    assert {item for item, (in_main, _) in seen.items() if in_main} == {100}
    assert [seen[item][1] for item in (3, 1, 2)] == [1, 1, 1]
    assert seen[100][1] == threads() == before


def test_a_failure_is_passed_on_and_leaves_the_threads_as_they_were() -> None:
    before = threads()
    with pytest.raises(ZeroDivisionError):
        blas.spread(lambda item: 1 // item, [1, 0])
    assert threads() == before


def test_factors_are_those_of_each_matrix_however_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    inputs = {str(size): draw.standard_normal((2 * size, size)).astype(np.float32) for size in (8, 96, 200)}
    found = []
    for most in (4096, 100, 1):
        monkeypatch.setattr(gptq, "AT_ONCE", most)
        found.append(gptq.factors({name: x.T @ x for name, x in inputs.items()}, [(name, 32) for name in inputs]))
    for name, x in inputs.items():
        for factors in found:
            one = gptq.factor(x.T @ x, 32)
            np.testing.assert_array_equal(factors[name, 32].order, one.order)
            np.testing.assert_allclose(factors[name, 32].upper, one.upper, rtol=1e-3, atol=1e-5)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to cores")
def test_no_more_threads_than_cores_that_the_process_may_use() -> None:
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(mine)})
    try:
        assert len(set(blas.spread(lambda _: threading.get_ident(), range(20)))) == 1
    finally:
        os.sched_setaffinity(0, mine)

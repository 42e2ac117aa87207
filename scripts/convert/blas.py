"""How many threads numpy's linear algebra uses: one, where what calls it runs in threads of its own.

numpy's wheels bring OpenBLAS, whose threads wait for each other in a loop that takes the processor: called from
several threads at once, or beside another program, it takes a multiple of the time. Where numpy computes with something
else, such as Accelerate on macOS, nothing is done.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from scripts.common.machine import usable_cores

T = TypeVar("T")
R = TypeVar("R")

#: The names of OpenBLAS's function in numpy's wheels, and where it was built for itself.
_NAMES = ("scipy_openblas_{}_num_threads64_", "scipy_openblas_{}_num_threads", "openblas_{}_num_threads64_",
          "openblas_{}_num_threads")  # fmt: skip


def spread(work: Callable[[T], R], items: Iterable[T], is_small: Callable[[T], bool] = lambda _: True) -> list[R]:
    """`work` on each of the items, in as many threads as there are cores, in which numpy takes one each.

    What is not small, and takes much memory, is worked on by itself after that, in as many as numpy likes.
    """
    given = list(items)
    places = [place for place, item in enumerate(given) if is_small(item)]
    with _one_thread(), ThreadPoolExecutor(usable_cores()) as pool:
        found = dict(zip(places, pool.map(lambda place: work(given[place]), places), strict=True))
    return [found[place] if place in found else work(item) for place, item in enumerate(given)]


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    library = _library()
    if library is None:
        yield
        return
    get, put = library
    before = get()
    put(1)
    try:
        yield
    finally:
        put(before)


@functools.cache
def _library() -> tuple[Callable[[], int], Callable[[int], Any]] | None:
    folder = Path(np.__file__).parent.with_name("numpy.libs")
    for path in sorted(folder.glob("*openblas*")):
        with contextlib.suppress(OSError):  # loaded by numpy already: this is a second handle on the same
            found = ctypes.CDLL(str(path))
            for name in _NAMES:
                if hasattr(found, name.format("set")):
                    return getattr(found, name.format("get")), getattr(found, name.format("set"))
    return None

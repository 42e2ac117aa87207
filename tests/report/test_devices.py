"""A precision for another device: what is said of it before it was run there, after, and after it was built anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripts.report import text
from scripts.report.collect import collect
from scripts.results import base
from tests.report import results

SEEN = {
    "verdict": "passed", "reasons": [], "provider": "webgpu", "device": "a GPU of NVIDIA", "kl": 0.002, "top1": 1.0,
    "positions": 32, "cases": 2, "alike": 2,
}  # fmt: skip
LACKS = {**SEEN, "verdict": "skipped", "reasons": ["not run here: no float16"], "kl": None, "top1": None}


def report(folder: Path, seen: dict[str, Any] | None, digest: str | None = None) -> tuple[str, str, dict[str, Any]]:
    """Verdict and first reason of the row, and the whole report; `digest`: of the package that was run, if another."""
    place = folder / "m" / "gpu"
    results.write(folder / "m" / "quality.json", results.quality(1e-7))
    results.write(place / "quality.json", results.quality(0.001))
    if seen:
        results.write(place / "device.json", seen)
    results.packaged(place, digest, *(["device"] if seen else []))
    settings = {"recipes": {"gpu": {"target": "webgpu"}}}
    found = base.plain(collect(folder, [{"name": "m", "precisions": ["gpu"], "settings": settings}], options=[]))
    row = found["models"][0]["precisions"][0]
    return row["verdict"], row["reasons"][0], found


def test_what_was_run_on_its_device_is_told_with_the_device(tmp_path: Path) -> None:
    verdict, reason, found = report(tmp_path, None)
    assert (verdict, reason.startswith("not run here: it is made for webgpu")) == ("skipped", True)
    assert "not run here (webgpu)" in text.markdown(found)
    verdict, reason, found = report(tmp_path, SEEN)
    assert (
        reason == "run on a GPU of NVIDIA: KL 0.002 over 32 positions, 2 of 2 answers as on the CPU; not deployed here"
    )
    told = text.markdown(found)
    assert "run here (webgpu)" in told and "not run here" not in told


@pytest.mark.parametrize("seen", [SEEN, LACKS])
def test_what_was_seen_of_an_earlier_package_or_not_computed_is_not_run_here(
    tmp_path: Path, seen: dict[str, Any]
) -> None:
    _, reason, found = report(tmp_path, seen, None if seen is LACKS else "another")
    assert reason.startswith("not run here: ")
    assert "not run here (webgpu)" in text.markdown(found)

from __future__ import annotations

from pathlib import Path

import pytest

from tests.report import results


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """int4 refused by its gate, int8 deployed and verified, fp16 broken after an older result."""
    return results.make_build(tmp_path / "a build")


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """The same, with everything measured for int4."""
    return results.make_full(tmp_path / "a full build")

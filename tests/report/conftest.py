from __future__ import annotations

from pathlib import Path

import pytest

from tests.report import results


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """int4 refused by its gate, int8 deployed and verified, fp16 broken after an older result."""
    return results.make_build(tmp_path / "a build")

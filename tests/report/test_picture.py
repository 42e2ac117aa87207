"""A picture of the report, where there is no browser to take it."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.common.errors import IngotError
from scripts.report import picture


def test_without_chromium_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(IngotError, match="apt-get install chromium"):
        picture.find()

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.common.errors import IngotError
from scripts.results import remarks
from scripts.results.remarks import Remark


def test_remarks_come_back_as_they_were_written_each_once(tmp_path: Path) -> None:
    first, second = Remark("lm_head.weight", "untied"), Remark("Grüße.txt", 'a "quoted" one\nand a line')
    remarks.write(tmp_path, [first, second, first])
    assert remarks.read(tmp_path) == [first, second]
    assert json.loads((tmp_path / "remarks.json").read_text(encoding="utf-8"))["remarks"][0] == {
        "subject": "lm_head.weight",
        "text": "untied",
    }


def test_no_remark_makes_no_file(tmp_path: Path) -> None:
    remarks.write(tmp_path, [])
    assert not list(tmp_path.iterdir())
    assert remarks.read(tmp_path) == []


def test_a_file_of_something_else_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "remarks.json").write_text('{"remarks": [1]}')
    with pytest.raises(IngotError, match="not a file of remarks"):
        remarks.read(tmp_path)

"""One definition of a result: what is written is read again, and what has another form is named by file and field."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from scripts.common import json_files
from scripts.common.errors import IngotError
from scripts.definitions.gates import Gates
from scripts.results import base, report
from scripts.results.domain import Domain
from scripts.results.foundry import Deploy
from scripts.results.quality import Quality
from tests.report import results

PROJECT = Path(__file__).parents[2]


def test_the_published_schema_is_that_of_the_definition() -> None:
    assert json_files.read(report.SCHEMA) == report.schema(), "python -m scripts.results writes it anew"


def test_a_report_keeps_to_the_published_schema(tmp_path: Path) -> None:
    schema = json_files.read(report.SCHEMA)
    jsonschema.Draft202012Validator.check_schema(schema)
    found = results.collected(results.make_full(tmp_path / "build"))
    jsonschema.validate(found, schema, cls=jsonschema.Draft202012Validator)
    found["models"][0]["precisions"][0]["quality"]["top1"] = 97
    with pytest.raises(jsonschema.ValidationError, match="97"):
        jsonschema.validate(found, schema, cls=jsonschema.Draft202012Validator)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    written = Deploy(verdict="skipped", reasons=["ünicode"], id="m:1", cache="/c")
    base.write(tmp_path / "deploy.json", written)
    assert base.read(tmp_path / "deploy.json", Deploy) == written
    assert list(json_files.read(tmp_path / "deploy.json"))[:2] == ["verdict", "reasons"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"kl": "0.1"}, "kl: expected float | null, found str"),
        ({"kl": -1.0}, "kl: expected float >= 0.0"),
        ({"verdict": "fine"}, "verdict: invalid enum value 'fine'"),
        ({"texts": {"general": {"kl": 1}}}, r"texts\[...\]: object missing required field top1"),
        ({"reasons": None}, "reasons: expected array, found null"),
    ],
)
def test_a_file_of_another_form_is_named_with_its_field_and_a_remedy(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    file = tmp_path / "quality.json"
    json_files.write(file, results.quality(0.1) | change)
    with pytest.raises(IngotError, match=rf"quality\.json: .*{told}\. Remove it, and build again: doit"):
        base.read(file, Quality)


@pytest.mark.parametrize(
    "text", ["{", "", "nonsense", '{"x": ' + "[" * 100_000, '{"verdict": "passed" "reasons": []}', "\x00"]
)
def test_a_file_that_is_not_json_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "quality.json").write_text(text, encoding="utf-8")
    with pytest.raises(IngotError, match=r"quality\.json: is not JSON.*Remove it, and build again"):
        base.read(tmp_path / "quality.json", Quality)


def test_what_a_reader_would_refuse_is_not_written(tmp_path: Path) -> None:
    wrong = Domain(verdict="passed", reasons=[], score=101.0, cases=[])
    with pytest.raises(msgspec.ValidationError, match="score"):
        base.write(tmp_path / "domain.json", wrong)
    assert not (tmp_path / "domain.json").exists()


def test_a_result_of_a_later_version_with_more_fields_is_read(tmp_path: Path) -> None:
    json_files.write(tmp_path / "quality.json", results.quality(0.1) | {"novelty": 1})
    assert base.read(tmp_path / "quality.json", Quality).kl == 0.1


def test_every_gate_of_the_settings_is_one_of_the_registry() -> None:
    named = {name for entry in report.METRICS.values() for name in (entry.gate, entry.warns, entry.loses) if name}
    assert named == {field.name for field in msgspec.structs.fields(Gates)}


def test_reading_results_imports_nothing_heavy() -> None:
    code = (
        "import sys; from scripts.results import report; "
        "print({'torch', 'onnx', 'pydantic', 'rich', 'jsonschema', 'typer', 'numpy'} & sys.modules.keys() or 'nothing')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "nothing"

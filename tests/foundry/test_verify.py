"""The deployed model is asked in a fresh process, and anything that is not as recorded is named."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.common.manifest import MANIFEST
from scripts.foundry import cache as caches
from scripts.foundry.deploy import deploy
from scripts.results import base
from tests import tiny
from tests.served import MODEL_ID, write_package


@pytest.fixture
def place(package: Path, tmp_path: Path) -> Path:
    """A folder with deploy.json of a model deployed beside it, two cases, and their recorded answers."""
    result = deploy(package, MODEL_ID, tmp_path / "a cache")
    base.write(tmp_path / "deploy.json", result)
    rows = write_cases(tmp_path, 2, lambda _: 40)
    rows[0] |= {"passed": False, "text": "?"}
    write_answers(tmp_path, rows)
    return tmp_path


def write_cases(folder: Path, count: int, most: Callable[[str], int]) -> list[dict[str, Any]]:
    """Cases, and the rows of domain.json with their right answers; `most` tokens each."""
    rows: list[dict[str, Any]] = []
    with (folder / "cases.jsonl").open("w") as file:
        for number, (question, answer) in enumerate(tiny.FACTS[:count]):
            case = {"id": f"c{number}", "prompt": question, "max_tokens": most(answer), "expect": {"exact": answer}}
            file.write(json.dumps(case) + "\n")
            rows.append({"id": f"c{number}", "text": answer, "passed": True, "failures": []})
    return rows


def write_answers(folder: Path, rows: list[dict[str, Any]]) -> None:
    result = {"verdict": "passed", "reasons": [], "score": 50.0, "cases": rows}
    (folder / "domain.json").write_text(json.dumps(result))


def verify(package: Path, place: Path, recorded: bool = True) -> tuple[int, str, dict[str, Any]]:
    output = place / "verify.json"
    command = [sys.executable, "-m", "scripts.foundry", "verify", "--package", package]
    command += ["--deployed", place / "deploy.json", "--output", output]
    if recorded:
        command += ["--domain", place / "domain.json", "--cases", place / "cases.jsonl"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=Path(__file__).parents[2])
    return done.returncode, done.stderr, json.loads(output.read_text()) if output.exists() else {}


def test_a_deployed_model_gives_the_recorded_answer(package: Path, place: Path) -> None:
    code, error, result = verify(package, place)
    assert code == 0, error
    assert result["verdict"] == "passed"
    assert result["case"] == "c1"  # the first that passed
    assert result["answer"] == result["expected"] == tiny.FACTS[1][1]
    assert result["listed"] and result["streamed"] and result["http"]
    assert result["ended"] and not result["remarks"]


def test_an_answer_that_was_cut_is_not_what_is_expected(package: Path, place: Path) -> None:
    _, whole = write_cases(place, 2, lambda _: 40)
    cut = {"id": "c0", "passed": False, "text": "The", "failures": ["exact"], "cut": True}
    write_answers(place, [cut, whole | {"passed": False, "failures": ["no loop"]}])
    code, error, result = verify(package, place)
    assert code == 0, error
    assert result["case"] == "c1"


def write_eos(onnx: Path, target: Path, eos: int) -> Path:
    """A package whose generations end with the token `eos`, and which says how its turns begin."""
    shutil.copytree(onnx, target)
    settings = json.loads((target / "genai_config.json").read_text())
    settings["model"]["eos_token_id"] = eos
    (target / "genai_config.json").write_text(json.dumps(settings))
    parts = {role: f"<|im_start|>{role}\n{{Content}}<|im_end|>\n" for role in ("system", "user", "assistant")}
    marker = {"Name": MODEL_ID, "PromptTemplate": parts}
    (target / caches.MARKER).write_text(json.dumps(marker))
    (target / MANIFEST).write_text(json.dumps({"files": caches.contents(target)}))
    return target


@pytest.mark.parametrize("eos", [2, 0])
def test_an_answer_that_runs_on_past_its_turn_is_a_remark(onnx_folder: Path, tmp_path: Path, eos: int) -> None:
    """The model was trained to end its turns with token 2: real generation, by the runtime."""
    package = write_eos(onnx_folder, tmp_path / "package", eos)
    base.write(tmp_path / "deploy.json", deploy(package, MODEL_ID, tmp_path / "a cache"))
    code, error, result = verify(package, tmp_path, recorded=False)
    assert code == 0, error
    assert result["verdict"] == "passed"
    assert result["ended"] == (eos == 2)
    said = " ".join(remark["text"] for remark in result["remarks"])
    assert ("did not end by itself within 256 tokens" in said) == (eos == 0)
    assert ("an answer holds 'assistant', with which the chat template begins a turn" in said) == (eos == 0)


def test_how_answers_end_is_judged_by_several_cases(onnx_folder: Path, tmp_path: Path) -> None:
    package = write_eos(onnx_folder, tmp_path / "package", 0)
    base.write(tmp_path / "deploy.json", deploy(package, MODEL_ID, tmp_path / "a cache"))
    tokenizer = tiny.make_tokenizer()
    write_answers(tmp_path, write_cases(tmp_path, 4, lambda answer: len(tokenizer.encode(answer))))
    code, error, result = verify(package, tmp_path)
    assert code == 0, error
    assert not result["ended"]
    said = " ".join(remark["text"] for remark in result["remarks"])
    assert "3 of 3 answers did not end by themselves within 256 tokens" in said


def test_without_cases_it_gives_the_greedy_text_of_its_package(package: Path, place: Path) -> None:
    code, error, result = verify(package, place, recorded=False)
    assert code == 0, error
    assert result["case"] is None
    assert result["answer"] == result["expected"] != ""


def test_swapped_weights_are_found_by_their_hash(package: Path, place: Path, spoil: Callable[[Path], None]) -> None:
    weights = Path(json.loads((place / "deploy.json").read_text())["path"]) / "model.onnx.data"
    other = shutil.copyfile(weights, place / "other")  # in place it would change the package too: they are linked
    spoil(other)
    other.replace(weights)
    code, error, result = verify(package, place)
    assert (code, result) == (1, {})
    assert "model.onnx.data has other content" in error
    assert "Traceback" not in error


def test_another_answer_is_named_with_the_one_expected(package: Path, place: Path) -> None:
    rows = json.loads((place / "domain.json").read_text())
    rows["cases"] = [{"id": "c1", "text": "The grass is purple.", "passed": False, "failures": ["exact"]}]
    (place / "domain.json").write_text(json.dumps(rows))
    code, error, _ = verify(package, place)
    assert code == 1
    assert "expected 'The grass is purple.', found 'The grass is green.'" in error


def test_a_model_that_is_not_listed_is_named(package: Path, place: Path) -> None:
    (place / "a cache" / caches.INDEX).unlink()
    code, error, _ = verify(package, place)
    assert code == 1
    assert "is not listed in" in error


def test_an_older_deployment_of_another_package_is_refused(onnx_folder: Path, place: Path) -> None:
    other = write_package(onnx_folder, place / "other", note="newer")
    code, error, _ = verify(other, place)
    assert code == 1
    assert "inference_model.json" in error and "Deploy it again" in error

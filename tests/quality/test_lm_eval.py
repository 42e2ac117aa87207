"""lm-eval's tasks on a package: the tool is an extra, so only the long test, which installs it, runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import pytest

from scripts.common import json_files
from scripts.common.errors import IngotError
from scripts.quality import lm_eval
from scripts.results import base
from scripts.results.domain import LmTask
from tests import tiny

PROJECT = Path(__file__).parents[2]
CHOICES = """
task: colours
dataset_path: json
dataset_kwargs: {data_files: {test: colours.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "<|im_start|>user\\n{{question}}<|im_end|>\\n<|im_start|>assistant\\n"
doc_to_choice: ["{{right}}", "{{wrong}}"]
doc_to_target: 0
target_delimiter: ""
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
ANSWERS = """
task: answers
dataset_path: json
dataset_kwargs: {data_files: {test: colours.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "<|im_start|>user\\n{{question}}<|im_end|>\\n<|im_start|>assistant\\n"
doc_to_target: "{{right}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 24, do_sample: false}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    folder = tmp_path / "my tasks"
    folder.mkdir()
    (folder / "colours.yaml").write_text(CHOICES, encoding="utf-8")
    (folder / "answers.yaml").write_text(ANSWERS, encoding="utf-8")
    answers = [answer for _, answer in tiny.FACTS]
    rows = [
        {"question": question, "right": answer, "wrong": answers[number - 1]}
        for number, (question, answer) in enumerate(tiny.FACTS)
    ]
    (folder / "colours.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder


def returned(accuracy: float, hashes: str = "ab") -> dict[str, Any]:
    """What lm-eval 0.4.13 returns, cut down to what is read of it."""
    sample = {"doc_hash": hashes, "prompt_hash": "c", "target_hash": "d", "acc": 1.0}
    row = {"name": "t", "alias": "t", "sample_len": 8, "acc,none": accuracy, "acc_stderr,none": 0.1}
    return {
        "results": {"t": {**row, "word_perplexity,none": 9.0, "word_perplexity_stderr,none": "N/A"}},
        "samples": {"t": [sample]},
        "n-samples": {"t": {"original": 8, "effective": 8}},
        "higher_is_better": {"t": {"acc": True, "word_perplexity": False}},
    }


def measured(accuracy: float, before: float) -> dict[str, LmTask]:
    tasks, known = ({"t": lm_eval._task("t", returned(value))} for value in (accuracy, before))
    return lm_eval._compared(tasks, known, Path("float.json"))


def test_without_the_extra_the_remedy_is_told(
    monkeypatch: pytest.MonkeyPatch, export: Path, tasks: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(IngotError, match=r"lm-eval: is not installed.*pip install -e '\.\[lm-eval\]'"):
        lm_eval.run(export, tasks, None, {}, tmp_path)


def test_every_figure_is_set_beside_the_float_models() -> None:
    task = measured(0.75, 0.875)["t"]
    assert task.documents == 8
    assert base.plain(task)["metrics"] == {
        "acc": {"value": 0.75, "stderr": 0.1, "higher_is_better": True, "float": 0.875, "difference": -0.125},
        "word_perplexity": {
            "value": 9.0,
            "stderr": None,
            "higher_is_better": False,
            "float": 9.0,
            "difference": 0.0,
        },
    }


def test_an_accuracy_may_lose_as_many_points_as_the_domain_score() -> None:
    assert lm_eval.judge(measured(0.75, 0.875), {"domain_points": 12.5}) == ("passed", [])
    assert lm_eval.judge(measured(0.99, 0.875), {"domain_points": 0}) == ("passed", [])
    assert lm_eval.judge(measured(0.0, 1.0), {}) == ("passed", [])
    verdict, reasons = lm_eval.judge(measured(0.75, 0.875), {"domain_points": 5})
    assert verdict == "refused"
    assert reasons == ["t: acc is 12.5 points below the float export; the gate allows 5"]


def test_figures_of_other_documents_are_not_compared() -> None:
    with pytest.raises(IngotError, match=r"these documents of 't'.*--tasks"):
        lm_eval._compared(
            {"t": lm_eval._task("t", returned(1.0))},
            {"t": lm_eval._task("t", returned(1.0, hashes="other"))},
            Path("float.json"),
        )


@pytest.mark.long
def test_the_real_tool_scores_a_model_that_knows_the_answers(export: Path, tasks: Path, tmp_path: Path) -> None:
    """In an environment of its own, which sees this one's packages: lm-eval brings forty more."""
    venv.create(tmp_path / "extra", with_pip=True)
    own = Path(sysconfig.get_path("purelib", vars={"base": str(tmp_path / "extra")}))
    (own / "beside.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    python = tmp_path / "extra" / ("Scripts" if os.name == "nt" else "bin") / "python"
    [wanted] = [line for line in (PROJECT / "pyproject.toml").read_text("utf-8").splitlines() if "lm-eval = [" in line]
    subprocess.run([python, "-m", "pip", "install", "-q", wanted.split('"')[1]], check=True)

    def score(folder: Path, output: Path, *more: object) -> subprocess.CompletedProcess[str]:
        options = ["--package", folder, "--tasks", tasks, "--output", output, *more]
        command = [python, "-m", "scripts.quality", "lm-eval", *options]
        return subprocess.run([*map(str, command)], cwd=PROJECT, capture_output=True, text=True, check=False)

    for name in ("float.json", "again.json"):
        before = ["--baseline", tmp_path / "float.json", "--gates", '{"domain_points": 0}'] * (name == "again.json")
        ran = score(export, tmp_path / name, *before)
        assert ran.returncode == 0, ran.stderr
    found = json_files.read(tmp_path / "again.json")
    assert found["verdict"] == "passed"
    assert found["tasks"]["colours"]["metrics"]["acc"]["value"] == 1.0
    assert found["tasks"]["answers"]["metrics"]["exact_match"]["value"] == 1.0
    assert found["tasks"]["answers"]["metrics"]["exact_match"]["difference"] == 0
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("tmp")) == []

    (tasks / "answers.yaml").write_text(ANSWERS.replace("colours.jsonl", "nowhere.jsonl"), encoding="utf-8")
    ran = score(export, tmp_path / "broken.json")
    assert ran.returncode == 1
    assert "lm-eval stops with" in ran.stderr
    assert not (tmp_path / "broken.json").exists()


def test_a_folder_that_is_not_there_is_told_by_the_settings(tmp_path: Path) -> None:
    from scripts.settings.reading import read

    (tmp_path / "models.toml").write_text(
        '[[model]]\nname = "m"\nsource = { path = "x" }\nevaluation = { lm_eval = "tasks" }\n', encoding="utf-8"
    )
    [model] = read(tmp_path).models
    assert "evaluation.lm_eval: there is no folder" in str(model.problem)
    (tmp_path / "tasks").mkdir()
    assert read(tmp_path).models[0].lm_eval == (tmp_path / "tasks").resolve()


def test_the_task_is_outside_the_default_build(tmp_path: Path) -> None:
    config = tmp_path / "config"
    (config / "tasks").mkdir(parents=True)
    row = 'name = "m"\nsource = { path = "x" }\nprecisions = ["int8"]\nevaluation = { lm_eval = "tasks" }\n'
    (config / "models.toml").write_text(f"[[model]]\n{row}", encoding="utf-8")

    def listed(*words: str) -> str:
        places = [f"config={config}", f"build={tmp_path / 'build'}"]
        command = [sys.executable, "-m", "doit", *words, *places]
        return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout

    everything = listed("list", "--all")
    assert "lm-eval:m " in everything
    assert "lm-eval:m-int8 " in everything
    needed = json.loads(listed("why", "--json"))
    assert "lm-eval" not in json.dumps(needed)
    assert "quality:m-int8" in json.dumps(needed)

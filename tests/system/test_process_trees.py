"""Every step of the pipeline, the optional ones too: whatever its processes load stands in its key.

A recorder in each Python process, children of children too, notes the files of code that are loaded, as they are; the
keys are those that the build wrote down beside what it made.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from scripts.common.tools import PLUMBING
from scripts.engine import sources
from scripts.engine.state import State
from tests import tiny
from tests.checkpoint.test_fetched import make_gguf
from tests.system import recorded
from tests.system.project import Project
from tests.system.recorded import Loaded

pytestmark = pytest.mark.long

KINDS = {
    "checkpoint", "reference", "export", "quantize", "quality", "package", "domain", "baseline", "bench", "recommend",
    "attest", "deploy", "verify", "report", "finetune", "bench-full", "soak", "edges",
}  # fmt: skip
HAS_LM_EVAL = importlib.util.find_spec("lm_eval") is not None
TASK = """
task: colours
dataset_path: json
dataset_kwargs: {data_files: {test: colours.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: ["{{right}}", "{{wrong}}"]
doc_to_target: 0
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory, tiny_trained: Path) -> tuple[list[Project], Path]:
    """Builds of the smallest models by every kind of step, and the folder of what their processes noted.

    One model is a folder with an adapter, goes through the passes of the project's recipes and is asked and measured;
    the other comes out of a GGUF file and goes through a workflow of the user's own.
    """
    folder = tmp_path_factory.mktemp("recorded")
    asked, packed = Project(folder / "asked"), Project(folder / "packed")
    adapter = tiny.make_adapter(folder / "adapter", tiny_trained, alpha=1)
    loose = {name: {"kl": 20.0, "kl_warn": 20.0, "domain_points": 100.0} for name in ("int4-best", "fp16")}
    asked.model(
        name="m", source={"path": tiny_trained}, adapters=[{"path": adapter}], precisions=["int4-best", "fp16"],
        gates=loose, license="mit", context_length=2048, evaluation=_evaluation(asked),
    )  # fmt: skip
    packed.model(name="p", source={"gguf": make_gguf(folder / "p.gguf", tiny_trained)}, precisions=["flow"])
    workflow = {"input_model": {"type": "HfModel"}, "passes": {"b": {"type": "ModelBuilder", "precision": "int4"}}}
    (packed.config / "flow.json").write_text(json.dumps(workflow), encoding="utf-8")
    (packed.config / "recipes.toml").write_text('[flow]\nolive = "flow.json"\n', encoding="utf-8")
    more = ["bench-full:m-int4-best", "soak:m-int4-best", "edges:m-int4-best", "finetune:m"]
    more += ["lm-eval:m-int4-best"] if HAS_LM_EVAL else []
    with pytest.MonkeyPatch.context() as patch:
        for name, value in recorded.environment(folder / "notes").items():
            patch.setenv(name, value)
        for project, words in ((packed, ["quantize"]), (asked, ["report"]), (asked, more)):
            ran = project.doit(*words)
            assert ran.code == 0, ran.out
    return [asked, packed], folder / "notes"


@pytest.fixture(scope="module")
def loaded(builds: tuple[list[Project], Path]) -> dict[str, Loaded]:
    """What each step's processes loaded, by step."""
    return recorded.read(builds[1])


def _evaluation(project: Project) -> dict[str, str]:
    """The facts as cases, texts to train on, a schema, and lm-eval's tasks."""
    evaluation = project.facts()
    cases = [json.loads(line) for line in (project.config / "eval/cases.jsonl").read_text("utf-8").splitlines()]
    for case in cases:
        case["labels"], case["expect"] = {"colour": case["expect"]["exact"]}, {"max_chars": 1000}
    (project.config / "eval/cases.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases), "utf-8")
    schema = {"type": "object", "properties": {"colour": {"type": "string"}}, "required": ["colour"]}
    (project.config / "eval/schema.json").write_text(json.dumps(schema), encoding="utf-8")
    train = project.config / "train/m"
    train.mkdir(parents=True)
    rows = []
    for number, (question, answer) in enumerate(tiny.FACTS):
        said = {"role": "assistant", "content": json.dumps({"colour": answer})}
        rows.append({"id": f"r{number}", "messages": [{"role": "user", "content": f"Tell me: {question}"}, said]})
    (train / "tickets.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    if not HAS_LM_EVAL:
        return {**evaluation, "schema": "eval/schema.json"}
    tasks = project.config / "eval/tasks"
    tasks.mkdir()
    (tasks / "colours.yaml").write_text(TASK, encoding="utf-8")
    asked = [{"question": question, "right": answer, "wrong": "No."} for question, answer in tiny.FACTS]
    (tasks / "colours.jsonl").write_text("\n".join(map(json.dumps, asked)), encoding="utf-8")
    return {**evaluation, "schema": "eval/schema.json", "lm_eval": "eval/tasks"}


@pytest.fixture(scope="module")
def keys(builds: tuple[list[Project], Path]) -> Mapping[str, Mapping[str, Any]]:
    """What the key of each step was made of, as the build wrote it down."""
    found = {}
    for path in (path for project in builds[0] for path in project.build.rglob("*provenance.json")):
        if ".work" not in path.parts and "store" not in path.parts:
            written = json.loads(path.read_text(encoding="utf-8"))
            found[written["step"].replace(":", ".")] = written["ingredients"]
    return found


def test_every_kind_of_step_ran(loaded: dict[str, Loaded]) -> None:
    assert {step.partition(".")[0] for step in loaded} == KINDS | ({"lm-eval"} if HAS_LM_EVAL else set())


@pytest.mark.skipif(not HAS_LM_EVAL, reason="the extra lm-eval is not installed: pip install -e '.[lm-eval]'")
def test_lm_eval_ran(loaded: dict[str, Loaded]) -> None:
    assert "lm-eval.m-int4-best" in loaded


def test_no_module_or_data_file_of_the_project_is_loaded_that_the_key_does_not_hold(
    loaded: dict[str, Loaded], keys: Mapping[str, Mapping[str, Any]]
) -> None:
    modules = sources.Sources(State(Path(":memory:")), "scripts")
    missing = {}
    for step, found in loaded.items():
        held = keys[step]["sources"].keys() | sources.PLUMBING
        for name, command in {**found.modules, **found.data}.items():
            if name not in held and not modules.is_inert(name):
                missing[f"{step}: {name}"] = command
    assert not missing


def test_no_distribution_is_loaded_that_the_key_does_not_hold_and_that_could_change_the_result(
    loaded: dict[str, Loaded], keys: Mapping[str, Mapping[str, Any]]
) -> None:
    harmless = {name for names in PLUMBING.values() for name in names}
    missing = {}
    for step, found in loaded.items():
        held = {name.lower().replace("_", "-") for name in keys[step]["tools"]}
        for name, command in found.distributions.items():
            if name.lower().replace("_", "-") not in held | harmless:
                missing[f"{step}: {name}"] = command
    assert not missing


def test_the_recorder_sees_a_child_s_child_and_libraries_that_no_import_names(
    loaded: dict[str, Loaded],
) -> None:
    assert "bench serve" in loaded["bench.m-fp16"].modules["scripts.bench.serve"]
    assert "scripts.edges.child" in loaded["edges.m-int4-best"].modules
    assert "onnxruntime-genai-core" in loaded["domain.m-fp16"].distributions
    assert "report/page.css" in loaded["report"].data

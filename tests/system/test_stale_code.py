"""What an edit of the code, or a new version of a tool, makes stale: the steps that it acts on, and no others."""

from __future__ import annotations

import json
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.common import tools
from scripts.engine import sources
from scripts.engine.sources import Closure, Sources
from scripts.engine.state import State
from scripts.engine.step import Step

ROOT = Path(__file__).resolve().parents[2]
MEASURED = {"bench", "bench-full", "soak"}
#: Edited file → the kinds of step that it makes stale; of `quantize`, the precisions.
EDITS = {
    "common/moving.py": {"deploy", "reconcile", "verify"},
    "common/links.py": {"package", "attest", "deploy", "reconcile", "verify", "bench-full"},
    "common/program.py": set(),
    "checkpoint/merge.py": {"checkpoint", "finetune"},
    "convert/builder_pass.py": {"export", "quantize m-flow"},
    "convert/bridges.py": {"export", "quantize m-flow"},
    "convert/gptq.py": {"quantize m-int4-best"},
    "convert/calibration.py": {"quantize m-int4-best"},
    "convert/weightonly.py": {"quantize m-int4-best", "quantize m-int8"},
    "convert/plan.py": {"quantize m-int4-best", "quantize m-int8"},
    "convert/float16.py": {"quantize m-fp16"},
    "convert/graph.py": {"export", "quantize m-int4-best", "quantize m-int8", "quantize m-fp16", "quantize m-flow"},
    "quality/tally.py": {"quality"},
    "quality/recommend.py": {"recommend", "report"},
    "cases/checks.py": {"domain", "verify", "finetune"},
    "bench/serve.py": MEASURED,
    "bench/clients.py": {"bench-full"},
    "bench/soak.py": {"soak"},
    "foundry/verify.py": {"verify"},
    "foundry/apps.py": {"verify"},
    "package/markers.py": {"package"},
    "attest/bom.py": {"attest"},
    "quality/constrained.py": {"domain"},
    "runtime/foundry.py": {*MEASURED, "domain", "deploy", "reconcile", "verify", "edges", "report"},
    "edges/child.py": {"edges"},
    "report/page.css": {"report"},
    "engine/execute.py": set(),
    "doit_plugin/tasks.py": set(),
    "settings/models.py": set(),
}
VERSIONS = {
    "olive-ai": {"export", "quantize m-int4-best", "quantize m-int8", "quantize m-fp16", "quantize m-flow"},
    "peft": {"checkpoint", "finetune"},
    "openai": {"verify", "bench-full"},
    "foundry-local-sdk": {*MEASURED, "domain", "deploy", "reconcile", "verify", "edges", "report"},
    "onnxruntime-genai": {
        *MEASURED,
        "reference",
        "export",
        "quantize m-int4-best",
        "quantize m-int8",
        "quantize m-fp16",
        "quantize m-flow",
        "quality",
        "package",
        "verify",
    },
    "vl-convert-python": {"report"},
    "typer": set(),
}


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Step]:
    """The steps of `dodo.py`, by name, for a model whose recipes use each of the project's passes."""
    folder = tmp_path_factory.mktemp("a project")
    (folder / "config/eval").mkdir(parents=True)
    (folder / "config/train/m").mkdir(parents=True)
    (folder / "weights").mkdir()
    (folder / "config/eval/cases.jsonl").write_text(json.dumps({
        "id": "a", "messages": [{"role": "user", "content": "?"}], "max_tokens": 4, "expect": {"exact": "x"},
    }))  # fmt: skip
    (folder / "config/eval/schema.json").write_text("{}")
    (folder / "config/train/m/tickets.jsonl").write_text("{}")
    workflow = {"input_model": {"type": "HfModel"}, "passes": {"b": {"type": "ModelBuilder", "precision": "int4"}}}
    (folder / "config/flow.json").write_text(json.dumps(workflow))
    (folder / "config/recipes.toml").write_text('[flow]\nolive = "flow.json"\n')
    (folder / "config/models.toml").write_text(
        '[[model]]\nname = "m"\nsource = { path = "../weights" }\nprecisions = ["int4-best", "int8", "fp16", "flow"]\n'
        'evaluation = { cases = "eval/cases.jsonl", schema = "eval/schema.json" }\n'
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(ROOT)
        declared = runpy.run_path(str(ROOT / "dodo.py"))
        for value in declared.values():  # as doit does; a step is made when it is asked for
            if create := getattr(value, "create_doit_tasks", None):
                made = create()
                list(made if not isinstance(made, dict) else [made])
    found: dict[str, Step] = declared["INGOT"].steps
    return found


@pytest.fixture
def stale(
    steps: dict[str, Step], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[], object]], set[str]]:
    """The kinds of step whose code or tools differ after a change of them."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sources, "ROOT", tmp_path)

    def closures() -> dict[str, Closure]:
        now = Sources(State(tmp_path / "state.db"), "scripts")
        return {name: now.of(step.stage, step.verb, step.loaded()) for name, step in steps.items()}

    def find(change: Callable[[], object]) -> set[str]:
        before = closures()
        change()
        after = closures()
        changed = [name for name in steps if before[name] != after[name]]
        return {name.replace(":", " ") if name.startswith("quantize") else name.split(":")[0] for name in changed}

    return find


@pytest.mark.parametrize("file", EDITS)
def test_an_edit_makes_stale_what_runs_it_and_nothing_else(
    file: str, stale: Callable[[Callable[[], object]], set[str]], tmp_path: Path
) -> None:
    path = tmp_path / "scripts" / file
    assert stale(lambda: path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")) == EDITS[file]


@pytest.mark.parametrize("distribution", VERSIONS)
def test_a_new_version_makes_stale_what_it_acts_on_and_nothing_else(
    distribution: str, stale: Callable[[Callable[[], object]], set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tools.installed

    def upgrade() -> None:
        monkeypatch.setattr(tools, "installed", lambda name: "next" if name == distribution else installed(name))

    assert stale(upgrade) == VERSIONS[distribution]


def test_an_edit_of_one_verb_s_command_concerns_no_other_verb(
    stale: Callable[[Callable[[], object]], set[str]], tmp_path: Path
) -> None:
    program = tmp_path / "scripts/quality/__main__.py"
    text = program.read_text(encoding="utf-8")
    line = '"""Name the first precision that passed."""'
    assert line in text
    assert stale(lambda: program.write_text(text.replace(line, line[:-4] + ', if any."""'), "utf-8")) == {"recommend"}

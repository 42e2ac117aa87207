"""What a `doit` costs that has nothing to do: this engine against doit alone, on the pipeline's own graph.

    python -m tests.benchmarks.noop [--models 1,10,100,250] [--rounds 7]

For M models in 4 precisions both declare the same tasks, with the same edges and the same files behind them; the
artifacts are small, since no digest of an unchanged file is computed twice. Rounds alternate; medians and their ratio
are printed as JSON, with `doit list` and `doit why` beside them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from scripts.common.machine import fingerprint
from tests.engine.projects import PLUGINS

ROOT = Path(__file__).resolve().parents[2]
PRECISIONS = ("int4", "int8", "fp16", "int4-best")

#: The graph of `dodo.py`: name → (stage, verb, what it reads, the user's files that it reads, files that it makes).
GRAPH = r'''
from pathlib import Path
HERE = Path(__file__).parents[1]
BUILD = HERE / "build" / Path(__file__).stem
ONNX = ("model.onnx", "model.onnx.data", "genai_config.json", "tokenizer.json", "tokenizer_config.json",
        "special_tokens_map.json", "chat_template.jinja")
WEIGHTS = ("config.json", "generation_config.json", "model.safetensors", *ONNX[3:])
PACKAGE = (*ONNX, "inference_model.json", "README.md")

def graph(models, precisions):
    """Rows: task, subject, output, steps read, user's paths read, files made (none: a result)."""
    texts, everything = HERE / "eval", []
    for number in range(models):
        m = f"m{number}"
        top = BUILD / m
        def row(task, subject, output, reads, users=(), makes=()):
            name = f"{task}:{subject}"
            everything.append(name)
            return task, name, output, reads, users, makes
        yield row("checkpoint", m, top / "checkpoint", (), (HERE / "weights" / m,), WEIGHTS)
        yield row("reference", m, top / "reference", (f"checkpoint:{m}",), (texts / "general.txt", texts / "own.txt"),
                  ("index.json", "logits.npy"))
        yield row("export", m, top / "export", (f"checkpoint:{m}",), (), ONNX)
        asked = []
        for p in ("", *precisions):
            v, folder = f"{m}-{p}" if p else m, top / p
            onnx = f"export:{m}"
            if p:
                onnx = f"quantize:{v}"
                yield row("quantize", v, folder / "onnx", (f"export:{m}",), (), ONNX)
            yield row("quality", v, folder / "quality.json", (onnx, f"reference:{m}", *([f"export:{m}"] if p else [])))
            yield row("package", v, folder / "package", (onnx, f"checkpoint:{m}"), (), PACKAGE)
            yield row("domain", v, folder / "domain.json", (f"package:{v}", *([f"domain:{m}"] if p else [])),
                      (texts / "cases.jsonl", texts / "schema.json"))
            asked += [f"quality:{v}", f"domain:{v}"]
        yield row("recommend", m, top / "recommend.json", tuple(asked))
        for p in precisions:
            v, folder = f"{m}-{p}", top / p
            yield row("bench", v, folder / "bench.json", (f"package:{v}",))
            yield row("attest", v, folder / "attested", (f"package:{v}", f"quality:{v}", f"domain:{v}"),
                      (HERE / "weights" / m, texts / "cases.jsonl"), PACKAGE)
            yield row("deploy", v, folder / "deploy.json", (f"attest:{v}", f"recommend:{m}"))
            yield row("verify", v, folder / "verify.json", (f"attest:{v}", f"deploy:{v}", f"domain:{v}"),
                      (texts / "cases.jsonl",))
    yield "report", "report", BUILD / "report", tuple(
        name for name in everything
        if not name.startswith(("checkpoint", "reference", "package", "attest"))), (), ("index.html",)
'''

BARE = (
    GRAPH
    + r"""
import json

def make(output, makes):
    for name in (makes or [""]):
        file = output / name if name else output
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{output} {name}")
    if makes:
        (output / "manifest.json").write_text(json.dumps([str(output), *makes]))

ROWS = list(graph(MODELS, PRECISIONS))
TARGET = {name: str(output / "manifest.json" if makes else output) for _, name, output, _, _, makes in ROWS}
DOIT_CONFIG = {"default_tasks": ["report"]}

def task_all():
    for task, name, output, reads, users, makes in ROWS:
        files = [str(file) for user in users for file in (sorted(user.iterdir()) if user.is_dir() else [user])]
        yield {"basename": task, **({"name": name.split(":")[1]} if ":" in name else {}),
               "actions": [(make, [output, makes])], "file_dep": [*(TARGET[read] for read in reads), *files],
               "targets": [str(output), TARGET[name]] if makes else [TARGET[name]]}
"""
)

INGOT = (
    GRAPH
    + r"""
import os
from scripts.common.machine import fingerprint
from scripts.doit_plugin.tasks import Tasks, task
from scripts.engine.session import Place, Session

VERB = {"checkpoint": ("checkpoint", "build"), "reference": ("quality", "reference"), "export": ("convert", "export"),
        "quantize": ("convert", "quantize"), "quality": ("quality", "compare"), "package": ("package", "build"),
        "domain": ("quality", "domain"), "recommend": ("quality", "recommend"), "bench": ("bench", "quick"),
        "attest": ("attest", "write"),
        "deploy": ("foundry", "deploy"), "verify": ("foundry", "verify"), "report": ("report", "render")}
STORE = os.environ.get("STORE")
SESSION = Session(BUILD, shared=Place(STORE, True) if STORE else None)
DOIT_CONFIG = Tasks(SESSION).config(default_tasks=["report"])
MADE, MAKES = {}, {}
for kind, name, output, reads, users, makes in graph(MODELS, PRECISIONS):
    stage, verb = VERB[kind]
    upstream = tuple(MADE[read] for read in reads)
    MAKES[name] = makes
    MADE[name] = SESSION.step(
        name, output, stage=stage, verb=verb, inputs={} if kind == "report" else {"input": upstream, "path": users},
        parameters={"settings": {"model": name, "numbers": [1, 2, 3]}}, reads=upstream if kind == "report" else (),
        observed={"machine": fingerprint()} if kind == "bench" else {},
        stored=False)

def task_all():
    for step in MADE.values():
        yield task(SESSION, step, "A step")
"""
)


def prepare(folder: Path, models: int, kinds: tuple[str, ...] = ("bare", "ingot")) -> dict[str, float]:
    """The projects, finished: seconds by kind. The engine's children are replaced by what they would have made, nothing
    else is.
    """
    taken = {}
    for number in range(models):
        (folder / "weights" / f"m{number}").mkdir(parents=True)
        for name in ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json"):
            (folder / "weights" / f"m{number}" / name).write_text(f"{number} {name}")
    (folder / "eval").mkdir()
    for name in ("general.txt", "own.txt", "cases.jsonl", "schema.json"):
        (folder / "eval" / name).write_text(name)
    head = f"MODELS, PRECISIONS = {models}, {PRECISIONS!r}\n"
    for kind in kinds:
        (folder / kind).mkdir()
        (folder / kind / f"{kind}.py").write_text(head + {"bare": BARE, "ingot": INGOT}[kind])
        if kind == "ingot":
            (folder / kind / "pyproject.toml").write_text(PLUGINS)
        started = time.perf_counter()
        made = subprocess.run([sys.executable, "-m", "tests.benchmarks.noop", "--make", kind], check=False,
                              cwd=folder / kind, env=environment(folder), capture_output=True, text=True)  # fmt: skip
        if made.returncode:
            raise SystemExit(made.stdout[-2000:] + made.stderr[-2000:])
        taken[kind] = time.perf_counter() - started
    return taken


def make(kind: str) -> int:
    """Build a project once, in this process, with children that cost nothing."""
    from doit.doit_cmd import DoitMain

    from scripts.common.process import Ended
    from scripts.engine import execute, locks
    from scripts.engine.digests import Digests

    def instead(command: list[str], **_: object) -> Ended:
        import ingot  # type: ignore[import-not-found]  # the project's own declaration, as doit has loaded it

        out = Path(command[-1])
        name = json.loads(command[command.index("--settings") + 1])["model"]
        makes = ingot.MAKES[name]
        if makes:
            out.mkdir()
            for file in makes:
                (out / file).write_text(f"{name} {file}")
        else:
            out.write_text(json.dumps({"verdict": "passed", "reasons": [], "step": name}))
        return Ended(0, 0.0, 0, None)

    execute.run = instead  # type: ignore[assignment,attr-defined]
    os.fsync = lambda _: None  # type: ignore[assignment]
    Digests.wait_until_edits_show = staticmethod(lambda _: None)  # type: ignore[assignment,method-assign]
    locks.measurement = lambda *_, **__: contextlib.nullcontext()  # type: ignore[assignment]
    return int(DoitMain().run(["-f", f"{kind}.py"]) or 0)


def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder / "ingot")]),
            "PYTHONPYCACHEPREFIX": str(folder / "pycache")}  # fmt: skip


def seconds(folder: Path, command: list[str], project: str, **env: str) -> float:
    started = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder / project, env=environment(folder) | env, capture_output=True, text=True, check=False
    )
    taken = time.perf_counter() - started
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "built" not in done.stdout and ".  " not in done.stdout, done.stdout[-2000:]
    return taken


def compare(models: int, rounds: int) -> dict[str, object]:
    """Medians, in seconds, of runs that alternate."""
    with tempfile.TemporaryDirectory(prefix="noop") as name:
        folder = Path(name)
        prepare(folder, models)
        doit = [sys.executable, "-m", "doit"]
        commands = {"bare": [*doit, "-f", "bare.py"], "ingot": [*doit, "-f", "ingot.py"],
                    "list": [*doit, "list", "-f", "ingot.py"], "why": [*doit, "why", "-f", "ingot.py"]}  # fmt: skip
        times: dict[str, list[float]] = {kind: [] for kind in commands}
        for number in range(rounds + 1):
            for kind, command in commands.items():
                taken = seconds(folder, command, "bare" if kind == "bare" else "ingot")
                if number:  # the first round warms the caches
                    times[kind].append(taken)
        medians = {kind: statistics.median(values) for kind, values in times.items()}
        tasks = 35 * models + 1
        return {"models": models, "tasks": tasks, **{f"{kind}_s": round(m, 3) for kind, m in medians.items()},
                "ratio": round(medians["ingot"] / medians["bare"], 2),
                "samples_s": {kind: [round(v, 3) for v in values] for kind, values in times.items()}}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="1,10,100,250")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--make", choices=["bare", "ingot"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.make:
        sys.exit(make(given.make))
    rows = [compare(int(models), given.rounds) for models in given.models.split(",")]
    print(json.dumps({"noop": rows, "python": platform.python_version(), "machine": fingerprint()}, indent=1))


if __name__ == "__main__":
    main()

"""How time and memory of each stage grow with a model's size; prints JSON.

    python -m tests.benchmarks.growth [--shapes 135M,0.5B,1.5B] [--plain] [--without int8] [--folder FOLDER]
                                      [--within GB]

Models of random bfloat16 weights in the shapes of SmolLM2 and Qwen2.5, each with a random LoRA adapter on all its
matrices (`--plain`: without, so that the checkpoint is linked), go through merging, reference, export, its verdict,
int8, int4, int4-best, int4's verdict and package, by the stages' own programs. `goal_bytes`: 2 GB and three times the
largest matrix in float32, which a stage's own memory should stay within. A stage's `own_bytes` is the peak of what its
process tree holds besides pages of mapped files, which the system can take back; `resident_bytes` counts those too;
`disk_bytes` is the peak of what it had written, scratch files and output. The exponents are those of a power law in the
number of parameters, between the largest two shapes. "imports" is a process that only imports the tools. `--within`:
every stage runs in a control group of so much memory, pages of files counted in (Linux, as root); one that needs more
is killed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tomli

from scripts.common.machine import fingerprint
from scripts.common.tree_memory import tree_memory
from tests import tiny

ROOT = Path(__file__).parents[2]
TEXT = ROOT / "config/eval/general.txt"
CALIBRATION = ROOT / "config/train/general.txt"
#: hidden, intermediate, layers, heads, key-value heads, vocabulary; some have but a few of their 36 or 28 layers.
SHAPES = {
    "135M": (576, 1536, 30, 9, 3, 49152),
    "0.5B": (896, 4864, 24, 14, 2, 151936),
    "1.5B": (1536, 8960, 28, 12, 2, 151936),
    "3B": (2048, 11008, 36, 16, 2, 151936),
    "3B-4": (2048, 11008, 4, 16, 2, 151936),
    "7B-2": (3584, 18944, 2, 28, 4, 152064),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default="135M,0.5B,1.5B", help="of " + ", ".join(SHAPES))
    parser.add_argument("--plain", action="store_true", help="without an adapter")
    parser.add_argument("--without", default="", help="stages to leave out: int8,quality.json,…")
    parser.add_argument("--folder", type=Path, help="where to work; the system's temporary folder if not given")
    parser.add_argument("--within", type=float, help="10⁹ bytes of memory that a stage may use, files' pages too")
    given = parser.parse_args()
    rows = {}
    for shape in given.shapes.split(","):
        scratch = tempfile.TemporaryDirectory(prefix="growth", dir=given.folder)
        with scratch as folder, control_group(given.within) as group:
            left_out = given.without.split(",")
            rows[shape] = measured(shape, Path(folder), plain=given.plain, without=left_out, group=group)
    result = {"shapes": rows, "exponents": exponents(list(rows.values())), "machine": fingerprint()}
    print(json.dumps(result, indent=1))


@contextlib.contextmanager
def control_group(gigabytes: float | None) -> Iterator[Path | None]:
    """A control group of so much memory, of either version (Linux, Documentation/admin-guide/cgroup-v1/memory.rst and
    cgroup-v2.rst); none where no number is given.
    """
    if gigabytes is None:
        yield None
        return
    first = Path("/sys/fs/cgroup/memory")
    group = (first if first.is_dir() else first.parent) / f"growth-{os.getpid()}"
    group.mkdir()
    try:
        limit = "memory.limit_in_bytes" if first.is_dir() else "memory.max"
        (group / limit).write_text(str(int(gigabytes * 10**9)))
        yield group
    finally:
        group.rmdir()


def measured(
    shape: str, folder: Path, *, plain: bool, without: Sequence[str], group: Path | None = None
) -> dict[str, Any]:
    """Parameters, the largest matrix in float32, and each stage's seconds and peaks."""
    parameters, largest = make(shape, folder / "source", None if plain else folder / "adapter")
    if group:
        forget(folder)
    recipes = tomli.loads((ROOT / "config/recipes.toml").read_text(encoding="utf-8"))
    quality = ["quality", "compare", "--reference", str(folder / "reference")]
    quantize = ["convert", "quantize", "--export", str(folder / "export")]
    adapter = [] if plain else ["--adapter", str(folder / "adapter")]
    package = ["package", "build", "--checkpoint", str(folder / "checkpoint"), "--precision", "int4"]
    words = {
        "checkpoint": ["checkpoint", "build", "--source", str(folder / "source"), *adapter],
        "reference": ["quality", "reference", "--checkpoint", str(folder / "checkpoint"), "--text", str(TEXT)],
        "export": ["convert", "export", "--checkpoint", str(folder / "checkpoint")],
        "quality.json": [*quality, "--onnx", str(folder / "export")],
        "int8": [*quantize, "--recipe", json.dumps(recipes["int8"])],
        "int4": [*quantize, "--recipe", json.dumps(recipes["int4"])],
        "int4-best": [
            *quantize,
            "--recipe",
            json.dumps(recipes["int4-best"]),
            "--checkpoint",
            str(folder / "checkpoint"),
            "--calibration",
            str(CALIBRATION),
        ],
        "quality-int4.json": [*quality, "--onnx", str(folder / "int4"), "--export", str(folder / "export")],
        "package": [*package, "--onnx", str(folder / "int4"), "--model-id", "m-int4-generic-cpu:1"],
    }
    stages = {"imports": run([sys.executable, "-c", "import torch, transformers, olive, onnxruntime_genai"], folder)}
    for name, (stage, *rest) in words.items():
        if name in without:
            continue
        command = [sys.executable, "-m", f"scripts.{stage}", *rest, "--output", str(folder / name)]
        stages[name] = run(command, folder, group)
        print(f"{shape}: {name}: {json.dumps(stages[name])}", file=sys.stderr, flush=True)
    goal = 2 * 10**9 + 3 * largest
    return {"parameters": parameters, "largest_matrix_bytes": largest, "goal_bytes": goal, "stages": stages}


def forget(folder: Path) -> None:
    """Have the system drop the files' pages: those that this process wrote would count in no control group."""
    for path in filter(Path.is_file, folder.rglob("*")):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def make(shape: str, source: Path, adapter: Path | None) -> tuple[int, int]:
    """Write the model and its adapter, if any; returns its number of parameters and the bytes of its largest matrix."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen2Config, Qwen2ForCausalLM

    hidden, inner, layers, heads, groups, vocabulary = SHAPES[shape]
    config = Qwen2Config(
        hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=groups, vocab_size=vocabulary, max_position_embeddings=4096, tie_word_embeddings=True,
        dtype="bfloat16", bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device("meta"):
        model = Qwen2ForCausalLM(config).to(torch.bfloat16)
    model.to_empty(device="cpu")
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.02) if parameter.dim() > 1 else parameter.data.fill_(1)
    model.tie_weights()
    sizes = [value.numel() for value in model.parameters()]
    tiny._save(model, tiny.make_tokenizer(), source)
    if adapter is None:
        return sum(sizes), 4 * max(sizes)
    trained = get_peft_model(model, LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, value in trained.named_parameters():
        if "lora_B" in name:
            value.data.normal_(0, 0.01)
    trained.save_pretrained(adapter)
    return sum(sizes), 4 * max(sizes)


def run(words: list[str], folder: Path, group: Path | None = None) -> dict[str, float]:
    """Run a program, in a control `group`; its wall time, and peaks, looked at every 20 ms: of its process tree's
    memory, of `folder`'s size. Temporary files are in that folder too.
    """
    if group:
        words = ["sh", "-c", 'echo $$ > "$0"; exec "$@"', str(group / "cgroup.procs"), *words]
    before, started, peaks = used(folder), time.perf_counter(), (0, 0, 0)
    child = subprocess.Popen(
        words, cwd=ROOT, env={**os.environ, "TMPDIR": str(folder)}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    while child.poll() is None:
        resident, own = tree_memory(child.pid)
        peaks = max(peaks[0], resident), max(peaks[1], own), max(peaks[2], used(folder) - before)
        time.sleep(0.02)
    if child.returncode:
        assert child.stderr
        raise SystemExit(f"{' '.join(words)}\n{child.stderr.read().decode()}")
    seconds = time.perf_counter() - started
    return {
        "seconds": round(seconds, 1), "resident_bytes": peaks[0], "own_bytes": peaks[1], "disk_bytes": peaks[2],
    }  # fmt: skip


def used(folder: Path) -> int:
    """Bytes that `folder` takes on the disk; a file with several links counts once."""
    found = {}
    for top, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                status = Path(top, name).lstat()
                found[status.st_ino] = status.st_blocks * 512
    return sum(found.values())


def exponents(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Of each stage, for seconds and own bytes, from the two largest shapes."""
    if len(rows) < 2:
        return {}
    small, large = sorted(rows, key=lambda row: int(row["parameters"]))[-2:]
    ratio = math.log(large["parameters"] / small["parameters"])
    found = {}
    for name in small["stages"]:
        first, second = small["stages"][name], large["stages"][name]
        found[name] = {key: round(math.log(second[key] / first[key]) / ratio, 2) for key in ("seconds", "own_bytes")}
    return found


if __name__ == "__main__":
    main()

"""Limits of time and memory: every step has some, the user's come first, and the size of the weights counts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.common.machine import usable_memory
from scripts.settings.limits import Limits, weights_size
from tests.settings.test_settings import MINIMAL, settings

ROOT = Path(__file__).resolve().parents[2]

#: Prints the limits of every step that dodo.py declares.
PROGRAM = """
import json, sys
from doit import doit_cmd
doit_cmd.reset_vars()
doit_cmd.set_var("config", sys.argv[1]), doit_cmd.set_var("build", sys.argv[2])
import dodo
for task in vars(dodo).copy().values():
    if create := getattr(task, "create_doit_tasks", None):
        list(create())
found = {name: dodo.INGOT.limits_of(step) for name, step in dodo.INGOT.steps.items()}
print(json.dumps({name: [limits.seconds, limits.memory_bytes, limits.setting] for name, limits in found.items()}))
"""


def test_every_step_of_the_pipeline_has_limits_that_its_setting_changes(tmp_path: Path) -> None:
    names = [name for name in Limits.__struct_encode_fields__ if name not in ("minutes", "memory_gib")]
    for name, expect in (
        ("cases.jsonl", '{"id": "a", "prompt": "b", "expect": {"exact": "c"}}'),
        ("schema.json", "{}"),
    ):
        (tmp_path / name).write_text(expect, encoding="utf-8")
    (tmp_path / "tasks").mkdir()
    tickets = tmp_path / "train" / "m" / "tickets.jsonl"
    tickets.parent.mkdir(parents=True)
    tickets.write_text("{}", encoding="utf-8")
    limits = "".join(f"{name} = {{ minutes = {n}, memory_gib = {n} }}\n" for n, name in enumerate(names, 1))
    evaluation = 'evaluation = { cases = "cases.jsonl", schema = "schema.json", lm_eval = "tasks" }\n'
    evaluation += 'base = { path = "base" }\nprecisions = ["int4", "fp16-webgpu"]\n'
    (tmp_path / "team.pub").write_text("a key", encoding="utf-8")
    top = '[foundry]\nrequire_signature = "team.pub"\n'
    (tmp_path / "models.toml").write_text(f"{top}[limits]\n{limits}{MINIMAL}{evaluation}", encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path), str(tmp_path / "build")], cwd=ROOT,
                          capture_output=True, text=True, check=True)  # fmt: skip
    found = json.loads(done.stdout)
    assert {step.partition(":")[0] for step in found} == set(names)
    for step, (seconds, memory, setting) in found.items():
        task = step.partition(":")[0]
        assert (seconds, memory) == ((names.index(task) + 1) * 60, (names.index(task) + 1) << 30)
        assert setting == f"limits.{task} in models.toml"


@pytest.mark.parametrize(
    ("top", "own", "minutes"),
    [
        ("minutes = 1", "", 1),
        ("minutes = 1\nexport = { minutes = 2 }", "", 2),
        ("minutes = 1\nexport = { minutes = 2 }", "limits = { minutes = 3 }", 3),
        ("export = { minutes = 2 }", "limits = { minutes = 3, export = { minutes = 4 } }", 4),
        ("minutes = 1", "limits.quantize = { minutes = 4 }", 1),
    ],
)
def test_the_nearest_limit_counts(tmp_path: Path, top: str, own: str, minutes: int) -> None:
    found = settings(tmp_path, f"[limits]\n{top}\n{MINIMAL}{own}\n")
    assert found.limits_of("export:m", tmp_path).seconds == 60 * minutes


def test_a_larger_model_gets_more_time_and_what_the_machine_has(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    found = settings(tmp_path, MINIMAL)
    unknown = found.limits_of("export:m", tmp_path / "build")
    times = []
    for size in (1 << 20, 1 << 30):
        with (weights / "model.safetensors").open("wb") as file:
            file.truncate(size)
        times.append(found.limits_of("export:m", tmp_path / "build").seconds)
    assert 1800 < times[0] < times[1] < unknown.seconds
    assert found.limits_of("quantize:m-int4", tmp_path / "build").seconds > times[1]
    assert unknown.memory_bytes == usable_memory()


def test_what_serves_takes_keys_and_values_for_its_context_too(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "model.safetensors").write_bytes(bytes(1000))
    sizes = {"num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2, "hidden_size": 64}
    (weights / "config.json").write_text(json.dumps(sizes))
    found = settings(tmp_path, f"{MINIMAL}context_length = 1000\n")
    bench, export = (found.limits_of(step, tmp_path / "build").likely_bytes for step in ("bench:m-int4", "export:m"))
    assert bench is not None and export is not None
    assert bench - export == 2 * 4 * 2 * 8 * 4 * 1000 + 800 - 2100


def test_what_answers_are_compared_with_is_the_finest_that_memory_can_serve(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    with (weights / "model.safetensors").open("wb") as file:
        file.truncate(1 << 30)
    (tmp_path / "cases.jsonl").write_text('{"id": "a", "prompt": "b", "expect": {"exact": "c"}}')
    model = f'{MINIMAL}precisions = ["int4", "fp16", "int8", "int4-best"]\nevaluation = {{ cases = "cases.jsonl" }}\n'
    found = {}
    for room in (4, 2):  # GiB: in float32 it takes 1 and 2.1, in 8 bits 1 and 0.8
        read = settings(tmp_path, f"[limits.domain]\nmemory_gib = {room}\n{model}")
        found[room] = read.measure(read.models[0], tmp_path / "build").precision
    assert found == {4: "", 2: "int8"}


def test_weights_that_were_fetched_are_measured_where_they_are(tmp_path: Path) -> None:
    source = f'{{ hub = "a/b", revision = "{"0" * 40}" }}'
    found = settings(tmp_path, f'[[model]]\nname = "m"\nsource = {source}\n')
    before = found.limits_of("export:m", tmp_path / "build").seconds
    checkpoint = tmp_path / "build" / "m" / "checkpoint"
    checkpoint.mkdir(parents=True)
    (checkpoint / "model.safetensors").write_bytes(bytes(1000))
    assert found.limits_of("export:m", tmp_path / "build").seconds < before


def test_weights_in_float32_count_as_half(tmp_path: Path) -> None:
    size = (1 << 30) + (1 << 20)
    header = json.dumps({"w": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}).encode()
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)
    assert weights_size(tmp_path) == (8 + len(header) + size) // 2


def test_weights_that_are_quantised_count_as_the_floats_that_they_become(tmp_path: Path) -> None:
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(1000)
    (tmp_path / "config.json").write_text("{}")
    assert weights_size(tmp_path) == 1000
    (tmp_path / "config.json").write_text('{"quantization_config": {"load_in_4bit": true}}')
    assert weights_size(tmp_path) == 4000
    (tmp_path / "config.json").unlink()
    (tmp_path / "quantize_config.json").write_text("{}")
    assert weights_size(tmp_path) == 4000

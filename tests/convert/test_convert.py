"""Checkpoint to float ONNX to precisions, on tiny checkpoints, with real Olive, builder and runtime."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli

from scripts.common import genai_config, kv_cache
from scripts.convert.export import export
from scripts.convert.graph import Graph, summary
from scripts.convert.quantize import quantize

RECIPES = tomli.loads(Path("config/recipes.toml").read_text(encoding="utf-8"))
MADE = {"model.onnx", "model.onnx.data", "genai_config.json", "tokenizer.json", "tokenizer_config.json"}


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def logits(folder: Path) -> np.ndarray:
    import onnxruntime_genai as og

    model = og.Model(str(folder))
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=40)
    generator = og.Generator(model, params)
    generator.append_tokens(list(range(3, 27)))
    given: np.ndarray = np.array(generator.get_output("logits"))[0]
    return given


def distance(one: Path, other: Path) -> float:
    a, b = logits(one), logits(other)
    return float(np.abs(a - b).mean() / np.abs(a).mean())


def test_an_export_holds_what_a_model_needs_and_nothing_else(llama_export: Path) -> None:
    assert set(content(llama_export)) == MADE | {"generation_config.json"}


def test_a_model_takes_its_disk_once_while_it_is_made(
    tiny_llama: Path, llama_export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []

    def spied(real: Callable[..., Any]) -> Callable[..., Any]:
        def copy(source: Any, *rest: Any, **how: Any) -> Any:
            copied.append(str(source))
            return real(source, *rest, **how)

        return copy

    for name in ("copy", "copy2", "copyfile"):
        monkeypatch.setattr(shutil, name, spied(getattr(shutil, name)))
    export(tiny_llama, tmp_path / "export")
    quantize(llama_export, RECIPES["int8"], tmp_path / "int8")
    assert copied
    assert not [name for name in copied if name.endswith(".data")]
    assert all((tmp_path / name / "model.onnx.data").stat().st_nlink == 1 for name in ("export", "int8"))


@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_a_config_tells_the_keys_and_values_that_the_runtime_sets_aside(
    name: str, request: pytest.FixtureRequest
) -> None:
    settings = genai_config.read(request.getfixturevalue(f"{name}_export"))
    config = json.loads((request.getfixturevalue(f"tiny_{name}") / "config.json").read_text())
    of_token = kv_cache.bytes_per_token(config)
    assert of_token and of_token * settings["model"]["context_length"] == genai_config.key_value_bytes(settings)


def test_an_export_computes_what_its_checkpoint_computes(tiny_llama: Path, llama_export: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    with torch.no_grad():
        truth = model(torch.tensor([list(range(3, 27))])).logits[0].numpy()
    np.testing.assert_allclose(logits(llama_export), truth, atol=1e-4)


def test_a_model_for_the_cpu_uses_every_core_and_lets_the_neighbours_work(llama_export: Path, tmp_path: Path) -> None:
    quantize(llama_export, RECIPES["fp16"], tmp_path / "out")
    for folder in (llama_export, tmp_path / "out"):
        session = json.loads((folder / "genai_config.json").read_text())["model"]["decoder"]["session_options"]
        assert (session["intra_op_num_threads"], session["session.intra_op.spin_duration_us"]) == (0, "20")


def test_exporting_twice_in_two_places_gives_the_same_bytes(
    tiny_llama: Path, llama_export: Path, tmp_path: Path
) -> None:
    export(tiny_llama, tmp_path / "again")
    again = content(tmp_path / "again")
    assert again == content(llama_export)
    assert not any(str(tmp_path).encode() in text for text in again.values())


@pytest.mark.parametrize("family", ["phi3", "gemma"])
@pytest.mark.parametrize("precision", ["int4", "fp16"])
def test_other_families_convert_too(
    family: str, precision: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    export(request.getfixturevalue(f"tiny_{family}"), tmp_path / "export")
    quantize(tmp_path / "export", RECIPES[precision], tmp_path / "out")
    assert distance(tmp_path / "export", tmp_path / "out") < {"int4": 0.5, "fp16": 0.01}[precision]


@pytest.mark.parametrize(("precision", "limit"), [("fp16", 0.005), ("int8", 0.05), ("int4", 0.4), ("int4-best", 0.4)])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_a_precision_stays_near_the_export(
    family: str, precision: str, limit: float, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    source = request.getfixturevalue(f"{family}_export")
    quantize(source, RECIPES[precision], tmp_path / "out", texts=[Path("config/train/general.txt")])
    assert set(content(tmp_path / "out")) == set(content(source))
    assert distance(source, tmp_path / "out") < limit


def test_quantising_twice_in_two_places_gives_the_same_bytes(llama_export: Path, tmp_path: Path) -> None:
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        quantize(llama_export, RECIPES["int4"], tmp_path / place / "out")
    assert content(tmp_path / "one" / "out") == content(tmp_path / "two" / "out")


def test_a_tied_embedding_is_quantised_once_and_shared(llama_export: Path, tmp_path: Path) -> None:
    quantize(llama_export, RECIPES["int8"], tmp_path / "out")
    graph = Graph(tmp_path / "out" / "model.onnx")
    assert summary(tmp_path / "out" / "model.onnx")["operators"]["GatherBlockQuantized"] == 1
    assert sum("lm_head" in name and name.endswith("_Q8G32") for name in graph.initializers) == 1
    assert not any("embed" in name and len(tensor.dims) > 1 for name, tensor in graph.initializers.items())


def test_an_embedding_of_its_own_is_quantised_too(qwen2_export: Path, tmp_path: Path) -> None:
    quantize(qwen2_export, RECIPES["int8"], tmp_path / "out")
    graph = Graph(tmp_path / "out" / "model.onnx")
    (gather,) = [node for node in graph.graph.node if node.op_type == "GatherBlockQuantized"]
    assert graph.initializers[gather.input[0]].data_type == 2  # uint8
    assert (tmp_path / "out" / "model.onnx.data").stat().st_size < 0.4 * (
        qwen2_export / "model.onnx.data"
    ).stat().st_size


def test_an_embedding_whose_rows_no_block_divides_stays_float_and_works(tmp_path: Path) -> None:
    from tests import tiny

    checkpoint = tiny.make_checkpoint(tmp_path / "checkpoint", "llama", hidden=96, heads=6, tied=True)
    export(checkpoint, tmp_path / "export")
    recipe = {"passes": [{"type": "WeightOnlyQuantization", "block_size": 64, "bits": 4}]}
    quantize(tmp_path / "export", recipe, tmp_path / "out")
    assert "GatherBlockQuantized" not in summary(tmp_path / "out" / "model.onnx")["operators"]
    assert distance(tmp_path / "export", tmp_path / "out") < 0.5


def test_fp16_is_half_the_size_and_computes_in_float32(llama_export: Path, tmp_path: Path) -> None:
    quantize(llama_export, RECIPES["fp16"], tmp_path / "out")
    graph = Graph(tmp_path / "out" / "model.onnx")
    assert all(value.type.tensor_type.elem_type in (1, 7) for value in [*graph.graph.input, *graph.graph.output])
    matrices = [tensor for name, tensor in graph.initializers.items() if "MatMul" in name]
    assert {tensor.data_type for tensor in matrices} == {10}
    assert "computed in fp32" in RECIPES["fp16"]["label"]


def test_olives_own_passes_work_in_a_recipe(llama_export: Path, tmp_path: Path) -> None:
    recipe = {"target": "cpu", "passes": [{"type": "OnnxKQuantQuantization", "bits": 4}]}
    quantize(llama_export, recipe, tmp_path / "out")
    assert set(content(tmp_path / "out")) == set(content(llama_export))
    assert summary(tmp_path / "out" / "model.onnx")["operators"]["MatMulNBits"] > 0


def test_the_command_line_of_the_stage(
    llama_export: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    command = [sys.executable, "-m", "scripts.convert", "quantize", "--export", str(llama_export)]
    command += ["--recipe", json.dumps(RECIPES["fp16"]), "--output", str(tmp_path / "an output")]
    home = tmp_path_factory.mktemp("home")
    environment = {**os.environ, "HOME": str(home)}
    for pipeline in ("CI", "TF_BUILD", "OLIVE_DISABLE_TELEMETRY"):
        environment.pop(pipeline, None)
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(home.rglob("olive*"))  # where Olive keeps the telemetry that it could not send
    assert "computed in fp32" in done.stdout
    assert "generated 8 tokens" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["an output"]

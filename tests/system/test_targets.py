"""A model for a GPU that is not here: made, judged on the CPU as far as that goes, handed on, never verified."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from scripts.common import genai_config, json_files
from scripts.foundry import cache as caches
from scripts.runtime import genai
from tests import tiny
from tests.needs import SOFTWARE_ADAPTER, float16_adapter
from tests.system.project import ROOT, Project


def test_it_is_built_judged_and_packed_and_nowhere_said_to_be_verified(
    project: Project, tiny_trained: Path, tmp_path: Path
) -> None:
    project.facts()
    project.model(
        name="facts", source={"path": tiny_trained}, precisions=["fp16-cuda", "int4-webgpu", "fp16"],
        evaluation={"cases": "eval/cases.jsonl"},
    )  # fmt: skip
    ran = project.doit()
    assert ran.code == 0, ran.out
    assert "fp16 is recommended, deployed as facts-fp16-generic-cpu:1, verified" in ran.out
    assert "not run here (cuda)" in ran.out and "not run here (webgpu)" in ran.out
    # The same weights in float16: the graph for the GPU says on the CPU what the float export says.
    judged = project.json("facts/fp16-cuda/quality.json")
    assert judged["verdict"] == "passed" and judged["kl"] < 1e-3
    chosen = project.json("facts/recommend.json")
    assert chosen["recommended"] == "fp16"
    for precision, provider, name in (
        ("fp16-cuda", "cuda", "facts-fp16-cuda-gpu"), ("int4-webgpu", "webgpu", "facts-int4-generic-gpu"),
    ):  # fmt: skip
        package = project.build / "facts" / precision / "package"
        assert [one.lower() for one in genai_config.providers(genai_config.read(package))] == [provider]
        assert json_files.read(package / "inference_model.json")["Name"] == f"{name}:1"
        assert (
            f"{provider}; not run by foundry where it was built"
            in (package / "README.md").read_text(encoding="utf-8").lower()
        )
        advice = chosen["precisions"][precision]
        assert advice["verdict"] == "skipped" and "not run here" in advice["reasons"][0]
        held = project.json(f"facts/{precision}/deploy.json")
        assert (held["verdict"], held["path"]) == ("skipped", None)
        for result in ("domain", "bench", "verify"):
            assert not (project.build / "facts" / precision / f"{result}.json").exists()
    report = project.json("report/report.json")["models"][0]
    assert [row["target"] for row in report["precisions"]] == ["cuda", "webgpu", "cpu"]
    page = (project.build / "report" / "index.html").read_text(encoding="utf-8")
    assert "not run here: for" in page and "bench:facts-fp16-cuda" not in page
    assert sorted(caches.registrations(project.build / "foundry" / "cache" / "models")) == ["facts-fp16-generic-cpu:1"]
    asked = project.doit("chat", "facts-fp16-cuda", "-m", "x")
    assert (asked.code, "not run here" in asked.out) == (3, True), asked.out
    assert project.doit("check").code == 0
    packed = project.doit("pack", "facts-fp16-cuda", f"out={tmp_path / 'gpu.tar'}")
    assert packed.code == 0, packed.out
    with tarfile.open(tmp_path / "gpu.tar") as tar:
        card = tar.extractfile("facts-fp16-cuda-gpu/README.md").read().decode()
    assert "**Not verified**" in card and "not run here: it is made for cuda" in card


@pytest.mark.long
@pytest.mark.needs("software adapter")
def test_what_is_made_for_webgpu_answers_there_and_what_the_adapter_cannot_compute_is_told(
    project: Project, tiny_trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SOFTWARE_ADAPTER.items():
        monkeypatch.setenv(name, value)
    project.model(
        name="facts", source={"path": tiny_trained}, precisions=["int4-webgpu-fp32", "fp16-webgpu"],
        evaluation=project.facts(),
    )  # fmt: skip
    ran = project.doit("device")
    assert ran.code == 0, ran.out
    seen = project.json("facts/int4-webgpu-fp32/device.json")
    assert (seen["verdict"], seen["cases"], seen["alike"]) == ("passed", 2, 2), seen
    assert 0 < seen["kl"] < 0.05 and seen["device"].startswith("a software adapter")
    lacks = project.json("facts/fp16-webgpu/device.json")  # SwiftShader has no float16 in shaders
    assert lacks["verdict"] == "skipped" and "f16" in lacks["reasons"][0]
    ran = project.doit()
    assert ran.code == 0, ran.out
    assert "run here (webgpu)" in ran.out and "not run here (webgpu)" in ran.out
    assert "int4-webgpu-fp32: skipped: run on a software adapter" in ran.out
    assert json_files.read(project.build / "facts" / "recommend.json")["recommended"] is None


@pytest.mark.long
@pytest.mark.needs("float16 adapter")
@pytest.mark.parametrize(("precision", "most"), [("fp16-webgpu", 1e-3), ("int4-webgpu", 0.05)])
def test_what_computes_in_float16_for_webgpu_answers_on_an_adapter_that_has_it(
    project: Project, tiny_trained: Path, monkeypatch: pytest.MonkeyPatch, precision: str, most: float
) -> None:
    for name, value in float16_adapter().items():
        monkeypatch.setenv(name, value)
    project.model(
        name="facts", source={"path": tiny_trained}, precisions=[precision], evaluation=project.facts()
    )  # fmt: skip
    ran = project.doit(f"device:facts-{precision}")
    assert ran.code == 0, ran.out
    seen = project.json(f"facts/{precision}/device.json")
    assert (seen["verdict"], seen["cases"], seen["alike"]) == ("passed", 2, 2), seen
    assert 0 < seen["kl"] < most


@pytest.mark.long
def test_what_is_made_for_intels_devices_is_run_by_openvino_and_told_as_such(
    project: Project, tiny_trained: Path
) -> None:
    project.model(
        name="facts", source={"path": tiny_trained}, precisions=["int4-openvino-cpu", "int4-openvino-gpu"],
        evaluation=project.facts(),
    )  # fmt: skip
    ran = project.doit("device:facts-int4-openvino-cpu")
    assert ran.code == 0, ran.out
    seen = project.json("facts/int4-openvino-cpu/device.json")
    assert (seen["verdict"], seen["cases"], seen["alike"]) == ("passed", 2, 2), seen
    assert seen["kl"] < 0.05 and "openvino" in seen["device"]
    package = project.build / "facts/int4-openvino-cpu/package"
    assert genai_config.providers(genai_config.read(package)) == ["OpenVINO"]
    assert json_files.read(package / "inference_model.json")["Name"] == "facts-int4-openvino-cpu:1"
    ran = project.doit("device:facts-int4-openvino-gpu")
    assert ran.code != 0 and "openvino: finds no GPU here" in ran.out, ran.out
    ran = project.doit()
    assert "run here (openvino-cpu)" in ran.out and "not run here (openvino-gpu)" in ran.out, ran.out
    assert not caches.registrations(project.build / "foundry" / "cache" / "models")


@pytest.mark.long
def test_onnx_runtimes_openvino_provider_serves_it_with_the_same_answer(
    project: Project, tiny_trained: Path, tmp_path: Path
) -> None:
    """By onnxruntime-genai with the ONNX Runtime that has the provider built in, in a folder of their own."""
    project.model(
        name="facts", source={"path": tiny_trained}, precisions=["int4-openvino-cpu"], evaluation=project.facts()
    )
    assert project.doit("package:facts-int4-openvino-cpu").code == 0
    apart = tmp_path / "packages"
    wanted = ["onnxruntime-openvino==1.24.1", f"onnxruntime-genai=={genai.installed()}"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(apart), *wanted]
    subprocess.run(pip, check=True)
    package, (question, _) = project.build / "facts/int4-openvino-cpu/package", tiny.FACTS[0]
    program = (
        "import json, sys, onnxruntime, onnxruntime_genai as og; folder, prompt, elsewhere = sys.argv[1:]\n"
        "config = og.Config(folder); elsewhere or config.clear_providers(); model = og.Model(config)\n"
        "params = og.GeneratorParams(model); params.set_search_options(max_length=64, do_sample=False)\n"
        "talk = og.Generator(model, params); talk.append_tokens(json.loads(prompt))\n"
        "while not talk.is_done(): talk.generate_next_token()\n"
        "print(json.dumps([onnxruntime.get_available_providers(), [int(one) for one in talk.get_sequence(0)]]))"
    )
    tokenizer = genai.Tokenizer(package)
    prompt = json.dumps(tokenizer.encode(tokenizer.render([{"role": "user", "content": question}])))
    (has, there), (_, here) = (
        json.loads(subprocess.run([sys.executable, "-c", program, str(package), prompt, where], check=True, text=True,
                                  env={**os.environ, "PYTHONPATH": str(apart)}, capture_output=True).stdout)
        for where in ("elsewhere", "")
    )  # fmt: skip
    assert "OpenVINOExecutionProvider" in has and there == here and len(there) > len(json.loads(prompt)) + 1


#: Fixes the lengths that Qualcomm's compiler wants to know, and answers once on the CPU and once by the plug-in.
QUALCOMM = """
import json, os, sys
from pathlib import Path
import onnx, onnxruntime_genai as og, onnxruntime_qnn as qnn
folder, prompt = Path(sys.argv[1]), json.loads(sys.argv[2])
model = onnx.load(folder / "model.onnx", load_external_data=False)
for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
    for dim in value.type.tensor_type.shape.dim:
        if dim.dim_param in ("batch_size", "sequence_length"):
            dim.dim_value = 1
(folder / "model.onnx").unlink()
(folder / "model.onnx").write_bytes(model.SerializeToString())
og.register_execution_provider_library("QNNExecutionProvider", qnn.get_library_path())
options = {"backend_path": qnn.get_qnn_htp_path(), "enable_htp_fp16_precision": "1", "soc_model": "60"}
there = {"provider_options": [{"QNN": options | {"htp_arch": "73"}}], "enable_profiling": str(folder / "profile")}
settings = json.loads((folder / "genai_config.json").read_text())
settings["search"]["chunk_size"] = 1
for session in ({}, there):
    settings["model"]["decoder"]["session_options"] = session
    (folder / "genai_config.json").unlink()
    (folder / "genai_config.json").write_text(json.dumps(settings))
    config = og.Config(str(folder))
    model = og.Model(config)
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=64, do_sample=False)
    talk = og.Generator(model, params)
    talk.append_tokens(prompt)
    while not talk.is_done():
        talk.generate_next_token()
    print("answer", json.dumps([int(one) for one in talk.get_sequence(0)]))
    del talk, params, model
"""


@pytest.mark.long
def test_qualcomms_emulator_of_its_npu_gives_the_same_answer_token_by_token(
    project: Project, tiny_trained: Path, tmp_path: Path
) -> None:
    """No target of Ingot's: what the README says of it. Without the emulator, on another system, it can't be shown."""
    project.model(name="facts", source={"path": tiny_trained}, precisions=["fp16"], evaluation=project.facts())
    assert project.doit("package:facts-fp16").code == 0
    package = Path(shutil.copytree(project.build / "facts/fp16/package", tmp_path / "package"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path / "packages")]
    subprocess.run([*pip, "onnxruntime-qnn==2.7.0"], check=True)
    tokenizer, (question, answer) = genai.Tokenizer(package), tiny.FACTS[0]
    prompt = tokenizer.encode(tokenizer.render([{"role": "user", "content": question}]))
    done = subprocess.run(
        [sys.executable, "-c", QUALCOMM, package, json.dumps(prompt)], check=False, text=True, capture_output=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "packages")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    here, there = (line for line in done.stdout.splitlines() if line.startswith("answer "))
    computed = {event["args"]["provider"] for file in package.glob("profile*") for event in json_files.read(file)
                if "provider" in event.get("args", {})}  # fmt: skip
    decode = tokenizer.stream()
    assert (
        "QNN" in computed
        and there == here
        and answer in "".join(map(decode, json.loads(there.removeprefix("answer "))))
    )


def test_a_step_on_a_device_asks_a_cluster_for_a_worker_that_has_one(project: Project, tiny_trained: Path) -> None:
    project.facts()
    project.model(name="facts", source={"path": tiny_trained}, precisions=["int4-webgpu", "int4-openvino-cpu"],
                  evaluation={"cases": "eval/cases.jsonl"})  # fmt: skip
    code = (
        "import sys\n"
        "from doit.doit_cmd import reset_vars, set_var\n"
        "reset_vars(); set_var('config', sys.argv[1]); set_var('build', sys.argv[2])\n"
        "import json, dodo\n"
        "steps = [dodo.device(one) for one in dodo.PRECISIONS]\n"
        "print(json.dumps([[*step.observed, dict(step.resources)] for step in steps]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, project.config, project.build], cwd=ROOT, capture_output=True,
                          text=True, check=False, timeout=120)  # fmt: skip
    assert done.returncode == 0, done.stderr
    gpu, cpu = json.loads(done.stdout)  # no observation of a GPU's binds it to the machine at which doit was typed
    assert gpu == ["devices", {"webgpu": 1, "gpu": 1}] and cpu == ["devices", "processor", {"openvino-cpu": 1}]

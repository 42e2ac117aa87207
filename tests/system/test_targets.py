"""A model for a GPU that is not here: made, judged on the CPU as far as that goes, handed on, never verified."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from scripts.common import genai_config, json_files
from scripts.foundry import cache as caches
from tests.needs import SOFTWARE_ADAPTER
from tests.system.project import Project


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

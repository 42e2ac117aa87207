"""Running a precision on its device: that the device lacks something is a skip, and no other fault is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts.common.errors import IngotError
from scripts.quality import device
from scripts.quality.logits import GenaiModel
from scripts.results.quality import Device
from scripts.runtime import genai, plugins

#: How onnxruntime-ep-webgpu 0.4.0 says it: SwiftShader of float16 when a graph is run; llvmpipe when it is loaded.
LACKS = (
    "Non-zero status code returned while running Gather node. Name:'/model/embed_tokens/Gather' Status Message: "
    "shader_helper.cc:416 GenerateSourceCode Program Gather requires f16 but the device does not support it.",
    "Failed to get a WebGPU adapter: No supported adapters",
    "Vulkan shaderUniform*ArrayDynamicIndexing required.",
)


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mock: the CPU stands in for a device, for most machines have none; a folder made for the CPU runs on it."""
    monkeypatch.setattr(plugins, "provide", lambda _: "a mock")


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    found = tmp_path / "cases.jsonl"
    found.write_text('{"id": "a", "prompt": "Hi", "expect": {"no_loop": true}}\n', encoding="utf-8")
    return found


def run(package: Path, export: Path, reference: Path, cases: Path | None = None) -> Device:
    return device.run(package, export, reference, cases, {}, "webgpu")


def break_(monkeypatch: pytest.MonkeyPatch, words: str, *, loading: bool) -> None:
    """A mock: whatever is run elsewhere than on the CPU says `words`."""
    load = genai.Model.__init__

    def refuse(self: genai.Model, *args: Any, **options: Any) -> None:
        load(self, *args, **options)
        if options.get("elsewhere") and loading:
            raise genai.GenaiFault(self.folder, words)
        if options.get("elsewhere"):
            monkeypatch.setattr(self, "generation", fail)

    def fail(*_: Any, **__: Any) -> genai.Generation:
        raise genai.GenaiFault("the package", words)

    monkeypatch.setattr(genai.Model, "__init__", refuse)


def test_a_graph_that_computes_there_what_it_does_on_the_cpu_passes(export: Path, truth: Path, cases: Path) -> None:
    found = run(export, export, truth, cases)
    assert (found.verdict, found.device, found.cases, found.alike) == ("passed", "a mock", 1, 1)
    assert found.kl is not None and found.kl < 1e-5


@pytest.mark.parametrize("loading", [True, False])
@pytest.mark.parametrize("words", LACKS)
def test_a_device_that_lacks_what_the_graph_needs_is_told_in_its_own_words(
    export: Path, truth: Path, monkeypatch: pytest.MonkeyPatch, words: str, loading: bool
) -> None:
    break_(monkeypatch, words, loading=loading)
    found = run(export, export, truth)
    assert (found.verdict, found.kl) == ("skipped", None)
    assert found.reasons[0].startswith("not run here: on a mock: ") and words in found.reasons[0]


@pytest.mark.parametrize("loading", [True, False])
def test_another_fault_on_the_device_is_one_of_the_package(
    export: Path, truth: Path, monkeypatch: pytest.MonkeyPatch, loading: bool
) -> None:
    break_(monkeypatch, "Load model from model.onnx failed: Protobuf parsing failed.", loading=loading)
    with pytest.raises(IngotError, match="Protobuf parsing failed"):
        run(export, export, truth)


def test_a_graph_that_runs_on_its_device_alone_is_judged_without_the_cpus_answers(
    export: Path, truth: Path, cases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = genai.Model.__init__

    def refuse(self: genai.Model, folder: Path, *args: Any, elsewhere: bool = False, **options: Any) -> None:
        """A mock of a graph with operators that the CPU lacks: the package, where its answers are asked."""
        if not args and not elsewhere:
            raise genai.GenaiFault(folder, "Could not find an implementation for Op(1) node with name 'a'")
        load(self, folder, *args, elsewhere=elsewhere, **options)

    monkeypatch.setattr(genai.Model, "__init__", refuse)
    found = run(export, export, truth, cases)
    assert (found.verdict, found.cases, found.alike) == ("passed", 0, 0)


def _no_config(folder: Path) -> None:
    (folder / "genai_config.json").unlink()


def _no_graph(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"not a graph")


@pytest.mark.parametrize("spoil", [_no_config, _no_graph])
@pytest.mark.parametrize("what", ["package", "export"])
def test_a_broken_folder_fails_the_step_by_its_name(
    export: Path, truth: Path, tmp_path: Path, spoil: Callable[[Path], None], what: str
) -> None:
    broken = Path(shutil.copytree(export, tmp_path / "broken"))
    spoil(broken)
    folders = {"package": export, "export": export} | {what: broken}
    with pytest.raises(IngotError) as refused:
        run(folders["package"], folders["export"], truth)
    assert refused.value.subject == str(broken)


def test_a_broken_reference_fails_the_step(export: Path, tmp_path: Path) -> None:
    with pytest.raises(IngotError, match="gone"):
        run(export, export, tmp_path / "gone")


def test_cases_that_are_none_fail_the_step(export: Path, truth: Path, cases: Path) -> None:
    cases.write_text("{}\n", encoding="utf-8")
    with pytest.raises(IngotError, match=r"cases\.jsonl"):
        run(export, export, truth, cases)


def test_logits_of_the_export_that_are_no_numbers_are_no_measure(
    export: Path, truth: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = GenaiModel.logits

    def spoilt(self: GenaiModel, ids: Any, rows: int) -> Any:
        """A mock of an export whose weights are not finite."""
        yield from (piece * np.nan if self.folder == export else piece for piece in compute(self, ids, rows))

    monkeypatch.setattr(GenaiModel, "logits", spoilt)
    package = Path(shutil.copytree(export, tmp_path / "package"))
    with pytest.raises(IngotError, match="NaN or infinite"):
        run(package, export, truth)

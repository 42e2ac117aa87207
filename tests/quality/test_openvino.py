"""What is made for Intel's devices, in OpenVINO itself: on the CPU that is here, it says what ONNX Runtime says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from scripts.common.errors import IngotError
from scripts.convert.folder import ask_openvino
from scripts.quality import device
from scripts.quality.logits import GenaiModel
from scripts.runtime import openvino
from tests import tiny
from tests.quality import damage
from tests.quality.conftest import convert


def test_it_is_judged_by_what_it_says_on_its_device(export: Path, truth: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(export, tmp_path / "package"))
    ask_openvino(folder, "CPU")
    found = device.run(folder, export, truth, None, {"kl": 0.001}, "openvino-cpu")
    assert (found.verdict, found.positions) == ("passed", device.MORE_POSITIONS), found
    assert found.kl is not None and found.kl < 1e-3 and "openvino" in found.device


def test_a_wrong_package_is_refused(export: Path, truth: Path, tmp_path: Path) -> None:
    folder = damage.copy(export, tmp_path / "damaged", damage.swap_layers)
    ask_openvino(folder, "CPU")
    found = device.run(folder, export, truth, None, {"kl": 0.001}, "openvino-cpu")
    assert found.verdict == "refused" and "above the gate" in found.reasons[0]


def test_the_device_that_is_not_here_is_named() -> None:
    with pytest.raises(IngotError, match="finds no NPU here"):
        openvino.provide("NPU")


def test_the_first_of_two_gpus_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    class Core:
        """A mock of a machine with two of Intel's GPUs."""

        available_devices = ("CPU", "GPU.0", "GPU.1")

        def get_property(self, device: str, _: str) -> str:
            return {"GPU": "Arc"}[device]

    monkeypatch.setattr(openvino, "_core", Core)
    assert openvino.provide("GPU").startswith("Arc (GPU), openvino")


def test_an_operator_that_openvino_lacks_is_no_fault_of_the_package(export: Path, truth: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(export, tmp_path / "package"))
    ask_openvino(folder, "CPU")
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    [*_, attention] = (node for node in model.graph.node if node.op_type == "GroupQueryAttention")
    next(one for one in attention.attribute if one.name == "softcap").f = 50.0
    onnx.save(model, folder / "model.onnx")
    found = device.run(folder, export, truth, None, {"kl": 0.001}, "openvino-cpu")
    assert found.verdict == "skipped" and "softcap is not supported" in found.reasons[0]
    (folder / "model.onnx").write_bytes(b"none")
    with pytest.raises(IngotError, match="does not compile"):
        device.run(folder, export, truth, None, {"kl": 0.001}, "openvino-cpu")


@pytest.mark.parametrize("family", ["qwen2", "phi3", "gemma"])
def test_other_families_say_there_what_they_say_in_onnx_runtime(tmp_path: Path, family: str) -> None:
    """To what bfloat16 keeps, in which OpenVINO computes where the processor can."""
    folder = convert(tiny.make_checkpoint(tmp_path / "checkpoint", family), tmp_path / "export")
    ids = np.random.default_rng(0).integers(5, 500, 40).astype(np.int32)
    right = np.concatenate(list(GenaiModel(folder).logits(ids, len(ids))))
    found = openvino.Model(folder, "CPU").logits(ids)
    assert found.shape == right.shape and np.abs(found - right).max() < 0.02 * np.abs(right).max()


def test_it_calls_nobody_and_writes_nothing_home(export: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    program = (
        "import sys; sys.addaudithook(lambda event, _: event.startswith('socket') and sys.exit(event))\n"
        "from pathlib import Path; from scripts.runtime import openvino\n"
        f"print(openvino.provide('CPU')); openvino.Model(Path({str(export)!r}), 'CPU')"
    )
    ran = subprocess.run([sys.executable, "-c", program], env={**os.environ, "HOME": str(home)}, text=True,
                         capture_output=True, check=False)  # fmt: skip
    assert (ran.returncode, "(CPU), openvino" in ran.stdout) == (0, True), ran.stderr
    assert not list(home.iterdir())

"""A checkpoint that cannot be converted is refused in milliseconds: before Olive, torch or the builder are imported."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts.common.errors import IngotError
from scripts.convert import preflight


def spoil(folder: Path, fault: str) -> None:
    if fault == "no folder":
        shutil.rmtree(folder)
    elif fault == "no config":
        (folder / "config.json").unlink()
    elif fault == "no tokenizer":
        (folder / "tokenizer.json").unlink()
    elif fault == "no weights":
        (folder / "model.safetensors").unlink()
    elif fault == "truncated":
        data = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    elif fault == "unknown architecture":
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config["architectures"] = ["LlamaForCausaLM"]
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("no folder", "there is no such folder"),
        ("no config", "config.json: is missing"),
        ("no tokenizer", "has no tokenizer"),
        ("no weights", "has no weights"),
        ("truncated", "model.safetensors"),
        ("unknown architecture", "unsupported architecture LlamaForCausaLM. .*LlamaForCausalLM"),
    ],
)
def test_a_bad_checkpoint_is_named(fault: str, words: Any, tiny_llama: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_llama, tmp_path / "checkpoint")
    spoil(folder, fault)
    with pytest.raises(IngotError, match=words):
        preflight.checkpoint(folder)


def test_refusing_imports_nothing_heavy() -> None:
    program = (
        "import sys; from pathlib import Path; from scripts.convert import quantize, export\n"
        "from scripts.common.errors import IngotError\n"
        "for job in (lambda: export.export(Path('nowhere'), Path('out')),\n"
        "            lambda: quantize.quantize(Path('nowhere'), {'passes': [{'type': 'Nothing'}]}, Path('out'))):\n"
        "    try: job()\n"
        "    except IngotError: pass\n"
        "print([name for name in ('olive', 'torch', 'transformers', 'onnx', 'onnxruntime') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

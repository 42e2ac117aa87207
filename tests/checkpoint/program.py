"""The checkpoint program as its users call it, and inputs for it that no fixture has."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from scripts.checkpoint.__main__ import app
from scripts.common.errors import IngotError


def build(*arguments: object) -> None:
    """Run `python -m scripts.checkpoint build …` in this process."""
    app([*map(str, ("build", *arguments))], standalone_mode=False)


def refusal(*arguments: object) -> str:
    """The one line that a build answers a bad input with, after checking that it left nothing behind."""
    output = Path(str(arguments[arguments.index("--output") + 1]))
    with pytest.raises(IngotError) as caught:
        build(*arguments)
    assert not output.exists()
    assert not [path.name for path in output.parent.iterdir() if path.name.startswith("tmp")]
    assert caught.value.remedy, "an error must name a remedy"
    line = str(caught.value)
    assert "\n" not in line
    return line


def copy(checkpoint: Path, folder: Path) -> Path:
    """A copy of a checkpoint that a test may damage."""
    return Path(shutil.copytree(checkpoint, folder))


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; None removes one."""
    value = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({k: v for k, v in value.items() if v is not None}), encoding="utf-8")


def tensors(folder: Path) -> dict[str, Any]:
    """Every tensor of a checkpoint, whatever its files."""
    from safetensors.torch import load_file

    return {name: value for path in sorted(folder.glob("*.safetensors")) for name, value in load_file(path).items()}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}

"""Ingot is used from its checkout: `pip install -e .` works, and no wheel puts a package called `scripts` elsewhere."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def build(what: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What pip asks of the build backend."""
    code = f"import sys, hatchling.build as backend; backend.build_{what}(sys.argv[1])"
    return subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )  # fmt: skip


def test_a_wheel_is_refused_and_it_is_said_how_to_install(tmp_path: Path) -> None:
    done = build("wheel", tmp_path)
    assert done.returncode and "make, or pip install -e ." in done.stderr
    assert not list(tmp_path.iterdir())


def test_an_editable_install_points_to_the_checkout_and_copies_nothing(tmp_path: Path) -> None:
    done = build("editable", tmp_path)
    assert done.returncode == 0, done.stderr
    [wheel] = tmp_path.iterdir()
    with zipfile.ZipFile(wheel) as opened:
        files = [name for name in opened.namelist() if ".dist-info/" not in name]
        assert [opened.read(name).decode().strip() for name in files] == [str(ROOT)]

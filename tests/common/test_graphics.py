"""What is known of a machine's graphics without asking a driver: it is in the key of what runs there."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.common import machine


def test_another_device_or_driver_is_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_GRAPHICS", (f"{tmp_path}/*.json",))
    for name in machine._VULKAN:
        monkeypatch.delenv(name, raising=False)
    assert machine.graphics() == []
    (tmp_path / "radeon.json").write_text("{}")
    assert machine.graphics() == [f"{tmp_path}/radeon.json"]
    monkeypatch.setenv("VK_DRIVER_FILES", "/somewhere/swiftshader.json")
    assert machine.graphics() == [f"{tmp_path}/radeon.json", "VK_DRIVER_FILES=swiftshader.json"]

"""Two verdicts through a whole build: a model that was converted wrongly, and a recipe that costs too much."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.system.project import Project

#: Both int4: in blocks of 256 with a 4-bit head, and as the project has it.
RECIPES = """
[coarse]
passes = [{ type = "WeightOnlyQuantization", bits = 4, head_bits = 4, block_size = 256, symmetric = true }]
gates = { kl = 0.01 }

[fine]
passes = [{ type = "WeightOnlyQuantization", bits = 4, algorithm = "search", eight_bit_nodes = ["*/qkv_proj/*"] }]
gates = { kl = 0.01 }
"""


#: Run by each Python that starts: the converter goes without its bridge for rotary tables.
WITHOUT_THE_BRIDGE = """
import sys
if "scripts.convert" in sys.orig_argv:
    from scripts.convert import bridges
    bridges.BRIDGES = tuple(bridge for bridge in bridges.BRIDGES if bridge is not bridges.ROTARY)
"""


def test_a_wrong_export_refuses_every_precision_and_gate_says_so(
    project: Project, tiny_trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real fault of the builder does the damage: 0.18 leaves out a linear scaling of the rotary angles.

    Export and precisions are all wrong alike: only the comparison with the checkpoint can tell.
    """
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_THE_BRIDGE, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    weights = shutil.copytree(tiny_trained, tmp_path / "weights")
    config = json.loads((weights / "config.json").read_text("utf-8"))
    config["rope_parameters"] = {"rope_type": "linear", "factor": 8.0, "rope_theta": 10000.0}
    (weights / "config.json").write_text(json.dumps(config), encoding="utf-8")
    project.facts()
    project.model(name="facts", source={"path": weights}, precisions=["int8", "fp16"])
    ran = project.doit("recommend", "deploy")
    assert ran.code == 0, ran.out
    export = project.json("facts/quality.json")
    assert (export["verdict"], export["against"]) == ("refused", "checkpoint")
    assert export["kl_interval"][0] > 0.001
    assert project.json("facts/int8/quality.json")["verdict"] == "passed"
    chosen = project.json("facts/recommend.json")
    assert chosen["recommended"] is None
    for precision in ("int8", "fp16"):
        assert chosen["precisions"][precision]["verdict"] == "refused"
        assert chosen["precisions"][precision]["reasons"][0].startswith("export: general: KL ")
        assert project.json(f"facts/{precision}/deploy.json")["verdict"] == "refused"
    assert not list((project.build / "foundry").rglob("*.onnx"))
    gate = project.doit("gate", "deploy")
    assert gate.code == 1
    assert [line for line in gate.out.splitlines() if line.endswith("refused")] == [
        "deploy:facts-fp16: refused",
        "deploy:facts-int8: refused",
        "quality:facts: refused",
    ]


def test_a_recipe_that_is_too_coarse_is_refused_and_the_finer_one_recommended(
    project: Project, tiny_trained: Path
) -> None:
    (project.config / "recipes.toml").write_text(RECIPES, encoding="utf-8")
    project.facts()
    project.model(name="facts", source={"path": tiny_trained}, precisions=["coarse", "fine"])
    ran = project.doit("recommend")
    assert ran.code == 0, ran.out
    assert project.json("facts/quality.json")["verdict"] == "passed"
    chosen = project.json("facts/recommend.json")
    assert chosen["recommended"] == "fine"
    assert chosen["precisions"]["coarse"]["verdict"] == "refused"
    assert "is above the gate of 0.01" in chosen["precisions"]["coarse"]["reasons"][0]
    gate = project.doit("gate", "recommend")
    assert (gate.code, gate.out.strip()) == (1, "quality:facts-coarse: refused")
    assert project.doit("gate", "quality:facts-fine").code == 0

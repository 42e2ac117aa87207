"""What models.toml says reaches the steps of a real build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripts.convert.graph import Graph
from tests.system.project import Project


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"minutes": 0.001}, "longer than its limit of 0.06 s"),
        ({"checkpoint": {"memory_gib": 0.001}}, "GiB of memory, its limit is 0.0 GiB"),
    ],
)
def test_a_limit_of_models_toml_ends_a_step_and_to_raise_it_is_enough(
    project: Project, tiny_llama: Path, limits: dict[str, Any], said: str
) -> None:
    project.model(name="m", source={"path": tiny_llama}, limits=limits)
    ran = project.doit("checkpoint")
    assert ran.code == 1
    [line] = [line for line in ran.out.splitlines() if "checkpoint:m" in line and said in line]
    assert "raise limits.checkpoint in models.toml" in line
    project.model(name="m", source={"path": tiny_llama}, limits={"minutes": 10})
    assert project.doit("checkpoint").steps == {"checkpoint:m"}
    project.model(name="m", source={"path": tiny_llama})
    assert project.doit("checkpoint").steps == frozenset()


def test_a_longer_context_quantises_again_and_exports_nothing_again(project: Project, tiny_llama: Path) -> None:
    for context, steps in ((2048, {"checkpoint:m", "export:m", "quantize:m-int8"}), (3000, {"quantize:m-int8"})):
        project.model(name="m", source={"path": tiny_llama}, precisions=["int8"], context_length=context)
        assert project.doit("quantize:m-int8").steps == steps
        graph = Graph(project.build / "m" / "int8" / "onnx" / "model.onnx")
        assert {graph.initializers[name].dims[0] for name in ("cos_cache", "sin_cache")} == {context}


def test_a_chat_template_of_models_toml_is_the_one_that_is_used(project: Project, tiny_llama: Path) -> None:
    text = "{% for message in messages %}[{{ message['role'] }}] {{ message['content'] }}\n{% endfor %}"
    (project.config / "mine.jinja").write_text(text, encoding="utf-8")
    project.model(name="m", source={"path": tiny_llama}, template="mine.jinja")
    assert project.doit("checkpoint").code == 0
    used = project.build / "m" / "checkpoint" / "chat_template.jinja"
    assert used.read_text(encoding="utf-8") == text
    (project.config / "mine.jinja").write_text("{# changed #}" + text, encoding="utf-8")
    assert project.doit("checkpoint").steps == {"checkpoint:m"}
    project.model(name="m", source={"path": tiny_llama}, template="nosuch")
    ran = project.doit("checkpoint")
    assert ran.code == 1
    assert "neither a file nor a chat template's name" in ran.out

"""The end of a turn by the chat template ends a generation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from scripts.package.build import build
from scripts.package.card import PackageSpec
from scripts.results import remarks

Change = Callable[..., None]
LOOP = (
    "{% for message in messages %}BODY{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def package(onnx: Path, checkpoint: Path, output: Path, template: str | None = None) -> Path:
    if template is not None:
        (checkpoint / "chat_template.jinja").write_text(template, encoding="utf-8")
    build(onnx, checkpoint, PackageSpec("tiny-int4-generic-cpu:1", "int4", "", "1", "", None, None), output)
    return output


def said(folder: Path) -> str:
    return "\n".join(f"{remark.subject}: {remark.text}" for remark in remarks.read(folder))


def ends(folder: Path) -> list[int]:
    value = json.loads((folder / "genai_config.json").read_text())["model"]["eos_token_id"]
    return list(value) if isinstance(value, list) else [value]


def test_the_end_of_a_turn_ends_a_generation_whatever_the_configs_say(
    onnx: Path, checkpoint: Path, tmp_path: Path, change: Change
) -> None:
    model = json.loads((onnx / "genai_config.json").read_text())["model"] | {"eos_token_id": 0}
    change(onnx / "genai_config.json", model=model)
    change(checkpoint / "config.json", eos_token_id=0)
    change(checkpoint / "generation_config.json", eos_token_id=[0, 1])
    made = package(onnx, checkpoint, tmp_path / "out")
    assert ends(made) == [2, 0]
    assert "end of a turn: '<|im_end|>' (2) by the chat template, which is used" in said(made)
    assert "config.json '<|endoftext|>' (0)" in said(made)
    assert "generation_config.json '<|endoftext|>' (0) and '<|im_start|>' (1) say otherwise" in said(made)


def test_where_all_agree_nothing_is_said(onnx: Path, checkpoint: Path, tmp_path: Path) -> None:
    made = package(onnx, checkpoint, tmp_path / "out")
    assert ends(made) == [2]
    assert said(made) == ""


def test_a_turn_that_ends_in_plain_text_is_a_remark(onnx: Path, checkpoint: Path, tmp_path: Path) -> None:
    template = LOOP.replace("BODY", "{{ message['role'] + ': ' + message['content'] + '\n' }}").replace(
        "<|im_start|>", ""
    )
    made = package(onnx, checkpoint, tmp_path / "out", template)
    assert "answers may run on" in said(made)

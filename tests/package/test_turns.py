"""The end of a turn by the chat template ends a generation; a template the runtime reads otherwise is rewritten."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from jinja2 import Environment

from scripts.common.errors import IngotError
from scripts.package.build import build
from scripts.package.card import PackageSpec
from scripts.package.rewrite import rewritten, untrimmed
from scripts.results import remarks
from tests.tiny import CHAT_TEMPLATE

Change = Callable[..., None]
LOOP = (
    "{% for message in messages %}BODY{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
#: Qwen 3's way: what the model thought is cut off an answer.
THINKING = LOOP.replace(
    "BODY",
    "{% set content = message['content'] %}"
    "{% if message.role == 'assistant' and '</think>' in content %}"
    "{% set content = content.split('</think>')[-1] %}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + content + '<|im_end|>\n' }}",
)
#: Zephyr's way: a tag on a line of its own.
LINES = """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|im_start|>user\n' + message['content'] + '<|im_end|>' }}
    {% elif message['role'] == 'system' %}
{{ '<|im_start|>system\n' + message['content'] + '<|im_end|>' }}
{% else %}
{{ '<|im_start|>assistant\n' + message['content'] + '<|im_end|>' }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|im_start|>assistant' }}
{% endif %}
{% endfor %}"""


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


@pytest.mark.parametrize(("template", "words"), [(THINKING, "split"), (LINES, "line breaks")])
def test_a_template_outside_the_runtimes_jinja_is_rewritten_to_the_same_ids(
    onnx: Path, checkpoint: Path, tmp_path: Path, template: str, words: str
) -> None:
    """That the ids are the same, packaging itself has held against transformers."""
    made = package(onnx, checkpoint, tmp_path / "out", template)
    assert "chat template: rewritten for the runtime, of the same meaning" in said(made)
    assert words in said(made)
    assert (made / "chat_template.jinja").read_text() != template


def test_a_template_that_no_rewriting_helps_is_refused_with_what_is_wrong(
    onnx: Path, checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(IngotError, match="the runtime"):
        package(
            onnx,
            checkpoint,
            tmp_path / "out",
            CHAT_TEMPLATE.replace("message['content']", "message['content'] | upper"),
        )


@pytest.mark.parametrize(
    "source",
    [
        "a {% if x %}\n b\n\n{% endif %}\n\n\nc {# note #}\nd\n",
        "  {% if x %}\n  {{ y }}\n  {%- endif -%}  \n z",
        "{% raw %}\n{% not a tag %}\n{% endraw %}\nrest",
        "\t{% for a in b %}\n{{ a }}\n\t{% else %}\n-\n{% endfor %}\n",
        "{{ '{% if x %}\n' }}\n{% if x %}{{ '%}\n' }}{% endif %}",
    ],
)
def test_a_template_without_trimmed_blocks_renders_alike_under_both_settings(source: str) -> None:
    trimming = Environment(trim_blocks=True, lstrip_blocks=True)
    plain = Environment()
    values = {"x": True, "y": "Y", "b": [1, 2]}
    due = trimming.from_string(source).render(values)
    for environment in (trimming, plain):
        assert environment.from_string(untrimmed(source)).render(values) == due


def test_only_what_keeps_its_meaning_is_rewritten() -> None:
    source = "{% if 'a' in text and 'b' in table and 'c' not in m['x'].y %}1{% endif %}"
    found = list(rewritten(source, lambda other: "table.split" not in other))
    expected = (
        "{% if (text.split('a') | length > 1) and 'b' in table and (m['x'].y.split('c') | length < 2) %}1{% endif %}"
    )
    assert [text for text, _ in found] == [expected]

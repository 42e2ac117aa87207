"""Templates in the runtime, expressions, schemas, cases and texts of strangers: bounded, and told in one line."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from tests.hostile import limited
from tests.hostile.limited import Hostile, Stages

BACKTRACKS = "(((.+)+)+)+!{}"
TWICE: dict[str, Any] = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(40)}


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for i in range(999) %}" * 6 + "{% endfor %}" * 6, "s to render"),
        (
            "{% for i in range(999999999) %}{% for j in range(999999999) %}{% endfor %}{% endfor %}",
            "of memory to render",
        ),
        ("{% for i in range(99999999) %}" + "a" * 10_000 + "{% endfor %}", "of memory to render"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "to render"),
        ("{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}", "chat template"),
    ],
    ids=["loops", "range", "memory", "macros", "parentheses"],
)
def test_what_the_runtime_renders(stages: Stages, tiny_llama: Path, tmp_path: Path, template: str, said: str) -> None:
    folder = with_template(tiny_llama, tmp_path / "folder", template)
    ended = stages.program("tests.hostile.rendering", str(folder))
    assert ended.code == 1, ended
    limited.said(ended, "error: ", "folder", said)


def with_template(weights: Path, folder: Path, template: str) -> Path:
    """What the runtime needs to render a conversation."""
    shutil.copytree(weights, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    model = {"type": "llama", "context_length": 4096, "vocab_size": tiny.VOCAB, "decoder": {}}
    (folder / "genai_config.json").write_text(json.dumps({"model": model}), encoding="utf-8")
    return folder


@pytest.mark.parametrize("both", [False, True], ids=["runtime", "package"])
def test_what_a_template_says_when_it_refuses(stages: Stages, tiny_llama: Path, tmp_path: Path, both: bool) -> None:
    evil = "never\x1b[2J\x07\n\u2713 verify:evil all is well\r\u202egnp\u200b\x9b31m<img src=x>" + "a" * 100_000
    template = "{{ raise_exception(" + json.dumps(evil) + ") }}"
    folder = with_template(tiny_llama, tmp_path / "folder", template)
    ended = stages.program("tests.hostile.rendering", str(folder), *(["both"] if both else []))
    assert ended.code == 1, ended
    limited.said(ended, "error: ", "never")
    assert not any(line.startswith("\u2713") for line in ended.out.splitlines()), ended.out
    assert len(ended.out) < 3000, ended.out


@pytest.mark.parametrize("way", ["cycler.__init__.__globals__.os", "''.__class__.__mro__[1].__subclasses__()[0].x.os"])
def test_pythons_internals_are_out_of_a_templates_reach(
    stages: Stages, tiny_llama: Path, tmp_path: Path, way: str
) -> None:
    made = tmp_path / "made by the template"
    folder = with_template(tiny_llama, tmp_path / "folder", f"{{{{ {way}.system('touch \"{made}\"') }}}}")
    shutil.copy(tiny_llama / "model.safetensors", folder)
    (folder / "genai_config.json").unlink()
    ended = [stages.run("checkpoint", "build", source=folder, output=tmp_path / "checkpoint")]
    with_template(tiny_llama, tmp_path / "served", (folder / "chat_template.jinja").read_text(encoding="utf-8"))
    ended += [stages.program("tests.hostile.rendering", str(tmp_path / "served"), *words) for words in ([], ["both"])]
    assert not made.exists()
    assert [one.code for one in ended[1:]] == [1, 1], ended
    assert not any("Traceback" in one.out for one in ended), ended


def test_a_regular_expression_that_takes_for_ever(stages: Stages, package: Path, tmp_path: Path) -> None:
    cases = tmp_path / "cases.jsonl"
    case = {"id": "a", "prompt": tiny.FACTS[0][0], "max_tokens": 24, "expect": {"regex": BACKTRACKS}}
    cases.write_text(json.dumps(case), encoding="utf-8")
    words = ["expect.regex", "to search an answer with it"]
    stages.refused("quality", "domain", *words, package=package, cases=cases, output=tmp_path / "domain.json")


@pytest.mark.parametrize(
    "schema",
    [{"pattern": BACKTRACKS}, {"$defs": TWICE | {"a40": {}}, "$ref": "#/$defs/a0"}],
    ids=["pattern", "references"],
)
def test_a_schema_that_takes_for_ever(stages: Stages, tiny_llama: Path, tmp_path: Path, schema: dict[str, Any]) -> None:
    files = {name: tmp_path / name for name in ("train", "evaluation", "schema")}
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": '"The sky is blue, and so on"'}]
    files["train"].write_text(json.dumps({"id": "a", "messages": talk}), encoding="utf-8")
    files["schema"].write_text(json.dumps(schema), encoding="utf-8")
    files["evaluation"].write_text(json.dumps({"id": "a", "prompt": "b", "expect": {"schema": True}}), "utf-8")
    words = ["evaluation.schema", "to judge an answer by it"]
    stages.refused("finetune", "train", *words, source=tiny_llama, output=tmp_path / "made", **files)


def test_of_a_huge_text_only_what_counts_is_read(stages: Stages, tiny_trained: Path, tmp_path: Path) -> None:
    huge, small = tmp_path / "huge.txt", tmp_path / "small.txt"
    line = "The ticket says that the printer prints nothing since Monday.\n"
    with huge.open("w", encoding="utf-8") as file:
        for _ in range(300):
            file.write(line * ((1 << 20) // len(line)))
    small.write_text(line * 400, encoding="utf-8")
    index = []
    for text in (huge, small):
        ended = stages.run("quality", "reference", checkpoint=tiny_trained, text=text, output=tmp_path / text.stem)
        assert ended.code == 0, ended.out
        index.append(json.loads((tmp_path / text.stem / "index.json").read_text(encoding="utf-8")))
        assert ended.peak < 10**9
    assert index[0]["texts"]["huge"]["tokens"] == index[1]["texts"]["small"]["tokens"] == 1024
    tokens = [(tmp_path / name / name / "tokens.npy").read_bytes() for name in ("huge", "small")]
    assert tokens[0] == tokens[1]


def fifo(path: Path) -> None:
    os.mkfifo(path)


def endless_line(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(50 << 30)


def many_lines(path: Path) -> None:
    path.write_text('{"id": "a"}\n' * 10 + "\n" * 3_000_000, encoding="utf-8")


def many_cases(path: Path) -> None:
    rows = (f'{{"id": "{n}", "prompt": "a", "expect": {{"exact": "a"}}}}' for n in range(1_000_000))
    path.write_text("\n".join(rows), encoding="utf-8")


def deep(path: Path) -> None:
    path.write_text("[" * 100_000, encoding="utf-8")


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def large(path: Path) -> None:
    path.write_text(json.dumps({"enum": ["x" * 1000] * 1000}), encoding="utf-8")


def unresolvable(path: Path) -> None:
    path.write_text('{"$ref": "#/title/x", "title": "a"}', encoding="utf-8")


@pytest.mark.parametrize("make", [fifo, endless_line, many_lines, many_cases, deep, loop])
def test_cases_that_are_none(hostile: Hostile, tiny_llama: Path, make: Callable[[Path], None]) -> None:
    make(hostile.config / "eval" / "cases.jsonl")
    evaluation = {"cases": "eval/cases.jsonl"}
    hostile.beside({"name": "bad", "source": {"path": tiny_llama}, "evaluation": evaluation})
    hostile.refused("checkpoint:bad", "cases.jsonl")
    for command in ("list", "why"):
        assert "Traceback" not in hostile.run(command).out


@pytest.mark.parametrize("make", [fifo, endless_line, deep, loop, large, unresolvable])
def test_a_schema_that_is_none(hostile: Hostile, tiny_llama: Path, make: Callable[[Path], None]) -> None:
    make(hostile.config / "eval" / "schema.json")
    (hostile.config / "eval" / "cases.jsonl").write_text('{"id": "a", "prompt": "b", "expect": {"schema": true}}')
    evaluation = {"cases": "eval/cases.jsonl", "schema": "eval/schema.json"}
    hostile.beside({"name": "bad", "source": {"path": tiny_llama}, "evaluation": evaluation})
    hostile.refused("checkpoint:bad", "schema.json")


def test_a_template_that_is_a_link_out_of_its_folder(hostile: Hostile, tiny_llama: Path) -> None:
    (hostile.home / "secret").write_text("root-of-all-secrets", encoding="utf-8")
    (hostile.config / "chat.jinja").symlink_to(hostile.home / "secret")
    hostile.beside({"name": "bad", "source": {"path": tiny_llama}, "template": "chat.jinja"})
    ended = hostile.refused("model 'bad'.template", "a link out of its folder")
    assert "root-of-all-secrets" not in ended.out

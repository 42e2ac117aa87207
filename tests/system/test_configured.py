"""Everything that a configuration names is read and judged first: by the doctor, and by the first `doit`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.doctor.diagnosis import diagnose
from tests import tiny
from tests.families import checkpoints
from tests.system.project import Project

CASE = {"id": "a", "prompt": "b", "expect": {"exact": "c"}}
Change = Callable[[Path, dict[str, Any]], object]


def put(name: str, text: str | bytes) -> Change:
    """Write a file of the configuration."""
    data = text if isinstance(text, bytes) else text.encode()
    return lambda folder, _: (folder / name).write_bytes(data)


def rows(*values: Any) -> Change:
    return put("cases.jsonl", "\n".join(map(json.dumps, values)))


def say(**keys: Any) -> Change:
    """Write keys of models.toml."""
    return lambda _, model: model.update(keys)


def at(name: str) -> Change:
    """A folder where a file should be."""

    def change(folder: Path, _: object) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return change


def gone(name: str) -> Change:
    return lambda folder, _: (folder / name).unlink()


#: What is wrong, and what is said of it.
FAULTS: list[tuple[Change, str]] = [
    (put("cases.jsonl", ""), "cases.jsonl is empty"),
    (put("cases.jsonl", "\n \n"), "there is no case in it"),
    (at("cases.jsonl"), "cases.jsonl is not a file"),
    (gone("cases.jsonl"), "there is no file"),
    (put("cases.jsonl", b'{"id": "\xff"}'), "cases.jsonl:1: is not UTF-8"),
    (put("cases.jsonl", "id: a"), "cases.jsonl:1: not JSON"),
    (rows(CASE, CASE | {"expect": {"exakt": "c"}}), "cases.jsonl:2: expect.exakt: unknown key. Did you mean 'exact'?"),
    (rows(CASE | {"expect": {}}), "cases.jsonl:1: expect: expects nothing"),
    (rows(CASE, CASE), "cases.jsonl:2: id: 'a' is the id of line 1 already"),
    (rows(CASE | {"expect": {"regex": "("}}), "cases.jsonl:1: expect.regex: is not a regular expression"),
    (rows(CASE | {"max_tokens": 0}), "cases.jsonl:1: max_tokens: 0 is out of range"),
    (rows({"id": "a", "expect": {"exact": "c"}}), "cases.jsonl:1: prompt or messages: neither is given"),
    (say(evaluation={"cases": "schema.jsonl"}), "asks for an answer that is valid by a schema, and the model has none"),
    (put("answer.json", "{"), "answer.json: is not JSON"),
    (put("answer.json", '{"type": "objekt"}'), "answer.json: is not a JSON schema"),
    (put("answer.json", '{"$ref": "#/none"}'), "answer.json: refers to '#/none', which is not in it"),
    (put("text.txt", b"a\xff"), "text.txt: is not UTF-8"),
    (put("text.txt", " \n"), "text.txt: holds no text"),
    (put("eval/general.txt", b"\xff\xfe"), "general.txt: is not UTF-8"),
    (put("own.jsonl", '{"text": "a"}\n{"txt": 1}'), "own.jsonl:2: is not a text to calibrate on"),
    (put("own.jsonl", '{"messages": ["a"]}'), "own.jsonl:1: is not a text to calibrate on"),
    (put("own.jsonl", "\n"), "own.jsonl: there is no text in it"),
    (put("chat.jinja", "{% for m in messages %}"), "chat.jinja: its chat template is not Jinja: line 1"),
    (put("chat.jinja", b"\xff"), "chat.jinja: is not UTF-8"),
    (put("chat.jinja", " \n"), "chat.jinja: is empty"),
    (say(template="rag"), "neither a file nor a chat template's name"),
    (say(adapters=[{"path": "nowhere"}]), "/nowhere: "),
    (say(adapters=[{"path": "."}]), "adapter_config.json: not found"),
    (say(gates={"int5": {"kl": 1}}), "gates.int5: unknown key. Did you mean 'int8'?"),
    (say(gates={"int8": {"domain_flor": 50}}), "gates.int8.domain_flor: unknown key. Did you mean 'domain_floor'?"),
    (say(gates={"int8": {"domain_floor": 101}}), "gates.int8.domain_floor: 101 is out of range"),
    (say(gates={"int8": {"domain_floor": "90%"}}), "gates.int8.domain_floor: expected a number, found '90%'"),
    (say(gates={"export": {"kl": 0}}), "gates.export.kl: 0 is out of range"),
    (say(evaluation={"cases": "cases.jsonl", "limit": 0}), "evaluation.limit: 0 is out of range"),
    (say(context_length=8192), "context_length: is 8192, but the model was made for 4096 tokens"),
    (say(sampling={"max_length": 3000}, context_length=2048), "max_length: is 3000, more than context_length 2048"),
    (say(base={"path": "a", "gguf": "b"}), "base: needs exactly one of path, gguf, wheel, hub; found path and gguf"),
]  # fmt: skip


def configure(project: Project, weights: Path, change: Change) -> None:
    """A sound configuration with everything in it, and what `change` makes of it."""
    folder = project.config
    for name, text in (
        ("cases.jsonl", json.dumps(CASE)), ("schema.jsonl", json.dumps(CASE | {"expect": {"schema": True}})),
        ("answer.json", "{}"), ("text.txt", "Some text"), ("own.jsonl", '{"text": "c"}\n'),
        ("eval/general.txt", "Some more text"), ("chat.jinja", tiny.CHAT_TEMPLATE),
    ):  # fmt: skip
        (folder / name).write_text(text, encoding="utf-8")
    model = {
        "name": "m", "source": {"path": weights}, "precisions": ["int8", "int4-best"], "template": "chat.jinja",
        "evaluation": {"cases": "cases.jsonl", "schema": "answer.json", "text": "text.txt"}, "calibration": "own.jsonl",
    }  # fmt: skip
    change(folder, model)
    project.model(**model)


def mistakes(project: Project) -> list[str]:
    """What the doctor finds wrong with the model, as a build would say it."""
    lines = diagnose(config=project.config, build=project.build)
    return [f"{line.found}. {line.remedy}" for line in lines if line.what.startswith("model ") and line.status == "bad"]


@pytest.mark.parametrize(("change", "said"), FAULTS, ids=[said for _, said in FAULTS])
def test_a_fault_is_told_by_the_doctor_and_by_the_first_doit(
    project: Project, tiny_llama: Path, change: Change, said: str
) -> None:
    configure(project, tiny_llama, change)
    told = mistakes(project)
    assert any(said in line for line in told), told
    ran = project.doit("checkpoint")
    assert ran.code == 1
    assert said in ran.out, ran.out
    assert "Traceback" not in ran.out
    assert not (project.build / "m" / "checkpoint").exists()


@pytest.mark.parametrize(
    ("exporter", "family", "said"),
    [
        ("mobius", "gemma", "unsupported architecture GemmaForCausalLM (exporter mobius). Leave `exporter` out"),
        ("builder", "olmo 2", "unsupported architecture Olmo2ForCausalLM (exporter builder). Leave `exporter` out"),
    ],
)
def test_an_exporter_that_lacks_the_family_is_told_before_the_weights_are_read(
    project: Project, exporter: str, family: str, said: str
) -> None:
    weights = checkpoints.make(family, project.home / "weights")
    configure(project, weights, say(exporter=exporter))
    assert any(said in line for line in mistakes(project))
    ran = project.doit("checkpoint")
    assert ran.code == 1
    assert said.partition(". ")[0] in ran.out, ran.out
    assert not (project.build / "m" / "checkpoint").exists()


def test_without_a_fault_nothing_is_told(project: Project, tiny_llama: Path) -> None:
    configure(project, tiny_llama, lambda *_: None)
    assert mistakes(project) == []
    ran = project.doit("checkpoint")
    assert ran.code == 0, ran.out


def test_a_template_among_the_weights_that_is_not_one_is_told_before_they_are_read(
    project: Project, tiny_llama: Path
) -> None:
    weights = Path(shutil.copytree(tiny_llama, project.home / "weights"))
    (weights / "chat_template.jinja").write_text("{{ 'a' }", encoding="utf-8")
    project.model(name="m", source={"path": weights})
    said = "its chat template is not Jinja: line 1"
    assert [said in line for line in mistakes(project)] == [True]
    ran = project.doit("checkpoint")
    assert (ran.code, said in ran.out) == (1, True), ran.out


def test_a_base_that_is_not_there_is_a_warning_since_a_build_does_without(project: Project, tiny_llama: Path) -> None:
    configure(project, tiny_llama, say(base={"path": "nowhere"}))
    lines = [line for line in diagnose(config=project.config, build=project.build) if line.what == "base of m"]
    assert [(line.status, "nowhere: weights folder not found" in line.found) for line in lines] == [("warn", True)]

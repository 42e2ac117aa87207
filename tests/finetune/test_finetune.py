from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from scripts.common.errors import IngotError
from scripts.finetune.data import read_cases, read_examples
from scripts.finetune.train import Hyperparameters, finetune
from tests.tiny import make_checkpoint

PROJECT = Path(__file__).parents[2]
SCHEMA = {"type": "object", "properties": {"mood": {"enum": ["up", "down"]}}, "required": ["mood"]}


def lines(path: Path, *entries: object) -> Path:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return path


def asked(question: str, answer: object = None) -> list[dict[str, str]]:
    turns = [{"role": "user", "content": question}]
    return turns if answer is None else [*turns, {"role": "assistant", "content": json.dumps(answer)}]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("tuning") / "a base", hidden=64)


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Path]:
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps(SCHEMA), encoding="utf-8")
    train = [{"id": f"r{i}", "messages": asked(f"ticket {i}", {"mood": "up"})} for i in range(6)]
    cases = [
        {"id": f"t{i}", "messages": asked(f"case {i}"), "max_tokens": 8, "labels": {"mood": "up"}} for i in range(3)
    ]
    return {
        "train": lines(tmp_path / "train.jsonl", *train),
        "evaluation": lines(tmp_path / "cases.jsonl", *cases),
        "schema": schema,
    }


def test_an_adapter_comes_out_the_same_twice_and_changes_what_the_base_says(
    base: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    quick = Hyperparameters(epochs=2, rank=2, batch_tokens=128, learning_rate=1e-2)
    for name in ("one", "two"):
        figures = finetune(base, **data, output=tmp_path / name, base_name="tiny", parameters=quick)
    stored = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("one", "two")]
    configs = [(tmp_path / name / "adapter_config.json").read_text(encoding="utf-8") for name in ("one", "two")]
    assert stored[0] == stored[1]
    assert configs[0] == configs[1]
    assert str(tmp_path) not in configs[0] and json.loads(configs[0])["base_model_name_or_path"] == "tiny"
    assert json.loads((tmp_path / "two" / "figures.json").read_text(encoding="utf-8")) == figures
    assert set(figures["finetuned"]["answers"]) == {"t0", "t1", "t2"}
    plain = AutoModelForCausalLM.from_pretrained(base)
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    merged = PeftModel.from_pretrained(plain, str(tmp_path / "one")).merge_and_unload().state_dict()
    changed = {name for name, tensor in merged.items() if not tensor.equal(before[name])}
    assert len(changed) == 2 * 7 and all(name.endswith("_proj.weight") for name in changed)


def test_training_brings_the_answer_nearer(
    base: Path, data: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    longer = Hyperparameters(epochs=12, rank=4, batch_tokens=128, learning_rate=2e-2)
    finetune(base, **data, output=tmp_path / "out", base_name="tiny", parameters=longer)
    losses = [
        float(line.split("loss ")[1].split(",")[0]) for line in capsys.readouterr().out.splitlines() if "loss" in line
    ]
    assert losses[-1] < 0.95 * losses[0]


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ("{", "not JSON"),
        ('{"messages": []}', "no object with a string `id`"),
        ('{"id": "r0", "messages": []}', "comes twice"),
        ('{"id": "x", "messages": [{"role": "user"}]}', "not a list of {role, content}"),
        (json.dumps({"id": "x", "messages": asked("q")}), "the last message is from 'user'"),
        (json.dumps({"id": "x", "messages": asked("q", {"mood": "odd"})}), "breaks the schema"),
        (json.dumps({"id": "x", "messages": [*asked("q"), {"role": "assistant", "content": "up"}]}), "is not JSON"),
    ],
)
def test_a_bad_training_line_is_named_with_its_file_and_number(data: dict[str, Path], entry: str, found: str) -> None:
    with data["train"].open("a", encoding="utf-8") as file:
        file.write(entry)
    with pytest.raises(IngotError, match="line 7") as caught:
        read_examples(data["train"], SCHEMA)
    assert str(data["train"]) in str(caught.value) and found in str(caught.value)


def test_an_empty_or_missing_file_is_named(data: dict[str, Path]) -> None:
    data["evaluation"].write_text("\n", encoding="utf-8")
    with pytest.raises(IngotError, match="is empty"):
        read_cases(data["evaluation"])
    data["evaluation"].unlink()
    with pytest.raises(IngotError, match="no such file"):
        read_cases(data["evaluation"])


def test_a_held_out_question_that_was_trained_on_is_refused(data: dict[str, Path], tmp_path: Path) -> None:
    lines(data["evaluation"], {"id": "t0", "messages": asked("Ticket  3"), "labels": {"mood": "up"}})
    with pytest.raises(IngotError, match="t0 is also r3"):
        finetune(tmp_path / "no base", **data, output=tmp_path / "out", base_name="tiny")
    assert not (tmp_path / "out").exists()


def test_the_example_s_tickets_and_cases_fit_their_schema_and_share_no_ticket() -> None:
    schema = json.loads((PROJECT / "config/eval/triage/answer.schema.json").read_text(encoding="utf-8"))
    examples = read_examples(PROJECT / "config/train/triage/tickets.jsonl", schema)
    cases = read_cases(PROJECT / "config/eval/triage/cases.jsonl")
    validator = jsonschema.Draft202012Validator(schema)
    assert all(validator.is_valid(case.labels) for case in cases)
    assert {e.messages[-2]["content"].lower() for e in examples}.isdisjoint(
        c.messages[-1]["content"].lower() for c in cases
    )
    assert len(examples) >= 400 and len(cases) >= 96

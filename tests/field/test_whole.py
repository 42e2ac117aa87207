"""Inputs that people really have, through checkpoint and export: the runtime computes what the true model does.

The truth is never the build's own reading of the input: it is the model before it was saved badly, or peft's own model
without merging.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scripts.convert.export import export
from scripts.package.build import build as package
from scripts.package.card import PackageSpec
from scripts.quality.logits import GenaiModel
from tests import tiny
from tests.families import checkpoints, measure
from tests.field.inputs import PLAIN, WEIGHTS, adapter, copy, edit, make, rename, rewrite, sharp
from tests.field.test_weights import WRAPPERS, truth

#: What an export may differ by from the model in float32, nats: rounding.
EXACT = 1e-4


@torch.no_grad()  # type: ignore[untyped-decorator]
def apart(model: Any, folder: Path, *, tokens: int = 160, vocab: int = tiny.VOCAB, last: int | None = None) -> float:
    """Mean KL, nats, of the converted folder from a model of transformers on random tokens; of the `last` positions."""
    ids = torch.randint(3, vocab, (1, tokens), generator=torch.Generator().manual_seed(3))
    due = torch.log_softmax(model.float().eval()(input_ids=ids).logits[0].double(), -1)
    rows = np.concatenate(list(GenaiModel(folder).logits(ids[0].numpy().astype(np.int32), 256)))
    found = torch.log_softmax(torch.from_numpy(rows).double(), -1)[:, : due.shape[1]]
    return float((due.exp() * (due - found)).sum(-1)[-(last or tokens) :].mean())


def exported(folder: Path, target: Path) -> Path:
    export(folder, target)
    return target


#: Names that transformers itself finds a place for, and every other reader must too.
PREFIXES: dict[str, Callable[[str], str]] = {
    "without the model's prefix": lambda name: name.removeprefix("model."),
    "with it twice": lambda name: f"model.{name}",
}


@pytest.mark.parametrize("names", PREFIXES)
def test_weights_under_names_that_transformers_understands_are_judged_and_exported_right(
    llama: Path, weights: Path, tmp_path: Path, names: str
) -> None:
    rename(weights / WEIGHTS, PREFIXES[names])
    made = make(tmp_path / "checkpoint", weights)
    result = measure.judged(copy(made.folder, tmp_path / "copied"), tmp_path)
    assert result.export.verdict == "passed", result.export.reasons
    assert apart(truth(llama), tmp_path / "export") < EXACT


@pytest.mark.parametrize("wrapper", ["torch.compile", "peft"])
def test_weights_saved_while_they_were_wrapped_are_exported_right(
    llama: Path, weights: Path, tmp_path: Path, wrapper: str
) -> None:
    rename(weights / WEIGHTS, WRAPPERS[wrapper])
    made = make(tmp_path / "checkpoint", weights)
    assert apart(truth(llama), exported(made.folder, tmp_path / "onnx")) < EXACT


def test_an_adapter_on_a_compiled_base_is_exported_as_peft_has_it(llama: Path, weights: Path, tmp_path: Path) -> None:
    unmerged = adapter(tmp_path / "adapter", llama)
    rename(weights / WEIGHTS, WRAPPERS["torch.compile"])
    made = make(tmp_path / "checkpoint", weights, tmp_path / "adapter")
    onnx = exported(made.folder, tmp_path / "onnx")
    assert apart(unmerged, onnx) < EXACT
    assert apart(truth(llama), onnx) > 100 * EXACT


def test_shards_beside_a_file_of_another_run_are_exported_right(llama: Path, tmp_path: Path) -> None:
    folder = tiny.make_sharded(tmp_path / "shards", llama)
    shutil.copy(sharp(tmp_path / "other", tied=False, seed=9) / WEIGHTS, folder)
    made = make(tmp_path / "checkpoint", folder)
    assert apart(truth(llama), exported(made.folder, tmp_path / "onnx")) < EXACT


def test_a_trainers_folder_of_mixed_precision_is_exported_right(llama: Path, weights: Path, tmp_path: Path) -> None:
    def mix(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        kinds = {"norm": torch.float32, "lm_head": torch.float32, "mlp": torch.float16}
        found = {
            name: value.to(next((kind for part, kind in kinds.items() if part in name), torch.bfloat16))
            for name, value in tensors.items()
        }
        return found | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(32)}

    rewrite(weights / WEIGHTS, mix)
    copy(weights, tmp_path / "copy").rename(weights / "checkpoint-500")
    (weights / "optimizer.pt").write_bytes(b"x" * 100)
    (weights / "latest").symlink_to("global_step1000")
    edit(weights / "config.json", pad_token_id=-1, torch_dtype="bfloat16", dtype=None, bos_token_id=None)
    made = make(tmp_path / "checkpoint", weights)
    assert apart(truth(weights), exported(made.folder, tmp_path / "onnx")) < EXACT
    assert apart(truth(llama), tmp_path / "onnx") < 0.05


def rope(folder: Path, **scaling: Any) -> Path:
    """Scaling of positions as cards and older versions give it: beside rope_theta, by `type`."""
    edit(folder / "config.json", rope_parameters=None, rope_theta=10000.0, rope_scaling=scaling)
    return folder


def test_yarn_as_cards_give_it_is_right_beyond_the_original_context(weights: Path, tmp_path: Path) -> None:
    rope(weights, type="yarn", factor=4.0, original_max_position_embeddings=128)
    onnx = exported(make(tmp_path / "checkpoint", weights).folder, tmp_path / "onnx")
    assert apart(truth(weights), onnx, tokens=700, last=400) < EXACT


def test_dynamic_scaling_is_right_to_the_last_token_that_it_is_served_and_no_more_are(
    weights: Path, tmp_path: Path
) -> None:
    rope(weights, type="dynamic", factor=2.0)
    edit(weights / "config.json", max_position_embeddings=512)
    made = make(tmp_path / "checkpoint", weights)
    assert "positions are scaled (dynamic) beyond 512 tokens alone, where a package ends" in made.remarks
    onnx = exported(made.folder, tmp_path / "onnx")
    assert apart(truth(weights), onnx, tokens=500, last=100) < EXACT
    spec = PackageSpec("tiny-fp32-generic-cpu:1", "fp32", "", "1", "", None, 1024)
    with pytest.raises(Exception, match="512"):
        package(onnx, made.folder, spec, tmp_path / "package")


@pytest.mark.parametrize(
    ("family", "targets"),
    [
        ("mistral 3, ministral 3", ["q_proj", "v_proj", "down_proj"]),
        ("qwen3.5", ["q_proj", "down_proj", "in_proj_a", "in_proj_b", "out_proj"]),
    ],
)
def test_the_text_part_of_a_vision_model_is_exported_with_its_adapter(
    tmp_path: Path, family: str, targets: list[str]
) -> None:
    from transformers import AutoModelForImageTextToText

    folder = checkpoints.make(family, tmp_path / "weights")
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    skipped = r".*(visual|vision_tower).*"
    unmerged = adapter(tmp_path / "adapter", model, target_modules=targets, exclude_modules=skipped)
    made = make(tmp_path / "checkpoint", folder, tmp_path / "adapter")
    onnx = exported(made.folder, tmp_path / "onnx")
    assert apart(unmerged, onnx) < EXACT
    base = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    assert apart(base, onnx) > 10 * EXACT


def named(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    value = [{"name": "chat", "template": tiny.CHAT_TEMPLATE}, {"name": "rag", "template": PLAIN}]
    edit(folder / "tokenizer_config.json", chat_template=value)


@pytest.fixture(scope="session")
def onnx(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of `llama`, to be packaged with what a test made of its tokenizer's files."""
    return exported(llama, tmp_path_factory.mktemp("exported") / "onnx")


def test_the_template_that_is_chosen_by_name_is_the_packages(onnx: Path, weights: Path, tmp_path: Path) -> None:
    named(weights)
    said = packaged(onnx, make(tmp_path / "checkpoint", weights, template="rag").folder, tmp_path / "package")
    assert rendered(tmp_path / "package") == "### user:\nHi<|endoftext|>\n### assistant:\n"
    assert said["eos_token_id"] == [0, 2]


@pytest.mark.parametrize("base", ["of another template", "without one"])
def test_the_template_and_end_of_an_adapter_are_the_packages(
    onnx: Path, llama: Path, weights: Path, tmp_path: Path, base: str
) -> None:
    from transformers import AutoTokenizer

    adapter(tmp_path / "adapter", llama)
    tokenizer = AutoTokenizer.from_pretrained(llama)
    tokenizer.chat_template, tokenizer.eos_token = PLAIN, tiny.SPECIAL[0]
    tokenizer.save_pretrained(tmp_path / "adapter")
    if base == "without one":
        (weights / "chat_template.jinja").unlink()
    made = make(tmp_path / "checkpoint", weights, tmp_path / "adapter")
    said = packaged(onnx, made.folder, tmp_path / "package")
    assert rendered(tmp_path / "package") == "### user:\nHi<|endoftext|>\n### assistant:\n"
    assert said["eos_token_id"] == [0, 2]


def packaged(onnx: Path, checkpoint: Path, output: Path) -> dict[str, Any]:
    """Make the package; what its genai_config.json says of the model."""
    package(onnx, checkpoint, PackageSpec("tiny-fp32-generic-cpu:1", "fp32", "", "1", "", None, None), output)
    return dict(json.loads((output / "genai_config.json").read_text(encoding="utf-8"))["model"])


def rendered(folder: Path) -> str:
    """A question as the runtime puts it to the model."""
    from scripts.runtime.genai import Tokenizer

    return Tokenizer(folder).render([{"role": "user", "content": "Hi"}])


def contradict(**settings: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        edit(folder / "config.json", **settings)
        (folder / "generation_config.json").unlink()
        edit(folder / "tokenizer_config.json", eos_token=tiny.SPECIAL[0])

    return change


def test_an_answer_ends_where_the_template_ends_a_turn_whatever_the_configs_say(
    onnx_folder: Path, tiny_trained: Path, tmp_path: Path
) -> None:
    """Real generation: the model was trained to end its turns with <|im_end|>, and every file names another token."""
    from scripts.runtime.genai import Model

    checkpoint, onnx = copy(tiny_trained, tmp_path / "checkpoint"), copy(onnx_folder, tmp_path / "onnx")
    contradict(eos_token_id=0)(checkpoint)
    model = json.loads((onnx / "genai_config.json").read_text())["model"] | {"eos_token_id": 0}
    edit(onnx / "genai_config.json", model=model)
    made = make(tmp_path / "made", checkpoint)
    said = packaged(onnx, made.folder, tmp_path / "package")
    assert said["eos_token_id"] == [2, 0]
    for question, answer in tiny.FACTS[:3]:
        asked = [{"role": "user", "content": question}]
        assert Model(tmp_path / "package").greedy(asked, 60) == answer
        assert Model(onnx).greedy(asked, 60).startswith(f"{answer}\nassistant\n")  # what it said before

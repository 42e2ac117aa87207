"""Keys and values in 8 bits: what they cost in memory and in answers, in the runtimes that serve them."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest

from scripts.common import genai_config
from scripts.common.errors import IngotError
from scripts.convert import calibration, inference
from scripts.convert.quantize import quantize
from scripts.package.build import build
from scripts.package.card import PackageSpec
from scripts.runtime import genai
from scripts.runtime.foundry import Runtime
from tests import tiny

EIGHT = {"passes": [{"type": "CacheQuantization"}]}
WIDE = 64  # tokens of a window, here


@pytest.fixture(scope="module")
def eight(
    tmp_path_factory: pytest.TempPathFactory, tiny_trained: Path, trained_export: Path, conversations: Path
) -> Path:
    output = tmp_path_factory.mktemp("eight") / "onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "WINDOW", WIDE)
        quantize(trained_export, EIGHT, output, tiny_trained, texts=[conversations])
    return output


def test_foundry_serves_the_same_answers_with_a_quarter_of_the_cache(
    trained_export: Path, eight: Path, tiny_trained: Path, tmp_path: Path
) -> None:
    made = tmp_path / "package"
    build(eight, tiny_trained, PackageSpec("small-generic-cpu:1", "int8"), made)
    settings = genai_config.read(made)
    whole = genai_config.key_value_bytes(settings, trained_export)
    assert whole and 4 * (genai_config.key_value_bytes(settings, made) or 0) == whole
    assert f"up to {whole / 4e6:.0f} MB" in (made / "README.md").read_text(encoding="utf-8")
    with Runtime() as runtime:
        runtime.register(made, "small-generic-cpu:1")
        chat = runtime.load("small-generic-cpu:1")
        answers = [chat.complete(question, max_tokens=24).text for question, _ in tiny.FACTS]
    assert answers == [answer for _, answer in tiny.FACTS]


def test_pieces_and_single_tokens_compute_the_same_as_a_whole_text(trained_export: Path, eight: Path) -> None:
    """And what is computed is near what the float cache gives: by the most, in logits, and unlike it."""
    ids = np.arange(40, dtype=np.int32) % 50 + 5
    float_logits, whole = (_logits(folder, ids, [0, 40]) for folder in (trained_export, eight))
    for bounds in ([0, 7, 20, 40], [0, *range(1, 41)]):
        np.testing.assert_allclose(_logits(eight, ids, bounds), whole, atol=2e-2)
    apart = np.abs(whole - float_logits).max()
    assert 0 < apart < 0.05 * np.ptp(float_logits)


def test_a_key_fits_its_scale_at_every_position(trained_export: Path, tmp_path: Path) -> None:
    """Keys of the first layer depend on token and position alone: calibrated at 64 positions, asked at 1,000."""
    from scripts.convert import cache

    same = np.full((1, WIDE), 7, np.int32)
    graph = onnx.load(cache.quantize(trained_export / "model.onnx", tmp_path, same, lambda _line: None))
    scales = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    run = inference.session(
        onnx.load(trained_export / "model.onnx", load_external_data=False),
        trained_export / "model.onnx",
        ["present.0.key"],
    )
    (keys,) = run.run(None, inference.feeds(run, np.full(1000, 7, np.int32), trained_export / "model.onnx"))
    most = np.abs(keys[0]).max(axis=1).reshape(-1)
    assert (most <= 127.01 * scales["present.0.key.scale"]).all()
    assert (np.abs(keys[0, :, :WIDE]).max(axis=1).reshape(-1) < 0.9 * most).any(), "no position turned a key further"


def test_a_graph_without_such_attention_is_named(
    trained_export: Path, tiny_trained: Path, conversations: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(trained_export, tmp_path / "other"))
    model = onnx.load(other / "model.onnx", load_external_data=False)
    for value in (*model.graph.input, *model.graph.output):
        if "past" in value.name or "present" in value.name:
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    (other / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(IngotError, match=r"model\.onnx: keeps no keys and values in float32.*Leave CacheQuant"):
        quantize(other, EIGHT, tmp_path / "out", tiny_trained, texts=[conversations])


def test_a_recipe_for_the_cache_asks_for_texts(trained_export: Path, tmp_path: Path) -> None:
    with pytest.raises(IngotError, match="it calibrates on texts, and none was given"):
        quantize(trained_export, EIGHT, tmp_path / "out")


def _logits(folder: Path, ids: np.ndarray, bounds: list[int]) -> np.ndarray:
    """Of a text that is given in pieces, which end at `bounds`: [tokens, vocabulary]."""
    generation = genai.Model(folder).generation(len(ids) + 8)
    found = []
    for start, end in pairwise(bounds):
        generation.append(ids[start:end])
        found.append(generation.logits())
    return np.concatenate(found)

"""A graph that is made for a GPU and is broken: it is refused here, whether the CPU has kernels for it or not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import transformers
from onnx import ModelProto, NodeProto, TensorProto, helper

from scripts.common.errors import IngotError
from scripts.convert import on_cpu
from scripts.convert.check import check
from scripts.convert.quantize import quantize
from scripts.quality import compare
from scripts.quality.logits import GenaiModel
from scripts.quality.tally import Tally
from tests.families import checkpoints

DATA = "model.onnx.data"
#: What computes in float16 runs on the CPU; of what computes in bfloat16, it has no kernel, and is given float32.
KINDS: dict[str, dict[str, object]] = {
    "float16": {"precision": "int4"},
    "bfloat16": {"precision": "int4", "use_cuda_bf16": True},
}


@pytest.fixture(scope="module", params=KINDS)
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path, llama_export: Path
) -> Path:
    """A model for CUDA, by onnxruntime-genai's builder."""
    builder = {"type": "ModelBuilder", **KINDS[request.param]}
    workflow = {"input_model": {"type": "HfModel"}, "passes": {"builder": builder}}
    output = tmp_path_factory.mktemp("made") / "model"
    quantize(llama_export, {"target": "cuda", "olive": workflow}, output, tiny_llama)
    return output


@pytest.fixture(params=["as the CPU can", "as it is"])
def as_it_is(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """A mock, of a graph that can't be had in another form: so the CPU has no kernel for bfloat16."""
    if request.param == "as it is":
        monkeypatch.setattr(on_cpu, "graph_of", lambda _: None)
    return bool(request.param == "as it is")


def _node(model: ModelProto, kind: str) -> NodeProto:
    return next(node for node in model.graph.node if node.op_type == kind)


def _weight(model: ModelProto, *types: int) -> TensorProto:
    return next(one for one in model.graph.initializer if one.external_data and one.data_type in types)


def _at(tensor: TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _rewritten(folder: Path, change: Callable[[bytearray], object]) -> None:
    """The weights in a file of their own, for what was there may be a link."""
    content = bytearray((folder / DATA).read_bytes())
    change(content)
    (folder / DATA).unlink()
    (folder / DATA).write_bytes(content)


def cut_short(folder: Path, _: ModelProto) -> None:
    _rewritten(folder, lambda content: content.__delitem__(slice(len(content) // 2, None)))


def without_weights(folder: Path, _: ModelProto) -> None:
    (folder / DATA).unlink()


def weights_of_another(_: Path, model: ModelProto) -> None:
    for entry in _weight(model, TensorProto.UINT8).external_data:
        entry.value = "../model.onnx.data" if entry.key == "location" else entry.value


def beyond_the_end(_: Path, model: ModelProto) -> None:
    for entry in _weight(model, TensorProto.UINT8).external_data:
        entry.value = str(1 << 40) if entry.key == "offset" else entry.value


def scales_that_are_no_numbers(folder: Path, model: ModelProto) -> None:
    name = _node(model, "MatMulNBits").input[2]
    tensor = next(one for one in model.graph.initializer if one.name == name)
    start, kind = int(_at(tensor)["offset"]), helper.tensor_dtype_to_np_dtype(tensor.data_type)
    nan = np.full(4, np.nan, kind).tobytes()
    _rewritten(folder, lambda content: content.__setitem__(slice(start, start + len(nan)), nan))


def opset_of_the_future(_: Path, model: ModelProto) -> None:
    next(one for one in model.opset_import if not one.domain).version = 99


def opset_of_the_past(_: Path, model: ModelProto) -> None:
    next(one for one in model.opset_import if not one.domain).version = 9


def a_weight_gone(_: Path, model: ModelProto) -> None:
    del model.graph.initializer[5]


def unknown_operator(_: Path, model: ModelProto) -> None:
    _node(model, "GroupQueryAttention").op_type = "GroupQueryAttentions"


def unknown_domain(_: Path, model: ModelProto) -> None:
    _node(model, "GroupQueryAttention").domain = "com.nobody"


def without_an_attribute(_: Path, model: ModelProto) -> None:
    node = _node(model, "GroupQueryAttention")
    node.attribute.remove(next(one for one in node.attribute if one.name == "num_heads"))


def blocks_the_other_way(_: Path, model: ModelProto) -> None:
    name = _node(model, "MatMulNBits").input[1]
    dims = next(one for one in model.graph.initializer if one.name == name).dims
    dims[0], dims[1] = dims[1], dims[0]


def other_bits(_: Path, model: ModelProto) -> None:
    next(one for one in _node(model, "MatMulNBits").attribute if one.name == "bits").i = 8


def more_rows(_: Path, model: ModelProto) -> None:
    _weight(model, TensorProto.UINT8).dims[0] += 1


def another_type(_: Path, model: ModelProto) -> None:
    _weight(model, TensorProto.FLOAT16, TensorProto.BFLOAT16).data_type = TensorProto.FLOAT


def more_words(_: Path, model: ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_value += 3


def without_logits(_: Path, model: ModelProto) -> None:
    del model.graph.output[0]


def without_a_cache(_: Path, model: ModelProto) -> None:
    for node in model.graph.node:
        for names in (node.input, node.output):
            for at, name in enumerate(names):
                names[at] = name.replace("present.", "gone.")
    for value in model.graph.output:
        value.name = value.name.replace("present.", "gone.")


def empty(_: Path, model: ModelProto) -> None:
    model.Clear()


DAMAGES = [
    cut_short, without_weights, weights_of_another, beyond_the_end, scales_that_are_no_numbers, opset_of_the_future,
    opset_of_the_past, a_weight_gone, unknown_operator, unknown_domain, without_an_attribute, blocks_the_other_way,
    other_bits, more_rows, another_type, more_words, without_logits, without_a_cache, empty,
]  # fmt: skip


@pytest.mark.usefixtures("as_it_is")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_one_is_not_told_as_made_for_another_device(
    made: Path, tmp_path: Path, damage: Callable[[Path, ModelProto], None]
) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "model"))
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    damage(folder, model)
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(IngotError):
        check(folder, "cuda")


@pytest.mark.parametrize("content", [b"not a graph", b""])
def test_a_file_that_is_no_graph_is_named(made: Path, tmp_path: Path, content: bytes) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "model"))
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").write_bytes(content)
    with pytest.raises(IngotError, match=r"model\.onnx: is (not )?an ONNX "):
        check(folder, "cuda")


def test_a_sound_one_passes_and_what_was_not_run_is_said(
    made: Path, as_it_is: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    check(made, "cuda")
    lacks = compare._does_not_run(made, on_cpu.graph_of(made))
    assert (
        "generated 8 tokens" if lacks is None else "Could not find an implementation for"
    ) in capsys.readouterr().out
    assert as_it_is or lacks is None


@pytest.fixture(scope="module", params=[("qwen3", "fp16"), ("lfm2", "fp16"), ("gemma 3", "bf16")])
def normalising(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint, and what the builder makes of it for CUDA: its attention normalises queries and keys itself."""
    folder = tmp_path_factory.mktemp("normalising")
    family, precision = request.param
    checkpoint = checkpoints.make(family, folder / "checkpoint")
    workflow = {
        "input_model": {"type": "HfModel"},
        "passes": {"builder": {"type": "ModelBuilder", "precision": precision}},
    }
    quantize(folder, {"target": "cuda", "olive": workflow}, folder / "model", checkpoint)
    return checkpoint, folder / "model"


def _distance(folder: Path, checkpoint: Path) -> float:
    """KL from the checkpoint in transformers, of what the folder says on the CPU."""
    tokens = np.arange(3, 43, dtype=np.int32)
    q = np.concatenate(list(GenaiModel(folder, graph=on_cpu.graph_of(folder)).logits(tokens, 40)))
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    with torch.no_grad():
        p = model(torch.from_numpy(tokens.astype(np.int64))[None]).logits[0].numpy()
    tally = Tally()
    tally.add(p, q[:, : p.shape[1]], np.roll(tokens, -1))
    return float(tally.figures().kl or 0)


def test_attention_that_normalises_queries_and_keys_is_judged_on_the_cpu_by_what_it_means(
    normalising: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, model = normalising
    assert compare._does_not_run(model, None)
    check(model, "cuda")
    assert "generated 8 tokens, not for cuda" in capsys.readouterr().out
    right = _distance(model, checkpoint)
    assert 0 < right < 1e-3
    wrong = Path(shutil.copytree(model, tmp_path / "wrong"))
    graph = onnx.load(wrong / "model.onnx", load_external_data=False)
    node = _node(graph, "GroupQueryAttention")
    node.input[14], node.input[15] = node.input[15], node.input[14]
    (wrong / "model.onnx").unlink()
    (wrong / "model.onnx").write_bytes(graph.SerializeToString())
    assert _distance(wrong, checkpoint) > 5 * right

"""Every kind of number that a GGUF file can hold: read as the gguf package, llama.cpp's own, reads it.

Transformers de-quantises by code of its own, so that the two are independent.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from scripts.checkpoint.headers import BLOCKS
from tests.field.inputs import make, refusal
from tests.field.test_sources import gguf
from tests.field.test_weights import truth

#: Kinds that the package quantises, and those of which only blocks of random bits can be written here.
QUANTISED = ("F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "TQ1_0", "TQ2_0", "MXFP4")
RANDOM = (
    "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "IQ3_S", "IQ3_XXS", "IQ2_S", "IQ2_XS", "IQ2_XXS",
    "IQ1_S", "IQ1_M",
)  # fmt: skip
#: Where a block has its float16 scales, in bytes; 0 where it is not here. IQ1_M has its in four pieces.
SCALES = {"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}
Array = npt.NDArray[Any]


class Packer:
    """Packs matrices, and keeps what their blocks mean by what they were."""

    def __init__(self) -> None:
        self.meant: dict[bytes, torch.Tensor] = {}

    def __call__(self, value: Array, kind: Any) -> Array:
        import gguf as package

        packed = package.quantize(value, kind) if kind.name in QUANTISED else random_blocks(value.shape, kind)
        self.meant[value.tobytes()] = torch.from_numpy(package.dequantize(packed, kind).reshape(value.shape).copy())
        return packed


def random_blocks(shape: tuple[int, ...], kind: Any) -> Array:
    """Blocks of random bits with a scale that makes weights of a sane size of them."""
    import gguf as package

    elements, size = package.GGML_QUANT_SIZES[kind]
    blocks = np.random.default_rng(shape).integers(0, 256, (shape[0] * shape[1] // elements, size), dtype=np.uint8)
    if kind.name == "IQ1_M":
        blocks[:, [49, 51, 53]] &= 15
        blocks[:, 55] = blocks[:, 55] & 15 | 32  # 2 ** -7, in pieces of four bits
        return blocks.reshape(shape[0], -1)

    def scaled(number: float) -> Array:
        for place in SCALES.get(kind.name, (0,)):
            blocks[:, place : place + 2] = np.frombuffer(np.float16(number).tobytes(), np.uint8)
        return blocks.reshape(shape[0], -1)

    return scaled(0.05 / float(package.dequantize(scaled(1.0), kind).std()))


@pytest.mark.parametrize("kind", [*QUANTISED, *RANDOM])
def test_a_gguf_of_every_kind_is_read_as_its_own_package_reads_it(llama: Path, tmp_path: Path, kind: str) -> None:
    packer, model = Packer(), truth(llama)
    made = make(tmp_path / "out", gguf(tmp_path / "model.gguf", model, llama, kind, pack=packer)).model
    matrices = [(name, value) for name, value in model.state_dict().items() if value.ndim == 2]
    assert len(matrices) == len(packer.meant) > 10
    for name, value in matrices:
        meant = packer.meant[permuted(name, value.float().numpy(), model.config).tobytes()]
        got = torch.from_numpy(permuted(name, made.get_parameter(name).numpy(force=True), model.config))
        assert torch.allclose(got, meant, rtol=1e-6, atol=1e-7 * float(meant.abs().max())), name


def permuted(name: str, value: Array, config: Any) -> Array:
    """A matrix as llama.cpp has it: the two halves of a rotary pair side by side."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    count = next((count for part, count in heads.items() if part in name), None)
    if count:
        value = value.reshape(count, 2, -1, value.shape[1]).swapaxes(1, 2).reshape(value.shape)
    return np.ascontiguousarray(value)


def test_what_is_full_float_stays_so_to_the_last_bit(llama: Path, tmp_path: Path) -> None:
    made = make(tmp_path / "out", gguf(tmp_path / "model.gguf", truth(llama), llama)).model
    assert all(torch.equal(value, made.get_parameter(name)) for name, value in truth(llama).named_parameters())


def test_the_sizes_of_blocks_are_those_of_the_package() -> None:
    import gguf as package

    sizes = {int(kind): size for kind, size in package.GGML_QUANT_SIZES.items()}
    assert {kind: sizes[kind] for kind in BLOCKS} == BLOCKS
    assert {int(getattr(package.GGMLQuantizationType, kind)) for kind in (*QUANTISED, *RANDOM)} <= set(BLOCKS)


def test_a_kind_that_nobody_knows_is_refused_by_its_number(llama: Path, tmp_path: Path) -> None:
    path = gguf(tmp_path / "model.gguf", truth(llama), llama, "Q8_0")
    name = b"blk.0.ffn_up.weight"
    data = bytearray(path.read_bytes())
    at = data.index(name) + len(name) + 4 + 2 * 8
    assert data[at] == 8
    data[at] = 77
    path.write_bytes(data)
    assert "blk.0.ffn_up.weight is of the unknown type 77" in refusal(tmp_path / "out", path)


def test_a_ggufs_adapter_is_refused_as_what_it_is_wherever_it_is_named(llama: Path, tmp_path: Path) -> None:
    """As llama.cpp's convert_lora_to_gguf writes it."""
    import gguf as package

    path = tmp_path / "adapter.gguf"
    writer = package.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 8.0)
    writer.add_tensor("blk.0.attn_q.weight.lora_a", np.ones((4, 256), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert "an adapter as GGUF, not a model" in refusal(tmp_path / "out", path)
    assert "a GGUF file, not an adapter's folder" in refusal(tmp_path / "out", llama, path)

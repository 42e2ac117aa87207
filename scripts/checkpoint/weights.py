"""Is this folder, or GGUF file, a checkpoint that can be cast? Only JSON and the headers of weights files are read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.checkpoint.headers import Tensor, read_gguf, read_safetensors
from scripts.common.errors import IngotError
from scripts.common.model_files import INDEX, SERVED_TOKENIZER, holds_tokenizer
from scripts.families import supported

#: GGUF's `general.architecture` to the class that transformers reads it into, where the builder knows that class.
GGUF_ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "nemotron": "NemotronForCausalLM",
    "lfm2": "Lfm2ForCausalLM",
}
#: Tensor names of GGUF to those of Hugging Face, for matching adapters.
GGUF_NAMES = {
    "token_embd": "model.embed_tokens",
    "output": "lm_head",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Checkpoint:
    """Weights that passed: where they are, whose architecture, and every tensor by its Hugging Face name.

    `path` is a folder, or a GGUF file; `weights` are the files that hold tensors; `tied` says that the output head
    is the embedding.
    """

    path: Path
    architecture: str
    weights: tuple[Path, ...]
    tensors: dict[str, Tensor]
    tied: bool

    @property
    def parameters(self) -> int:
        """How many numbers the model has."""
        return sum(tensor.elements for tensor in self.tensors.values())


def check_source(path: Path) -> Checkpoint:
    """Look at a Hugging Face folder or a GGUF file and describe it.

    Raises `IngotError`, with the file and a remedy, for whatever would fail later: missing or damaged files, pickled
    weights, remote code, quantised weights, an architecture that the builder does not know.
    """
    if path.suffix == ".gguf":
        return _check_gguf(path)
    if not path.exists():
        raise IngotError(path, "weights folder not found", "Correct the path in `source`")
    if not path.is_dir():
        raise IngotError(path, "neither a folder nor a .gguf file", "Name the folder that holds config.json")
    config = json_object(path / "config.json", "Name the folder that holds the checkpoint")
    architecture = _check_config(path / "config.json", config)
    _check_tokenizer(path)
    weights, tensors = _check_weights(path)
    tied = bool(config.get("tie_word_embeddings", "lm_head.weight" not in tensors))
    _check_widths(path, config, tensors)
    return Checkpoint(path, architecture, weights, tensors, tied)


def _check_config(path: Path, config: dict[str, Any]) -> str:
    if config.get("auto_map") or config.get("trust_remote_code"):
        key = "auto_map" if config.get("auto_map") else "trust_remote_code"
        remedy = "Ingot never runs code out of a checkpoint; use one whose architecture transformers itself knows"
        raise IngotError(path, f"wants remote code ({key})", remedy)
    if config.get("quantization_config") and not supported.reads_quantised(config):
        method = config["quantization_config"].get("quant_method", "some method")
        raise IngotError(path, f"weights are already quantised ({method})", "Name the float checkpoint it was made of")
    return supported.check(path, config)


def _check_tokenizer(folder: Path) -> None:
    if not holds_tokenizer(folder):
        raise IngotError(folder, "no tokenizer (tokenizer.json)", "Copy the tokenizer files of the base model there")
    for name in SERVED_TOKENIZER:
        if (folder / name).exists():
            json_object(folder / name, "Copy it from the base model again")


def _check_weights(folder: Path) -> tuple[tuple[Path, ...], dict[str, Tensor]]:
    """The safetensors files in use, and what all of them hold."""
    index, single = folder / INDEX, folder / "model.safetensors"
    if single.exists() or not index.exists():
        if not single.exists():
            raise IngotError(folder, *_no_weights(folder))
        return (single,), _floats(single, read_safetensors(single))
    names = json_object(index, "Save the checkpoint again").get("weight_map")
    if not isinstance(names, dict) or not names:
        raise IngotError(index, "has no weight_map", "Save the checkpoint again")
    shards = sorted(set(names.values()))
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        if Path(shard).name != shard or not (folder / shard).exists():
            raise IngotError(folder / shard, f"shard is missing that {index.name} names", "Fetch it, or save again")
        tensors |= _floats(folder / shard, read_safetensors(folder / shard))
    if lost := sorted(set(names) - set(tensors)):
        found = f"names {len(lost)} tensors that no shard holds, {lost[0]} the first"
        raise IngotError(index, found, "Save the checkpoint again")
    return tuple(folder / shard for shard in shards), tensors


def _no_weights(folder: Path) -> tuple[str, str]:
    if pickled := sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES):
        remedy = 'Pickle can run code; save as safetensors: model.save_pretrained("FOLDER", safe_serialization=True)'
        return f"weights only as pickle ({pickled[0]})", remedy
    if (folder / "adapter_config.json").exists():
        return "an adapter, not a checkpoint", "Name its base model as `source` and this folder in `adapters`"
    return "no weights (model.safetensors)", "Name the folder that holds the checkpoint"


def _floats(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for name, tensor in tensors.items():
        if name.endswith(".weight") and tensor.dtype not in FLOATS:
            found = f"weights are already quantised ({name} is {tensor.dtype})"
            raise IngotError(path, found, "Name the float checkpoint it was made of")
    return tensors


def _check_widths(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Builder 0.18 takes every linear layer with as many outputs as there are tokens for the output head."""
    vocabulary = supported.text_config(config).get("vocab_size")
    for name, tensor in tensors.items():
        head = "embed" in name or "lm_head" in name
        if not head and len(tensor.shape) == 2 and tensor.shape[0] == vocabulary:
            found = f"{name} has as many outputs as the vocabulary, {vocabulary}: the builder would mistake it"
            raise IngotError(folder, found, "Pad the vocabulary: model.resize_token_embeddings(…)")


def _check_gguf(path: Path) -> Checkpoint:
    file = read_gguf(path)
    kind = file.metadata.get("general.architecture")
    architecture = GGUF_ARCHITECTURES.get(str(kind))
    if architecture is None or file.metadata.get(f"{kind}.expert_count"):
        experts = "" if architecture is None else " with experts"
        raise IngotError(path, f"unsupported GGUF architecture {kind}{experts}", _supported(GGUF_ARCHITECTURES))
    if file.metadata.get("split.count", 1) > 1:
        raise IngotError(path, "one part of a split GGUF", "Join them: llama-gguf-split --merge FIRST OUTPUT")
    if not file.metadata.get("tokenizer.ggml.tokens"):
        raise IngotError(path, "no tokenizer in the GGUF", "Convert the model again with its tokenizer")
    tensors = {_gguf_name(name, architecture): tensor for name, tensor in file.tensors.items()}
    return Checkpoint(path, architecture, (path,), tensors, tied="lm_head.weight" not in tensors)


def _gguf_name(name: str, architecture: str) -> str:
    """The Hugging Face name of a GGUF tensor; itself where it has none here (norms, which no adapter touches)."""
    layer, _, rest = name.removeprefix("blk.").partition(".") if name.startswith("blk.") else ("", "", name)
    part, _, kind = rest.rpartition(".")
    if part == "ffn_up" and architecture == "Phi3ForCausalLM":
        part = "ffn_gate_up"
    known = {**GGUF_NAMES, "ffn_gate_up": "mlp.gate_up_proj"}.get(part)
    if known is None:
        return name
    return f"model.layers.{layer}.{known}.{kind}" if layer else f"{known}.{kind}"


def json_object(path: Path, remedy: str) -> dict[str, Any]:
    if not path.is_file():
        raise IngotError(path, "not found", remedy)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise IngotError(path, f"not JSON: {error}", remedy) from None
    if not isinstance(value, dict):
        raise IngotError(path, f"a JSON {type(value).__name__} where an object is due", remedy)
    return value


def _supported(names: Iterable[str]) -> str:
    return f"Builder 0.18 converts: {', '.join(sorted(names))}"

"""Is this folder, or GGUF file, a checkpoint that can be cast? Only JSON and the headers of weights files are read."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.checkpoint import contained
from scripts.checkpoint.headers import BLOCKS, Tensor, read_gguf
from scripts.checkpoint.layout import AN_ADAPTER, find_weights
from scripts.checkpoint.packed import FLOAT_REMEDY
from scripts.checkpoint.pieces import check_kind
from scripts.checkpoint.plausible import check_gguf, check_layers, check_sizes, text_settings
from scripts.checkpoint.quantised import Quantised, find_packed
from scripts.checkpoint.user_json import json_object
from scripts.common.errors import IngotError
from scripts.common.model_files import (
    MODEL_FOLDERS,
    SERVED_TOKENIZER,
    TOKENIZER_FOLDERS,
    holds_tokenizer,
    is_legal_file,
    is_model_file,
)
from scripts.families import supported
from scripts.results.remarks import Remark

#: GGUF's `general.architecture` to the class that transformers reads it into, where the builder knows that class.
GGUF_ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3": "Gemma3ForCausalLM",
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
_COPY = "Copy it from the base model again"
#: How far, and at how many folders of a level, is looked for what was meant.
_LEVELS, _FOLDERS = 4, 100
FLOATS = ("F64", "F32", "F16", "BF16")
#: What quantised weights leave in the names of tensors, and whose they are.
_QUANTISED = {
    r"\.(qweight|qzeros|g_idx)": "GPTQ or AWQ",
    r"\.weight_(packed|shape)": "compressed-tensors",
    r"\.(absmax|SCB|quant_map|quant_state\..+)": "bitsandbytes",
    r"\.weight_scale(_inv)?": "fp8",
    r"\.(compressed|bitmask|row_offsets)": "compressed-tensors, sparse",
    r"_proj_(blocks|scales)": "MXFP4",
}


@dataclass(frozen=True)
class Checkpoint:
    """Weights that passed: where they are, whose architecture, and every tensor by its name in the files.

    `path` is a folder, or a GGUF file; `weights` are the files that hold tensors, `places` which of them holds which;
    `index` is the index that came with them. `tokenizer` is the folder with the tokenizer's files; `tied` says that the
    output head is the embedding. `quantised` says what `tensors` are made of, where the files hold them packed.
    """

    path: Path
    architecture: str
    weights: tuple[Path, ...]
    tensors: dict[str, Tensor]
    tied: bool
    tokenizer: Path
    config: dict[str, Any] = field(default_factory=dict)
    places: dict[str, Path] = field(default_factory=dict)
    index: Path | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    remarks: tuple[Remark, ...] = ()
    quantised: Quantised | None = None

    @property
    def is_packed(self) -> bool:
        """Whether its weights must be written anew to be floats: out of a GGUF, or quantised."""
        return self.path.is_file() or bool(self.quantised and self.quantised.packed)

    @property
    def parameters(self) -> int:
        """How many numbers the model has."""
        return sum(tensor.elements for tensor in self.tensors.values())

    @property
    def largest(self) -> int:
        """How many numbers its largest tensor has."""
        return max(tensor.elements for tensor in self.tensors.values())


def check_source(path: Path) -> Checkpoint:
    """Look at a Hugging Face folder or a GGUF file and describe it.

    Raises `IngotError`, with the file and a remedy, for whatever would fail later: missing or damaged files, pickled
    weights, remote code, quantised weights, an architecture that the builder does not know, sizes that no model has.
    """
    if path.suffix == ".gguf":
        return _check_gguf(path)
    if not path.exists():
        raise IngotError(path, "weights folder not found", "Correct the path in `source`")
    if not path.is_dir():
        raise IngotError(path, "neither a folder nor a .gguf file", "Name the folder that holds config.json")
    folder = model_folder(path)
    contained.check(path, is_model_file)
    config = json_object(folder / "config.json", "Name the folder that holds the checkpoint")
    architecture = _check_config(folder / "config.json", config)
    tokenizer = _find_tokenizer(path, folder)
    layout = find_weights(folder)
    tensors, places, packed = layout.tensors, layout.places, None
    if not supported.reads_quantised(config):
        packed = find_packed(folder / "config.json", config, layout)
        tensors, places = (packed.tensors, packed.places()) if packed else (tensors, places)
        for name, tensor in tensors.items():
            _check_tensor(places[name], name, tensor)
    check_layers(folder / "config.json", config, tensors)
    tied = bool(text_settings(config).get("tie_word_embeddings", "lm_head.weight" not in tensors))
    nested = () if folder == path else (Remark(str(folder.relative_to(path)), "taken as the model's folder"),)
    return Checkpoint(
        folder, architecture, layout.files, tensors, tied, tokenizer, config, places, layout.index,
        remarks=(*nested, *layout.remarks, *(packed.remarks() if packed else ())), quantised=packed,
    )  # fmt: skip


def model_folder(path: Path) -> Path:
    """The folder that holds config.json: `path`, or where MLflow, Azure ML and Olive put the model below it."""
    if (path / "config.json").is_file():
        return path
    for name in MODEL_FOLDERS:
        if (path / name / "config.json").is_file():
            return path / name
    if last := trainer_checkpoints(path, "config.json"):
        found = f"no config.json, but a trainer's checkpoints ({', '.join(found.name for found in last[-3:])})"
        raise IngotError(path, found, f"Name one of them as `source`, the last one is {last[-1]}")
    if (path / "adapter_config.json").is_file():
        raise IngotError(path, *AN_ADAPTER)
    if packed := sorted(path.glob("*.gguf")):
        found = f"no config.json, but {', '.join(file.name for file in packed[:3])}"
        raise IngotError(path, found, f'Name the file: source = {{ gguf = "{packed[0]}" }}')
    if below := find_below(path, "config.json"):
        raise IngotError(path, "no config.json", f"Name the folder that holds it: {below}")
    return path


def find_below(path: Path, name: str) -> Path | None:
    """The only folder, up to four levels below `path`, that has a file `name`, or a job's folder around that.

    None where there is none, or more than one.
    """
    found: list[Path] = []
    level = [path]
    for _ in range(_LEVELS):
        level = [entry for folder in level for entry in _folders(folder)][:_FOLDERS]
        found += [folder for folder in level if _is_file(folder / name)]
    if len(found) != 1:
        return None
    around = [folder for folder in found[0].parents if any(folder / part == found[0] for part in MODEL_FOLDERS)]
    return around[-1] if around else found[0]  # where the tokenizer may lie too


def _folders(path: Path) -> list[Path]:
    """The folders in a folder; none where it is not for us to read, as `lost+found`."""
    with contextlib.suppress(OSError):
        return [entry for entry in sorted(path.iterdir()) if entry.is_dir()]
    return []


def _is_file(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return path.is_file()
    return False


def trainer_checkpoints(path: Path, name: str) -> list[Path]:
    """A trainer's checkpoint-N folders that hold a file `name`, by number."""
    found = [folder for folder in path.glob("checkpoint-*") if (folder / name).is_file()]
    return sorted(
        (folder for folder in found if folder.name.partition("-")[2].isdecimal()),
        key=lambda folder: int(folder.name.partition("-")[2]),
    )


def _check_config(path: Path, config: dict[str, Any]) -> str:
    _refuse_code(path, config)
    if config.get("transformers_weights"):
        found = f"names a weights file of its own ({config['transformers_weights']!r})"
        raise IngotError(path, found, "Call that file model.safetensors and remove the key transformers_weights")
    check_sizes(path, config)
    return supported.check(path, config)


def _refuse_code(path: Path, config: dict[str, Any]) -> None:
    """Code of a checkpoint's own is never run; one that was published with code for a class of transformers needs none.

    Such is Phi-3's: its `auto_map` names the very class that `architectures` does.
    """
    mapped = config.get("auto_map")
    pairs = mapped.items() if isinstance(mapped, dict) else [("Model", None)]
    names = {str(name).rpartition(".")[2] for key, name in pairs if "Model" in key}
    own = config.get("architectures")
    if (mapped and not (isinstance(own, list) and names <= {str(name) for name in own})) or config.get(
        "trust_remote_code"
    ):
        key = "auto_map" if mapped else "trust_remote_code"
        remedy = "Ingot never runs code out of a checkpoint; use one whose architecture transformers itself knows"
        raise IngotError(path, f"wants remote code ({key})", remedy)


def _find_tokenizer(path: Path, folder: Path) -> Path:
    nested = [] if folder == path else [path / name for name in (".", *TOKENIZER_FOLDERS)]
    for place in (folder, *nested):
        if holds_tokenizer(place):
            for name in SERVED_TOKENIZER:
                if (place / name).exists():
                    check_kind(place / name, json_object(place / name, _COPY))
            for name in ("special_tokens_map.json", "added_tokens.json"):
                if (place / name).is_file():
                    json_object(place / name, f"{_COPY}, or remove it")
            return place
    raise IngotError(folder, "no tokenizer (tokenizer.json)", "Copy the tokenizer files of the base model there")


def _check_tensor(path: Path, name: str, tensor: Tensor) -> None:
    if 0 in tensor.shape:
        found = f"{name} is empty {list(tensor.shape)}, as DeepSpeed's ZeRO-3 leaves what it had spread over GPUs"
        remedy = "Gather the weights: python zero_to_fp32.py CHECKPOINT OUTPUT --safe_serialization"
        raise IngotError(path, found, remedy)
    method = next((method for mark, method in _QUANTISED.items() if re.search(mark + "$", name)), None)
    if method or (name.endswith(".weight") and tensor.dtype not in FLOATS):
        found = f"weights are already quantised ({name} is {tensor.dtype}{f', {method}' if method else ''})"
        raise IngotError(path, found, FLOAT_REMEDY)


def _check_gguf(path: Path) -> Checkpoint:
    file = read_gguf(path)
    contained.check(path.parent, is_legal_file)
    if file.metadata.get("general.type", "model") != "model" or any(".lora_" in name for name in file.tensors):
        found = f"{_shown(file.metadata.get('general.type', 'adapter'))} as GGUF, not a model"
        raise IngotError(path, found, "Name the model's own file; an adapter is merged from the folder that peft wrote")
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
    for name, tensor in tensors.items():
        if int(tensor.dtype) not in BLOCKS:
            found = f"{name} is of GGML's type {tensor.dtype}, which is not read"
            raise IngotError(path, found, "Convert the model again, to one of the usual types (Q8_0, Q4_K_M, F16)")
    check_gguf(path, file.metadata, tensors)
    tied = "lm_head.weight" not in tensors
    return Checkpoint(path, architecture, (path,), tensors, tied, path.parent, metadata=file.metadata)


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


def _shown(kind: object) -> str:
    return f"an {kind}" if kind == "adapter" else f"a file of type {str(kind)[:40]!r}"


def _supported(names: Iterable[str]) -> str:
    return f"Builder 0.18 converts: {', '.join(sorted(names))}"

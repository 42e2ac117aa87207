"""Which files of a folder make up a model, told by their names alone: the one list that every stage goes by.

The names are those that transformers' `save_pretrained` writes, and those that it reads. They stand directly in the
folder or, as MLflow, Azure ML and Olive write their outputs, in a few folders below it. What a trainer leaves beside
them (optimizer.pt, scheduler.pt, rng_state_0.pth, training_args.bin, trainer_state.json, checkpoint-500/,
global_step500/, runs/, a link to the latest) is not part of a model, and neither are pickled weights (which can run
code) nor Python files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from pathlib import Path

#: A converted model: the graph, and its weights beside it.
GRAPH, GRAPH_DATA = "model.onnx", "model.onnx.data"
INDEX = "model.safetensors.index.json"
CONFIGS = ("config.json", "generation_config.json", "*processor_config.json")
CHAT_TEMPLATES = ("chat_template.json", "chat_template.jinja")
#: What SentencePiece itself writes.
SENTENCEPIECE = ("tokenizer.model", "spiece.model")
TOKENIZER = (
    "tokenizer*.json",
    *SENTENCEPIECE,
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    *CHAT_TEMPLATES,
)
LEGAL = ("LICENSE*", "LICENCE*", "COPYING*", "NOTICE*", "USE_POLICY*")
#: A model's card.
CARD = "README.md"
#: What is told of a model, to people and to catalogs: nothing that it computes with.
CARD_FILES = (*LEGAL, CARD, "inference_model.json", "remarks.json")
#: What is told of how a model was made: CycloneDX names its files so, and in-toto's statement is unsigned.
BOM, STATEMENT = "bom.cdx.json", "provenance.intoto.json"
#: What goes with the weights wherever they go.
COMPANIONS = (*CONFIGS, *TOKENIZER, *LEGAL)
WEIGHTS = ("*.safetensors",)
#: What the runtime that serves reads of a tokenizer: a fast one.
SERVED_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
#: The class that reads a tokenizer.json as it is written, for transformers and the runtime alike.
AS_WRITTEN = "PreTrainedTokenizerFast"
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")

#: Weights of something else: an adapter in its base's folder, an optimizer's state.
_OTHER_WEIGHTS = ("adapter_*", "optimizer*", "scheduler*", "rng_state*", "random_states*", "training_*")
#: Any one of these sets is a tokenizer's vocabulary.
_VOCABULARIES = (("tokenizer.json",), *((name,) for name in SENTENCEPIECE), ("vocab.json", "merges.txt"))


#: Where a job's output folder has the model, its tokenizer and an adapter, if not directly in it.
MODEL_FOLDERS = ("model", "data/model")
TOKENIZER_FOLDERS = ("components/tokenizer", "tokenizer", "data/tokenizer")
ADAPTER_FOLDERS = ("adapter", "peft")
#: Chat templates by name, as *.jinja.
TEMPLATES = "additional_chat_templates"
#: Files in which older tools say what config.json does not, that the weights are quantised; and by which method.
QUANTISED = {"quantize_config.json": "gptq", "quant_config.json": "awq"}


def is_weight_file(name: str) -> bool:
    """Whether a file of this name holds a model's tensors; an index decides which of several are in use."""
    return _fits(name, WEIGHTS) and not _fits(name, _OTHER_WEIGHTS)


def is_tokenizer_file(name: str) -> bool:
    """Whether a file of this name belongs to a tokenizer, its chat template included."""
    return _fits(name, TOKENIZER)


def is_legal_file(name: str) -> bool:
    """Whether a file of this name states a licence or terms of use."""
    return _fits(name, LEGAL)


def is_card_file(name: str) -> bool:
    """Whether a file of this name only tells of a model."""
    return _fits(name, CARD_FILES)


def is_companion(name: str) -> bool:
    """Whether a file of this name goes with the weights: configuration, tokenizer, licence."""
    return _fits(name, COMPANIONS)


def is_model_file(name: str) -> bool:
    """Whether a file of this name, relative to its folder, is part of a model: weights, their index, companions.

    Of a folder, whose name ends with a slash: whether a part of a model may lie in there.
    """
    return _belongs(name, _is_model_part, (*MODEL_FOLDERS, *TOKENIZER_FOLDERS))


def is_adapter_file(name: str) -> bool:
    """Whether a file, or a folder, of this name is part of a LoRA adapter, its own tokenizer and templates included."""
    return _belongs(name, _is_adapter_part, ADAPTER_FOLDERS)


def is_documented_model_file(name: str) -> bool:
    """`is_model_file`, and the model's own card."""
    return name == CARD or is_model_file(name)


def is_documented_adapter_file(name: str) -> bool:
    """`is_adapter_file`, and the adapter's own card and licence."""
    return name == CARD or is_legal_file(name) or is_adapter_file(name)


def _is_model_part(name: str) -> bool:
    return name in (INDEX, *QUANTISED) or is_weight_file(name) or is_companion(name)


def _is_adapter_part(name: str) -> bool:
    return _fits(name, ADAPTER) or is_tokenizer_file(name)


def _belongs(name: str, part: Callable[[str], bool], nested: Iterable[str]) -> bool:
    folders = ["", *(f"{folder}/" for folder in nested)]
    folders += [f"{folder}{TEMPLATES}/" for folder in folders]
    if name.endswith("/"):
        return any(folder.startswith(name) for folder in folders)
    place, _, file = f"/{name}".rpartition("/")
    place = f"{place.removeprefix('/')}/" if place else ""
    if place.endswith(f"{TEMPLATES}/"):
        return place in folders and file.endswith(".jinja")
    return place in folders and part(file)


def holds_tokenizer(folder: Path) -> bool:
    """Whether a folder has a tokenizer's vocabulary, in any form that transformers reads."""
    return any(all((folder / name).is_file() for name in names) for names in _VOCABULARIES)


def files_in(folder: Path, belongs: Callable[[str], bool] = is_model_file) -> list[Path]:
    """The files directly in `folder` whose names say that they belong, by name; a dangling link is not a file."""
    return sorted(path for path in folder.iterdir() if belongs(path.name) and path.is_file())


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return "/" not in name and "\\" not in name and any(fnmatchcase(name, pattern) for pattern in patterns)

"""The Olive pass `MobiusBuilder`: a checkpoint to float ONNX by mobius-onnx 0.1.0, for families that the builder lacks.

Mobius constructs the graph in the builder's manner (GroupQueryAttention with the rotary embedding in it) and ends well
for whatever it has a class for. Beside the bridges of `mobius_bridges.py`:
- a tensor of the checkpoint that finds no place in the graph is an error here, and a log line there;
- nodes get names that tell their weight, for the patterns of recipes; a tied head stays one table, as the builder
  leaves it, where mobius stores it twice;
- genai_config.json names `llama` as the type, a decoder that onnxruntime-genai knows, where mobius writes the family's.

Importing this module imports Olive; mobius is imported when the pass runs.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from olive.model import HfModelHandler, ONNXModelHandler
from olive.model.utils import resolve_onnx_path
from olive.passes import Pass
from olive.passes.olive_pass import PassConfigParam

from scripts.checkpoint.foreign import only_own
from scripts.checkpoint.layout import find_weights
from scripts.common import json_files
from scripts.common.errors import IngotError
from scripts.common.imports import uncollected
from scripts.common.model_files import GRAPH, GRAPH_DATA
from scripts.convert import mobius_bridges as bridges
from scripts.convert.pass_options import parameters
from scripts.definitions import passes as definitions

#: Tensors that checkpoints hold and no model has a use for.
_BUFFERS = re.compile(r"(?:^|\.)(?:inv_freq|masked_bias|attn\.bias|attention\.bias)$")
_REMEDY = "Leave `exporter` out if the builder makes this family too, else take a model of another family"


class MobiusBuilder(Pass):  # type: ignore[misc]
    """Builds a float ONNX GenAI folder from a Hugging Face checkpoint."""

    @classmethod
    def _default_config(cls, accelerator_spec: Any) -> dict[str, PassConfigParam]:  # noqa: ARG003
        return parameters(definitions.MobiusBuilder)

    def _run_for_config(self, model: Any, config: Any, output_model_path: str) -> ONNXModelHandler:  # noqa: ARG002
        if not isinstance(model, HfModelHandler):
            found = "its input is not a Hugging Face checkpoint"
            raise IngotError("pass MobiusBuilder", found, "Make it the first pass")
        folder = Path(resolve_onnx_path(output_model_path)).parent
        build(Path(model.model_name_or_path), folder)
        extra = sorted(str(path) for path in folder.iterdir() if path.name not in (GRAPH, GRAPH_DATA))
        return ONNXModelHandler(str(folder), onnx_file_name=GRAPH, model_attributes={"additional_files": extra})


def build(checkpoint: Path, folder: Path) -> None:
    """Run mobius: `checkpoint` → float32 ONNX GenAI files in `folder`.

    Raises `IngotError` where the checkpoint and the graph do not hold the same tensors.
    """
    with uncollected():
        import transformers
        from mobius import build_from_module, registry
        from mobius._config_resolver import _config_from_hf
        from onnx_ir import DataType
    config = transformers.AutoConfig.from_pretrained(checkpoint, local_files_only=True)
    kind = getattr(transformers, config.architectures[0])
    config = only_own(config, kind)  # mobius asks any config for the keys of all families
    fitting = bridges.for_config(config)
    print(f"mobius: bridges for {', '.join(bridge.name for bridge in fitting) or 'nothing'}", flush=True)
    settings = {key: value for bridge in fitting for key, value in bridge.settings.items()}
    # Each class ties in its own way, some in none: they are given two tables, and tied for all alike in the end.
    described = dataclasses.replace(
        _config_from_hf(config), dtype=DataType.FLOAT, tie_word_embeddings=False, **settings
    )
    module = registry.get(config.model_type)(described)
    package = build_from_module(module, described, execution_provider="cpu")
    graph = package["model"].graph
    tied = kind._tied_weights_keys if config.tie_word_embeddings else {}
    package.apply_weights(_weights(checkpoint, tied, module, graph, fitting))
    for bridge in fitting:
        bridge.adjust(graph, config)
    _tie(graph)
    _name_nodes(graph)
    folder.mkdir(parents=True, exist_ok=True)
    package.save(str(folder), progress_bar=False)
    json_files.write(folder / "genai_config.json", _settings(checkpoint, folder, config, graph))


def _weights(
    checkpoint: Path, tied: dict[str, str], module: Any, graph: Any, fitting: tuple[bridges.Bridge, ...]
) -> dict[str, Any]:
    """The checkpoint's tensors under the graph's names, mapped from their files; `tied`: name → which one it is too."""
    from safetensors.torch import load_file

    weights: dict[str, Any] = {}
    for file in find_weights(checkpoint).files:
        weights |= load_file(file)
    weights = {name: value for name, value in weights.items() if not _BUFFERS.search(name)}
    weights |= {name: weights[other] for name, other in tied.items() if name not in weights and other in weights}
    weights = module.preprocess_weights(weights)
    for bridge in fitting:
        bridge.weights(weights, graph)
    homeless = sorted(name for name in weights if name not in graph.initializers)
    lacking = sorted(
        name for name, value in graph.initializers.items() if value.const_value is None and name not in weights
    )
    for names, what in ((homeless, "has no place in mobius' graph"), (lacking, "is wanted by mobius' graph")):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise IngotError(f"{checkpoint}: {names[0]}{more}", what, _REMEDY)
    return weights


def _tie(graph: Any) -> None:
    """Have the embedding read the output head, transposed, where the two are the same, as in the builder's graphs."""
    import numpy as np
    import onnx_ir

    [gather] = [node for node in graph if node.op_type == "Gather" and node.inputs[1] is graph.inputs[0]]
    table = gather.inputs[0]
    for node in graph:
        head = node.inputs[1] if node.op_type == "MatMul" else None
        if head is None or head.const_value is None or list(head.shape) != list(reversed(table.shape)):
            continue
        if not np.array_equal(head.const_value.numpy(), table.const_value.numpy().T):
            continue
        tied = onnx_ir.node("Transpose", [head], attributes={"perm": [1, 0]}, name="/model/embed_tokens/Transpose")
        tied.outputs[0].name = "/model/embed_tokens/Transpose/output_0"
        graph.insert_before(gather, tied)
        gather.replace_input_with(0, tied.outputs[0])
        graph.initializers.pop(table.name)
        return


def _name_nodes(graph: Any) -> None:
    """Name every MatMul for its weight, as `/model/layers/0/self_attn/v_proj/MatMul`, and each node for itself."""
    taken: set[str] = set()
    for number, node in enumerate(graph):
        weight = node.inputs[1] if node.op_type == "MatMul" else None
        name = weight.name if weight is not None and weight.const_value is not None else ""
        if "q_proj" in name and "v_proj" in name:  # the three in one
            name = f"{name.partition('q_proj')[0]}qkv_proj.weight"
        stem = re.sub(r"\.weight(_t)?$", "", name).replace(".", "/")
        name = f"/{stem}/MatMul"
        if name in taken:  # one matrix may be read twice
            name += f"_{number}"
        taken.add(name)
        node.name = name if stem else f"/node_{number}/{node.op_type}"


def _settings(checkpoint: Path, folder: Path, config: Any, graph: Any) -> dict[str, Any]:
    """genai_config.json; writes the tokenizer's files too."""
    import transformers

    context = bridges.context(config)
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
    tokenizer.model_max_length = context
    tokenizer.save_pretrained(folder)
    said = checkpoint / "generation_config.json"
    search = json_files.read(said) if said.is_file() else {}
    begin, ends, pad = _tokens(checkpoint, search, config, tokenizer)
    return {
        "model": {
            "bos_token_id": begin,
            "context_length": context,
            "decoder": _decoder(config, graph),
            "eos_token_id": ends,
            "pad_token_id": pad,
            "type": "llama",
            "vocab_size": graph.outputs[0].shape[2],
        },
        "search": {
            "diversity_penalty": 0.0,
            "do_sample": bool(search.get("do_sample", False)),
            "early_stopping": True,
            "length_penalty": 1.0,
            "max_length": context,
            "min_length": 0,
            "no_repeat_ngram_size": 0,
            "num_beams": 1,
            "num_return_sequences": 1,
            "past_present_share_buffer": True,
            "repetition_penalty": search.get("repetition_penalty") or 1.0,
            "temperature": search.get("temperature") or 1.0,
            "top_k": search.get("top_k") or 50,
            "top_p": search.get("top_p") or 1.0,
        },
    }


def _tokens(checkpoint: Path, search: dict[str, Any], config: Any, tokenizer: Any) -> tuple[Any, Any, Any]:
    """The ids that begin, end and fill: of the generation config, else of the config, else of the tokenizer."""

    def token(name: str) -> Any:
        return next((at for at in (search.get(name), getattr(config, name, None), getattr(tokenizer, name, None))
                     if at is not None), None)  # fmt: skip

    ends = token("eos_token_id")
    if ends is None:
        raise IngotError(checkpoint, "names no eos_token_id", "Add it to config.json: without it no answer ends")
    ends = list(ends) if isinstance(ends, list) else [ends]
    if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in ends:
        ends = [tokenizer.eos_token_id, *ends]
    begin, pad = token("bos_token_id"), token("pad_token_id")
    return (
        ends[0] if begin is None else begin,
        ends if len(ends) > 1 else ends[0],
        ends[0] if pad is None else pad,
    )


def _decoder(config: Any, graph: Any) -> dict[str, Any]:
    """The graph's inputs, outputs and shape."""
    caches = [value for value in graph.inputs if value.name.endswith(".key")]
    _, heads, _, size = caches[0].shape
    inputs = {value.name: value.name for value in graph.inputs if not value.name.startswith("past_key_values.")}
    return {
        "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
        "filename": GRAPH,
        "head_size": size,
        "hidden_size": config.hidden_size,
        "inputs": {
            **inputs,
            "past_key_names": "past_key_values.%d.key",
            "past_value_names": "past_key_values.%d.value",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
        "num_attention_heads": config.num_attention_heads,
        "num_hidden_layers": len(caches),
        "num_key_value_heads": heads,
    }

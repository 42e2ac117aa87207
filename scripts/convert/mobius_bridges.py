"""Bridges around mobius-onnx 0.1.0: where it ends well and writes a wrong model of a family, or stops at one.

A bridge changes mobius' own settings before its module is made (`settings`), the weights (`weights`), or the graph
before it is written (`adjust`). Each says what it mends, for whom, what is wrong upstream, and when it can go; a test
fails where one of them no longer changes what is built. What comes out is judged against transformers like all else.

Importing this module imports neither mobius nor torch. `config` is always a text config of transformers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from scripts.convert import rotary
from scripts.convert.rotary import architecture

#: JetMoeRMSNorm's own, in transformers' modeling_jetmoe.py: its layers are not given the config's.
_JETMOE_EPSILON = 1e-6


def _nothing(*_: Any) -> None: ...


@dataclass(frozen=True)
class Bridge:
    """One bridge; `fits` says for which config."""

    name: str
    mends: str
    fault: str
    until: str
    fits: Callable[[Any], bool]
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: Callable[[dict[str, Any], Any], None] = _nothing
    adjust: Callable[[Any, Any], None] = _nothing


def for_config(config: Any) -> tuple[Bridge, ...]:
    """The bridges of a config."""
    return tuple(bridge for bridge in BRIDGES if bridge.fits(config))


def context(config: Any) -> int:
    """How many tokens the model is made for: where LongRoPE would switch tables, the context ends."""
    if "longrope" in rotary.kinds(config):
        return rotary.original_context(config)
    return int(config.max_position_embeddings)


def attentions(graph: Any) -> Iterator[tuple[int, Any]]:
    """The attention nodes of a graph of onnx-ir, each with the number of its layer, which its cache's name tells."""
    for node in graph:
        if node.op_type == "GroupQueryAttention":
            yield int(node.outputs[1].name.split(".")[1]), node


def _is(*names: str) -> Callable[[Any], bool]:
    return lambda config: architecture(config) in names


def _window(config: Any) -> int:
    if getattr(config, "use_sliding_window", True) is False:
        return 0
    return int(getattr(config, "sliding_window", None) or 0)


def _kinds(config: Any) -> list[str]:
    """The kind of each layer; a window without them is every layer's."""
    return list(getattr(config, "layer_types", None) or ["sliding_attention"] * config.num_hidden_layers)


def _fix_epsilons(graph: Any, config: Any) -> None:  # noqa: ARG001
    """Give every norm but the last, that before the output head, JetMoE's fixed epsilon."""
    import onnx_ir

    for node in [node for node in graph if "epsilon" in node.attributes][:-1]:
        node.attributes["epsilon"] = onnx_ir.AttrFloat32("epsilon", _JETMOE_EPSILON)


def _set_windows(graph: Any, config: Any) -> None:
    import onnx_ir

    kinds = _kinds(config)
    for layer, node in attentions(graph):
        node.attributes.pop("local_window_size", None)
        if kinds[layer] == "sliding_attention":
            node.attributes["local_window_size"] = onnx_ir.AttrInt64("local_window_size", _window(config))


def _drop_positions(graph: Any, config: Any) -> None:
    import onnx_ir

    kinds = _kinds(config)
    for layer, node in attentions(graph):
        if kinds[layer] != "sliding_attention":
            node.attributes["do_rotary"] = onnx_ir.AttrInt64("do_rotary", 0)
            for place in (7, 8):
                node.replace_input_with(place, None)


def _set_tables(graph: Any, config: Any) -> None:
    """Give every attention cos and sin [positions, rotary dimensions / 2] as transformers computes them."""
    nested = any(isinstance(table, dict) for table in rotary.parameters(config).values())
    kinds = _kinds(config) if nested else [None] * config.num_hidden_layers
    made: dict[str | None, tuple[Any, Any]] = {}
    for layer, node in attentions(graph):
        kind = kinds[layer]
        if kind not in made:
            made[kind] = _tables(graph, config, kind)
        for place, value in zip((7, 8), made[kind], strict=True):
            node.replace_input_with(place, value)


def _tables(graph: Any, config: Any, kind: str | None) -> tuple[Any, Any]:
    import onnx_ir
    import torch

    frequencies, scaling = rotary.inverse_frequencies(copy.deepcopy(config), kind)
    if config.model_type == "phimoe":  # it states the factor, and transformers takes that
        scaling = float(rotary.parameters(config).get("short_mscale", scaling))
    angles = torch.outer(torch.arange(context(config), dtype=torch.int64).float(), frequencies)
    values = []
    for name, table in (("cos", angles.cos()), ("sin", angles.sin())):
        tensor = onnx_ir.tensor((table * scaling).numpy(), name=f"{name}_cache" + (f"_{kind}" if kind else ""))
        value = onnx_ir.Value(
            name=tensor.name, shape=tensor.shape, type=onnx_ir.TensorType(tensor.dtype), const_value=tensor
        )
        graph.register_initializer(value)
        values.append(value)
    return values[0], values[1]


def _wants_tables(config: Any) -> bool:
    rope = rotary.parameters(config)
    nested = any(isinstance(table, dict) for table in rope.values())
    return nested or "attention_factor" in rope or bool(rotary.kinds(config) & {"dynamic", "longrope"})


def _zero_biases(weights: dict[str, Any], graph: Any) -> None:
    import torch

    for name, value in graph.initializers.items():
        if name.endswith(".bias") and value.const_value is None and name not in weights:
            weights[name] = torch.zeros(list(value.shape))


BRIDGES: tuple[Bridge, ...] = (
    Bridge(
        "interleaved rotary embedding",
        "Cohere, Cohere 2, Helium",
        "their classes rotate halves, where transformers rotates neighbours",
        "mobius sets rope_interleave for them",
        fits=_is("CohereForCausalLM", "Cohere2ForCausalLM", "HeliumForCausalLM"),
        settings={"rope_interleave": True},
    ),
    Bridge(
        "biases that are not there",
        "Phi MoE with lm_head_bias = false",
        "its class has a bias of the output head in any case, and stops without one: zeros are the same as none",
        "mobius reads lm_head_bias",
        fits=lambda config: config.model_type == "phimoe" and not config.lm_head_bias,
        weights=_zero_biases,
    ),
    Bridge(
        "epsilon of layers' norms",
        "JetMoE with another rms_norm_eps than 1e-6",
        "mobius takes rms_norm_eps for all norms, transformers for the last alone",
        "mobius leaves it out of JetMoE's layers, or transformers passes it to them",
        fits=_is("JetMoeForCausalLM"),
        adjust=_fix_epsilons,
    ),
    Bridge(
        "window of each layer",
        "Olmo 3, Exaone 4, Cohere 2, Mixtral, Qwen MoE and others with a sliding window",
        "mobius writes one window for all layers in some classes, and none in others",
        "mobius sets local_window_size by layer_types",
        fits=lambda config: bool(_window(config)),
        adjust=_set_windows,
    ),
    Bridge(
        "rotary tables",
        "dynamic scaling, LongRoPE, YaRN with attention_factor, Olmo 3's two tables",
        "mobius has none of the first two, ignores the third, and has one table for all layers",
        "mobius makes the tables of transformers' ROPE_INIT_FUNCTIONS",
        fits=_wants_tables,
        adjust=_set_tables,
    ),
    Bridge(
        "layers without position",
        "Exaone 4 and Cohere 2: layers without a window",
        "mobius rotates queries and keys in every layer",
        "mobius leaves do_rotary out of such layers",
        fits=lambda config: _is("Exaone4ForCausalLM", "Cohere2ForCausalLM")(config) and bool(_window(config)),
        adjust=_drop_positions,
    ),
)

"""Bridges around ONNX Runtime GenAI's builder 0.18: where it stops at a family, or writes a wrong model of it.

A bridge changes the config that the builder is given (`prepare`), its options, the attributes of its model after the
weights are read and before the graph is made (`adjust`), or the folder that it wrote (`finish`). Each says what it
mends, for whom, what is wrong upstream, and when it can go; a test fails where one of them no longer changes what is
built. What comes out is judged against transformers like all else.

The builder is imported by who calls this; importing this module imports neither it nor torch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from scripts.common import json_files
from scripts.convert import rotary
from scripts.families.supported import GEMMA4, RELATED

#: OlmoLayerNorm's own, in transformers' modeling_olmo.py: no config says it.
_OLMO_EPSILON = 1e-5


def _nothing(_: Any) -> None: ...


@dataclass(frozen=True)
class Bridge:
    """One bridge; `fits` says for which config of transformers."""

    name: str
    mends: str
    fault: str
    until: str
    fits: Callable[[Any], bool]
    prepare: Callable[[Any], None] = _nothing
    adjust: Callable[[Any], None] = _nothing
    load: Callable[[Any, Any, str], Any] | None = None
    finish: Callable[[Path], None] = _nothing
    options: Mapping[str, Any] = field(default_factory=dict)


@contextmanager
def applied(builder: Any, prepared: dict[str, Any], folder: Path) -> Iterator[list[str]]:
    """Bridge what `builder` (the module) makes meanwhile of `prepared` (its options), and finish the `folder` then.

    Yields the bridges' names.
    """
    config = prepared["hf_details"]["hf_config"]
    truth = copy.deepcopy(config.get_text_config())
    bridges = [bridge for bridge in BRIDGES if bridge.fits(config)]
    for bridge in bridges:
        bridge.prepare(config)
        for name, value in bridge.options.items():
            prepared.setdefault(name, value)

    def preprocess(original: Callable[[Any], None], model: Any) -> None:
        for bridge in bridges:
            bridge.adjust(model)
        original(model)

    with ExitStack() as stack:
        stack.enter_context(_replaced(builder.Model, "make_preprocessing_nodes", preprocess))
        if any(bridge is ROTARY for bridge in bridges):
            tables = partial(rotary.tables, truth)
            stack.enter_context(_replaced(builder.Model, "make_rotary_embedding_caches_from_scratch", tables))
        for bridge in bridges:
            if bridge.load:
                stack.enter_context(_replaced(builder.Gemma4Model, "load_weights", bridge.load))
        yield [bridge.name for bridge in bridges]
    for bridge in bridges:
        bridge.finish(folder)


@contextmanager
def _replaced(owner: type, name: str, new: Callable[..., Any]) -> Iterator[None]:
    """Have `new(original, self)` called as the method `name` of `owner`."""
    original = getattr(owner, name)
    setattr(owner, name, lambda self, *words: new(original, self, *words))
    try:
        yield
    finally:
        setattr(owner, name, original)


def _window(config: Any) -> int:
    """The sliding window of the text model, 0 where it has none."""
    text = config.get_text_config()
    if getattr(text, "use_sliding_window", True) is False:
        return 0
    return int(getattr(text, "sliding_window", None) or 0)


def _is_dense_gemma4(config: Any) -> bool:
    return rotary.architecture(config) in GEMMA4


def _name_each_kind(config: Any) -> None:
    """Spell the sizes of both kinds of layer as the builder reads them, from where transformers 5 keeps them."""
    text = config.get_text_config()
    text.allow_global_per_layer_attribute_access = config.allow_global_per_layer_attribute_access = True
    full = text.per_layer_config[list(text.layer_types).index("full_attention")]
    text.global_head_dim, text.num_global_key_value_heads = full.head_dim, full.num_key_value_heads
    config.architectures = ["Gemma4UnifiedForConditionalGeneration"]


def _load_whole(original: Any, model: Any, path: str) -> Any:  # noqa: ARG001
    import transformers

    folder = model.model_name_or_path
    named = transformers.AutoConfig.from_pretrained(folder, local_files_only=True).architectures[0]
    return getattr(transformers, named).from_pretrained(folder, local_files_only=True)


def _window_everywhere(config: Any) -> None:
    text = config.get_text_config()
    text.layer_types = ["sliding_attention"] * text.num_hidden_layers


def _relative(config: Any) -> None:
    config.architectures = [RELATED[rotary.architecture(config)]]


def _no_rope(model: Any) -> None:
    original = model.make_attention_qk_rope

    def rope(layer_id: int, **names: Any) -> Any:
        return original(layer_id, **names) if model.no_rope_layers[layer_id] else ("", "")

    model.make_attention_qk_rope = rope


def _no_rope_at_all(model: Any) -> None:
    model.attention_attrs.update(rope=False, use_rope_in_attn=False)


def _whole_layernorm(model: Any) -> None:
    model.layernorm_attrs["simple"] = False


def _exact_scale(model: Any) -> None:
    model.embed_attrs["scale"] = float(model.hidden_size) ** 0.5


def _own_epsilon(model: Any) -> None:
    config = model.weights.config
    name = {"phi": "layer_norm_eps", "nemotron": "norm_eps"}.get(config.model_type)
    model.layernorm_attrs["epsilon"] = float(getattr(config, name)) if name else _OLMO_EPSILON


def _own_alpha(model: Any) -> None:
    model.moe_attrs["activation_alpha"] = float(model.weights.config.swiglu_alpha)


def _own_layers(model: Any) -> None:
    vars(model).pop("is_local", None)


def _float_vectors(model: Any) -> None:
    """Take norms, biases and the like as float32: there are few, and the builder computes with them."""
    for parameter in model.weights.parameters():
        if parameter.ndim < 2 and parameter.is_floating_point():
            parameter.data = parameter.data.float()


def _known_tokenizer(folder: Path) -> None:
    file = folder / "tokenizer_config.json"
    settings = json_files.read(file)
    if settings.get("tokenizer_class") == "Qwen3_5Tokenizer":
        json_files.write(file, {**settings, "tokenizer_class": "Qwen2Tokenizer"})


def _is(*names: str) -> Callable[[Any], bool]:
    return lambda config: rotary.architecture(config) in names


ROTARY = Bridge(
    "rotary tables",
    "linear, dynamic and YaRN scaling, and Gemma 3's two tables",
    "make_rope_init of most classes ignores the kind, wants betas that cards leave out, or stops at a nested table",
    "make_rope_init takes every kind of transformers' ROPE_INIT_FUNCTIONS",
    fits=rotary.wants_tables,
    prepare=rotary.show_plain,
)

BRIDGES: tuple[Bridge, ...] = (
    Bridge(
        "scaled queries",
        "Ministral 3 beyond its original context",
        "transformers scales queries by the position's logarithm (llama_4_scaling_beta), the builder does not: the "
        "context ends where that begins",
        "the builder knows llama_4_scaling_beta",
        fits=lambda config: bool(rotary.parameters(config).get("llama_4_scaling_beta")),
        prepare=rotary.keep_to_original_context,
    ),
    Bridge(
        "longrope's context",
        "LongRoPE outside Phi 3",
        "the builder switches to the table of long texts for Phi 3 alone: the context ends where that begins",
        "make_rope_init of other classes switches tables",
        fits=lambda config: "longrope" in rotary.kinds(config) and not rotary.switches(config),
        prepare=rotary.keep_to_original_context,
    ),
    ROTARY,
    Bridge(
        "longrope's spelling",
        "Phi 3 and 4 whose rope_parameters hold rope_type and no type",
        "phi.py reads rope_parameters['type'], which transformers 5 no longer writes",
        "Phi3MiniLongRoPEModel reads rope_type",
        fits=lambda config: "longrope" in rotary.kinds(config) and rotary.switches(config),
        prepare=rotary.name_longrope,
    ),
    Bridge(
        "no longrope",
        "Phi 3 whose context differs from original_max_position_embeddings without LongRoPE, or is within it",
        "create_model tells LongRoPE by two lengths alone",
        "create_model asks for the kind of rotary embedding",
        fits=lambda config: (
            _is("Phi3ForCausalLM")(config)
            and not ("longrope" in rotary.kinds(config) and rotary.switches(config))
            and config.original_max_position_embeddings != config.max_position_embeddings
        ),
        prepare=rotary.forget_original_context,
    ),
    Bridge(
        "window on every layer",
        "Phi-3-mini-4k, Mistral 0.1: a sliding_window and no layer_types",
        "base.py takes layers without a type for full attention, and gives the runtime caches of the window's size",
        "the builder applies sliding_window where there are no layer_types",
        fits=lambda config: bool(_window(config)) and not getattr(config.get_text_config(), "layer_types", None),
        prepare=_window_everywhere,
    ),
    Bridge(
        "whole cache",
        "models with a sliding window: every request that is shorter than it",
        "GroupQueryAttention refuses a window's cache below the window's size, and the runtime sizes it by the request",
        "the runtime gives each windowed layer its window at least",
        # The builder asks for sliding_window alone, and SmolLM3 has one without using it.
        fits=lambda config: bool(getattr(config.get_text_config(), "sliding_window", None)),
        options={"windowed_kv_cache": False},
    ),
    Bridge(
        "relative's name",
        ", ".join(f"{name} as {relative}" for name, relative in RELATED.items()),
        "create_model does not know the name",
        "create_model knows it",
        fits=_is(*RELATED),
        prepare=_relative,
    ),
    Bridge(
        "sizes of each kind of layer",
        "Gemma 4 without experts and per-layer embeddings",
        "gemma.py reads sizes that transformers 5 keeps in per_layer_config, and weights of one of the four classes",
        "Gemma4Model reads per_layer_config, and loads the class that the config names",
        fits=_is_dense_gemma4,
        prepare=_name_each_kind,
        load=_load_whole,
    ),
    Bridge(
        "layers without position",
        "SmolLM3",
        "smollm.py turns the fused rotary embedding off where it means none, and position_ids are gone by then",
        "SmolLM3Model sets attention_attrs['rope']",
        fits=_is("SmolLM3ForCausalLM"),
        adjust=_no_rope,
    ),
    Bridge(
        "no position at all",
        "Granite 4 whose position_embedding_type is not rope",
        "granite.py rotates whatever the config says",
        "GraniteMoEHybridModel reads position_embedding_type",
        fits=lambda config: (
            _is("GraniteMoeHybridForCausalLM")(config)
            and getattr(config.get_text_config(), "position_embedding_type", None) != "rope"
        ),
        adjust=_no_rope_at_all,
    ),
    Bridge(
        "tokenizer's class",
        "Qwen 3.5",
        "transformers saves a class that the runtime does not know; it reads the same files as Qwen 2's",
        "onnxruntime-extensions knows the class",
        fits=_is("Qwen3_5ForConditionalGeneration", "Qwen3_5MoeForConditionalGeneration", "Qwen3_5ForCausalLM"),
        finish=_known_tokenizer,
    ),
    Bridge(
        "layer norm",
        "OLMo",
        "olmo.py leaves layernorm_attrs['simple'] as it is, so that LayerNorm becomes RMSNorm",
        "OLMoModel sets it to False",
        fits=_is("OlmoForCausalLM"),
        adjust=_whole_layernorm,
    ),
    Bridge(
        "epsilon of norms",
        "Phi, Nemotron, OLMo",
        "base.py reads rms_norm_eps alone and takes 1e-6 where a config spells it otherwise",
        "base.py reads layer_norm_eps and norm_eps",
        fits=_is("PhiForCausalLM", "NemotronForCausalLM", "OlmoForCausalLM"),
        adjust=_own_epsilon,
    ),
    Bridge(
        "scale of embeddings",
        "Gemma, Gemma 2, Gemma 3",
        "gemma.py rounds the square root of the hidden size to two decimals",
        "GemmaModel leaves it unrounded",
        fits=_is("GemmaForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"),
        adjust=_exact_scale,
    ),
    Bridge(
        "experts' activation",
        "gpt-oss with another swiglu_alpha than 1.702",
        "gptoss.py writes 1.702, whatever the config says",
        "GPTOSSModel reads swiglu_alpha",
        fits=_is("GptOssForCausalLM"),
        adjust=_own_alpha,
    ),
    Bridge(
        "order of layers",
        "gpt-oss whose layer_types do not begin with a window and alternate",
        "gptoss.py takes every second layer for a windowed one, whatever the config says",
        "GPTOSSModel leaves is_local to the base",
        fits=_is("GptOssForCausalLM"),
        adjust=_own_layers,
    ),
    Bridge(
        "float32 vectors",
        "Nemotron, Qwen 3.5 and others in bfloat16 or float16",
        "the builder adds its offset to norms, and takes exponentials, in the checkpoint's type",
        "the builder converts them before it computes",
        fits=lambda config: True,  # noqa: ARG005
        adjust=_float_vectors,
    ),
)

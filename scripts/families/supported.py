"""What can be converted, and by which exporter: what the installed builder dispatches on, with what Ingot's bridges
add to it or take away, and what mobius makes rightly.

Everything here is read from a config.json, in milliseconds: torch, transformers and the exporters are not imported. The
bridges themselves are in `scripts/convert`.
"""

from __future__ import annotations

import difflib
import importlib.util
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from scripts.common.errors import IngotError
from scripts.families import mobius, rotary

Config = Mapping[str, Any]

#: In the order in which they are preferred: ONNX Runtime GenAI's model builder, and mobius-onnx.
EXPORTERS = ("builder", "mobius")
_WITHOUT = "Take a model of the family without it"

#: Architectures that the builder lacks and builds rightly under the name of a relative.
RELATED = {
    "Ministral3ForCausalLM": "MistralForCausalLM",
    "MinistralForCausalLM": "MistralForCausalLM",
    "Qwen3_5ForCausalLM": "Qwen3_5ForConditionalGeneration",
    "SeedOssForCausalLM": "LlamaForCausalLM",
}
#: Gemma 4 under its four names: the builder makes one of them, of which a bridge has it make the others.
GEMMA4 = (
    "Gemma4ForCausalLM", "Gemma4ForConditionalGeneration", "Gemma4UnifiedForCausalLM",
    "Gemma4UnifiedForConditionalGeneration",
)  # fmt: skip
_OWN_CODE = "its checkpoints are read by code of their own"
#: Architectures that the builder names and that make no text model for a CPU here, and why.
LEFT_OUT = {
    "ChatGLMForConditionalGeneration": _OWN_CODE,
    "ChatGLMModel": _OWN_CODE,
    "InternLM2ForCausalLM": _OWN_CODE,
    "Lfm2AudioForConditionalGeneration": "it is not a text model",
    "Phi3SmallForCausalLM": _OWN_CODE,
    "Phi3VForCausalLM": _OWN_CODE,
    "Phi4MMForCausalLM": _OWN_CODE,
    "PhiMoEForCausalLM": "its experts run on CUDA only",
    "VideoChatFlashQwenForCausalLM": _OWN_CODE,
    "WhisperForConditionalGeneration": "it is not a text model",
}
#: Activations that the builder has nodes for.
_ACTIVATIONS = ("silu", "swish", "swiglu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu", "relu", "relu2")
#: Layers that the builder writes, and those of families that have layers of their own. Whatever else `layer_types`
#: names (Granite's mamba layers are saved as linear_attention) it takes for attention, or dies of.
_LAYERS = ("full_attention", "sliding_attention", "attention")
_LAYERS_OF = {"Lfm2": ("full_attention", "conv"), "Qwen3_5": ("full_attention", "linear_attention"),
              "Qwen3VL": ("full_attention",)}  # fmt: skip
#: What transformers reads and the builder leaves out: the beginning of the architecture's name, the key, and the value
#: at which that makes no difference. Every other key that a supported class computes with was tried.
LEFT_OUT_KEYS = (
    ("Gemma2", "use_bidirectional_attention", False),
    ("Gemma3", "use_bidirectional_attention", False),
    ("Gemma4", "use_bidirectional_attention", "vision"),
    ("Gemma4", "enable_moe_block", False),
    ("Gemma4", "num_kv_shared_layers", 0),
    ("Gemma4", "use_double_wide_mlp", False),
    ("Lfm2", "conv_bias", False),
    ("Lfm2Moe", "norm_topk_prob", True),
    ("Nemotron", "mlp_bias", False),
    ("Olmo", "clip_qkv", None),
    ("PhiFor", "qk_layernorm", False),
    ("Qwen3_5", "hidden_act", "silu"),
    ("", "is_causal", True),
)


#: Families whose rotary embedding the builder divides into parts of time, height and width where it is said how.
_SECTIONED = ("Qwen2_5_VL", "Qwen3VL")

_NONE = "none named"


@cache
def builders_own() -> frozenset[str]:
    """The architectures that the installed builder dispatches on, from its source: importing it takes seconds.

    Raises `IngotError` where onnxruntime-genai is not installed.
    """
    spec = importlib.util.find_spec("onnxruntime_genai")
    if spec is None or spec.origin is None:
        raise IngotError("onnxruntime-genai", "is not installed", "Run `make setup`")
    source = (Path(spec.origin).parent / "models" / "builder.py").read_text(encoding="utf-8")
    return frozenset(re.findall(r'architectures\[0\] == "(\w+)"', source))


def builders() -> frozenset[str]:
    """Every architecture that the builder makes, bridged where need be."""
    own = builders_own()
    related = {name for name, relative in RELATED.items() if relative in own}
    return (own - set(LEFT_OUT)) | related | (set(GEMMA4) if GEMMA4[-1] in own else set())


def architectures() -> tuple[str, ...]:
    """Every architecture that can be converted, in alphabetical order."""
    return tuple(sorted(builders() | mobius.architectures(), key=str.lower))


def text_config(config: Config) -> Config:
    """The part of a config that describes the text model: `text_config` where it is nested, else all of it."""
    nested = config.get("text_config")
    return {**config, **nested} if isinstance(nested, Mapping) else config


def reads_quantised(config: Config) -> bool:
    """Whether the builder and transformers both read these quantised weights: gpt-oss as it is published."""
    quantised = config.get("quantization_config")
    method = quantised.get("quant_method") if isinstance(quantised, Mapping) else None
    return method == "mxfp4" and config.get("architectures") == ["GptOssForCausalLM"]


def check(path: Path, config: Config) -> str:
    """The architecture of a config.json. Raises `IngotError` for one that cannot be converted, or for the trait of it
    that cannot; `path` is named.
    """
    exporter(path, config)
    return _name(config)


def exporter(path: Path, config: Config, asked: str | None = None) -> str:
    """Which of `EXPORTERS` makes this model: the one `asked` for, else the first that can.

    Raises `IngotError` where it, or both, cannot, for the trait that stands in the way; `path` is named.
    """
    name = _name(config)
    problems = []
    for one in (asked,) if asked else EXPORTERS:
        problem = _problem(one, name, text_config(config))
        if problem is None:
            return one
        problems.append(problem)
    # Who knows the architecture, or why it is left out, says more than who does not.
    _, found, remedy = max(problems, key=lambda problem: problem[0])
    if asked and any(makes(one, config) for one in EXPORTERS if one != asked):
        found, remedy = f"{found} (exporter {asked})", "Leave `exporter` out: the other one makes it"
    raise IngotError(path, found, remedy)


def makes(exporter: str, config: Config) -> bool:
    """Whether an exporter makes this model, as far as its config tells."""
    return _problem(exporter, _name(config), text_config(config)) is None


def _name(config: Config) -> str:
    names = config.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else _NONE


def _problem(exporter: str, name: str, config: Config) -> tuple[int, str, str] | None:
    """Why an exporter cannot make this model, with how much that says, and a remedy."""
    if name not in (builders() if exporter == "builder" else mobius.architectures()):
        if exporter == "builder" and name in LEFT_OUT and name in builders_own():
            return 1, f"unsupported architecture {name}: {LEFT_OUT[name]}", _another(name)
        if name == _NONE:
            found = _of_type(config) or "…ForCausalLM"
            return 0, "names no class of model in architectures", f'Add "architectures": ["{found}"] to it'
        return 0, f"unsupported architecture {name}", _another(name, _of_type(config))
    own = _builders_traits(name, config) if exporter == "builder" else _mobius_traits(name, config)
    for found, remedy in [*own, *_traits(config)]:
        return 2, f"unsupported {name}: {found}", remedy
    return None


def _of_type(config: Config) -> str | None:
    """The class that a config's `model_type` goes by, if it is one that can be converted."""
    kind = str(config.get("model_type")).replace("_", "").lower()
    return next((name for name in architectures() if name.lower() == f"{kind}forcausallm"), None)


def _another(name: str, related: str | None = None) -> str:
    near = related or _nearest(name)
    nearest = f"The nearest that can be converted is {near}" if near else "Take a model of another family"
    return f"{nearest}; `doit families` lists all"


def _nearest(name: str) -> str | None:
    """The architecture whose family is spelt most alike, of the same task where there are several."""
    by_family: dict[str, list[str]] = {}
    for one in architectures():
        by_family.setdefault(_family(one), []).append(one)
    found = difflib.get_close_matches(_family(name), by_family, n=1, cutoff=0.65)
    known = by_family[found[0]] if found else []
    return max(known, key=lambda one: difflib.SequenceMatcher(None, one, name).ratio(), default=None)


def _family(name: str) -> str:
    """The part of a class's name that says whose it is: `qwen2` of Qwen2ForCausalLM."""
    return re.split(r"For[A-Z]|LMHeadModel|Model$", name)[0].lower()


def _builders_traits(name: str, config: Config) -> list[tuple[str, str]]:
    """What in this config the builder cannot make, each with a remedy."""
    known = next((own for family, own in _LAYERS_OF.items() if name.startswith(family)), _LAYERS)
    found = _layers(config, known)
    for beginning, key, harmless in LEFT_OUT_KEYS:
        value = config.get(key)
        if name.startswith(beginning) and value is not None and value != harmless:
            found.append((f"{key} = {value}, which the builder leaves out", _WITHOUT))
    if name.startswith("GraniteMoe") and config.get("num_local_experts"):
        found.append((f"num_local_experts = {config['num_local_experts']}, which the builder leaves out", _WITHOUT))
    if name.startswith("Gemma4For") and (width := config.get("hidden_size_per_layer_input", 256)):
        found.append((f"hidden_size_per_layer_input = {width}, which the builder leaves out", _WITHOUT))
    kinds = {str(table.get("rope_type", "default")) for table in rotary.tables(config)}
    if name.startswith("Gemma4") != ("proportional" in kinds) or (name.startswith("GptOss") and kinds != {"yarn"}):
        found.append((f"the rotary embedding {', '.join(sorted(kinds))}, which the builder has not here", _WITHOUT))
    tables = rotary.tables(config)
    if len(tables) > 1 and not name.startswith(("Gemma3", "Gemma4")) and any(table != tables[0] for table in tables):
        found.append(
            ("a rotary embedding for each kind of layer, which the builder has for Gemma 3 and 4 alone", _WITHOUT)
        )
    if name.startswith(("GptOss", "Qwen2_5_VL", "Qwen3VL")) and (share := rotary.rotary_share(config)) != 1:
        found.append((f"partial_rotary_factor = {share:g}, which the builder leaves out", _WITHOUT))
    if name.startswith(_SECTIONED) and not all(table.get("mrope_section") for table in rotary.tables(config)):
        found.append(("no mrope_section in its rotary embedding", "Copy it from the base model's config.json"))
    return found + _activation(config, _ACTIVATIONS)


def _mobius_traits(name: str, config: Config) -> list[tuple[str, str]]:
    """What in this config mobius cannot make, each with a remedy."""
    found = _layers(config, mobius.LAYERS)
    found += [(f"{key} = {value}, which mobius leaves out", _WITHOUT) for key, value in mobius.left_out(name, config)]
    if any(table.get("rope_type") == "proportional" for table in rotary.tables(config)):
        found.append(("the rotary embedding proportional, which mobius has not", _WITHOUT))
    if rotary.is_nested(config) and name != "Olmo3ForCausalLM":
        found.append(("a rotary embedding for each kind of layer, which mobius has for Olmo 3 alone", _WITHOUT))
    return found + _activation(config, mobius.ACTIVATIONS)


def _traits(config: Config) -> list[tuple[str, str]]:
    """What in this config nobody can make, each with a remedy."""
    found = [(problem, _WITHOUT) for problem in rotary.problems(config)]
    if wrong := rotary.unread_share(config):
        found.append((wrong, _WITHOUT))
    window = config.get("sliding_window")
    if isinstance(window, int) and window < 2 and config.get("use_sliding_window", True):
        found.append((f"sliding_window = {window}", "Set it to null in config.json if no layer has a window"))
    if wrong := rotary.wrong_sections(config, head_size(config)):
        found.append((wrong, "Correct it in config.json"))
    if (size := head_size(config)) and size % 16:
        found.append((f"heads of {size} numbers; the kernels take multiples of 16", "Take a model with such heads"))
    elif (share := rotary.rotary_share(config)) < 1 and int(size * share) % 16:
        what = f"partial_rotary_factor = {share:g} of heads of {size} numbers; the kernels rotate multiples of 16"
        found.append((what, _WITHOUT))
    experts, chosen = config.get("num_local_experts") or config.get("num_experts"), config.get("num_experts_per_tok")
    if isinstance(experts, int) and isinstance(chosen, int) and 0 < experts < chosen:
        found.append((f"num_experts_per_tok = {chosen} of {experts} experts", "Correct it in config.json"))
    return found


def _layers(config: Config, known: tuple[str, ...]) -> list[tuple[str, str]]:
    kinds = config.get("layer_types") or config.get("layers_block_type") or ()
    if strange := sorted({str(kind) for kind in kinds} - set(known)):
        return [(f"layer_types names {', '.join(strange)} layers, which the exporter cannot write", _WITHOUT)]
    if "sliding_attention" in kinds and not config.get("sliding_window", True):
        return [("layer_types names sliding_attention layers, and sliding_window is not given", "Correct one")]
    return []


def _activation(config: Config, known: tuple[str, ...]) -> list[tuple[str, str]]:
    keys = ("hidden_activation", "hidden_act", "activation_function")
    named = next((config[key] for key in keys if config.get(key)), None)
    return (
        [(f"the activation {named}, which the exporter does not know", _WITHOUT)] if named not in (None, *known) else []
    )


def head_size(config: Config) -> int:
    """How many numbers a head has; 0 where the config does not say."""
    if config.get("head_dim"):
        return int(config["head_dim"])
    hidden = config.get("hidden_size") or config.get("n_embd")
    heads = config.get("num_attention_heads") or config.get("n_head")
    return int(hidden) // int(heads) if hidden and heads else 0


def windows(config: Config) -> int | None:
    """How many tokens a sliding-window layer sees; None where no layer has a window."""
    text = text_config(config)
    window, kinds = text.get("sliding_window"), text.get("layer_types")
    if not isinstance(window, int) or window <= 0 or text.get("use_sliding_window") is False:
        return None
    return window if not kinds or "sliding_attention" in kinds else None

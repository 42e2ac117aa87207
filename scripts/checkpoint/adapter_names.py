"""What the tensors of an adapter are called: the marks of peft in a name, and those of others.

An adapter's tensors may all stand under one prefix that its base does not have, as a trainer's wrapper puts there. Such
are `student.`, `llm.` or `policy.`: undone where everything that the adapter changes is in the base without it. A
prefix that names another part of a model (a vision tower, an encoder of speech) is none: what was trained there is not
the text model, even where the layers are called alike.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace

from scripts.checkpoint.adapters import Adapter
from scripts.checkpoint.truth import core

#: Of a name, what peft puts before the base's own.
PREFIX = "base_model.model."
#: The end of a LoRA tensor's name, from its module on.
PART = re.compile(r"\.lora_(?:[AB]|embedding_[AB]|magnitude_vector)(?:\.[^.]+)*$")
#: Where an adapter's own name may stand in a tensor's.
_NAMED = re.compile(r"\.(lora_[AB]|lora_embedding_[AB]|trainable_tokens_delta)\.(?!(?:weight|bias)$)[^.]+")
_SAVED = re.compile(r"\.modules_to_save(?:\.(?!(?:weight|bias)$)[^.]+)?(?=\.(?:weight|bias)$)")
_MAGNITUDE = re.compile(r"\.lora_magnitude_vector\..+$")
_OTHER_PART = re.compile(r"vis|image|audio|speech|encoder|draft|teacher|critic|reward|projector", re.IGNORECASE)


def undone(adapter: Adapter, changed: Collection[str], cores: Collection[str]) -> tuple[Adapter, dict[str, str]]:
    """The adapter without a prefix that its base lacks, if it has one, and the names in its file of what was renamed.

    `changed`: what the adapter changes, as its tensors call it; `cores`: the base's modules without wrappers' marks.
    """
    prefix = _find({name.removeprefix(PREFIX) for name in changed}, cores)
    return _strip(adapter, prefix) if prefix else (adapter, {})


def _find(changed: Collection[str], cores: Collection[str]) -> str | None:
    """The prefix, with its dot, of all the module names in `changed`; None where there is none, or more than one."""
    found = {"" if core(name) in cores else _of(name, cores) for name in changed}
    prefix = found.pop() if len(found) == 1 else None
    return None if not prefix or _OTHER_PART.search(prefix) else prefix


def _strip(adapter: Adapter, prefix: str) -> tuple[Adapter, dict[str, str]]:
    names = {name: name.removeprefix(PREFIX).removeprefix(prefix) for name in adapter.tensors}
    names = {PREFIX + bare: name for name, bare in names.items()}
    return replace(adapter, tensors={bare: adapter.tensors[name] for bare, name in names.items()}), names


def _of(name: str, cores: Collection[str]) -> str | None:
    parts = name.split(".")
    for start in range(1, len(parts)):
        if core(".".join(parts[start:])) in cores:
            return ".".join(parts[:start]) + "."
    return None


def plain(name: str) -> str:
    """A tensor's name without the adapter's own name, as peft saves it."""
    name = _NAMED.sub(r".\1", name)
    return _MAGNITUDE.sub(".lora_magnitude_vector", _SAVED.sub("", name))

"""Names of models and precisions: what Foundry and every file system take, and what has no meaning of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta

from scripts.common import model_id
from scripts.common.errors import IngotError

#: The end of a text, in Python's regular expressions and in those of JSON schemas ("$" lets a line feed follow).
END = r"(?![\s\S])"
Name = Annotated[
    str,
    Meta(
        pattern=rf"^{model_id.NAME}(?<!\.){END}",
        max_length=80,
        title="up to 80 letters, digits, - _ . only; a letter or digit first, no dot last",
    ),
]
#: Names that have a meaning of their own in `build/`, and in the folder of a model.
MODEL_WORDS = ("foundry", "report", "logs", "store", "downloads", "state.db", "accepted.json")
RECIPE_WORDS = (
    "checkpoint", "reference", "export", "finetune", "package", "onnx", "quality", "domain", "recommend", "float",
    "base", "baseline",
)  # fmt: skip
#: By these Foundry tells devices, wherever in a name they stand.
_DEVICE_PARTS = ("generic-cpu", "generic-gpu", "generic-npu", "cuda-gpu")


def check_name(subject: str, name: str, reserved: Iterable[str]) -> None:
    """Refuse a name that means something else, in this project, in Windows or to Foundry. Raises `IngotError`."""
    lower = name.lower()
    if lower in reserved or not model_id.is_folder_name(name):
        raise IngotError(subject, f"{name!r} is reserved", "Choose another name")
    if part := next((part for part in _DEVICE_PARTS if part in lower), None):
        raise IngotError(subject, f"{name!r} contains {part!r}, by which Foundry tells devices", "Choose another name")

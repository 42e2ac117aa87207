"""Each family once more, away from how its checkpoints mostly are: tied or not, other tokens, other numbers, in shards.

Not every combination: the head flips for each family, and the other traits take turns, so that each meets each.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import tiny
from tests.families import checkpoints

#: Rows of the embedding beyond the tokenizer's, and tokens that a fine-tuning added.
PADDING, ADDED = 64, 7
DTYPES = ("float16", "float32", "mixed")


@dataclass(frozen=True)
class Variant:
    """How a checkpoint differs from its family's usual one; `shards` files hold its weights."""

    tied: bool
    dtype: str
    vocabulary: str
    shards: int

    def __str__(self) -> str:
        head = "tied" if self.tied else "untied"
        files = f"{self.shards} shards" if self.shards > 1 else "one file"
        return f"{head}, {self.dtype}, {self.vocabulary}, {files}"


def of(name: str) -> Variant:
    """The variant of a family, by its place among them."""
    at = list(checkpoints.FAMILIES).index(name)
    return Variant(
        tied=not checkpoints.FAMILIES[name].tied,
        dtype=DTYPES[at % 3],
        vocabulary=("tokens added", "padded")[at // 3 % 2],
        shards=(3, 1)[at // 6 % 2],
    )


def make(name: str, folder: Path, variant: Variant | None = None) -> Path:
    """Write a family's variant, its own where none is given."""
    variant = variant or of(name)
    tokenizer = tiny.make_tokenizer()
    rows = len(tokenizer)
    if variant.vocabulary == "padded":
        rows += PADDING
    else:
        tokenizer.add_tokens([f"<tool_{number}>" for number in range(ADDED)], special_tokens=True)
        rows += ADDED
    whole = folder if variant.shards == 1 else folder.with_name(f"{folder.name} in one file")
    dtype = "bfloat16" if variant.dtype == "mixed" else variant.dtype
    changes: dict[str, Any] = {"vocab_size": rows, "tie_word_embeddings": variant.tied}
    checkpoints.make(name, whole, tokenizer=tokenizer, dtype=dtype, float_vectors=variant.dtype == "mixed", **changes)
    return whole if whole == folder else tiny.make_sharded(folder, whole, variant.shards)

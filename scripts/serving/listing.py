"""`doit models`: what stands in the Foundry cache, and who put it there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scripts.common import genai_config, json_files
from scripts.common.visible import line as one_line
from scripts.foundry import cache as caches
from scripts.foundry import marks
from scripts.serving.place import Model, Place

_HEAD = ("model", "precision", "version", "size", "target", "verified", "put there by", "id")


def rows(place: Place) -> list[dict[str, Any]]:
    """A table for each model that is there, registered or taken back; `by`: the configuration, or "others". Sizes in
    bytes.
    """
    found = []
    listed = place.listed()
    seen = {one.id for one in listed}
    names = place.asked.names
    back = []
    for own in marks.ours(place.cache):
        model, precision = names.get(own.name) or (None, None)
        back += [Model(own.id, own.folder, model, precision, own)] if own.id not in seen else []
    for one in sorted([*listed, *back], key=lambda one: (one.name, -one.version)):
        mark = one.own.mark if one.own else None
        verified = marks.verified(one.folder) if one.own else None
        found.append({
            "id": one.id, "name": one.name, "version": one.version, "model": one.model if mark else None,
            "precision": one.precision if mark else None, "size_bytes": _size(one), "target": _target(one),
            "verified_at": verified and verified.get("at"), "verified_by": verified and verified.get("by"),
            "listed": one.id in seen,
            "by": "others" if mark is None else str(mark.get("config") or "Ingot"), "folder": str(one.folder),
        })  # fmt: skip
    return sorted(found, key=lambda row: row["by"] == "others")  # within each by id, the newest version first


def as_text(place: Place, found: Sequence[dict[str, Any]]) -> str:
    """A table; others' models have no model or precision of ours."""
    if not found:
        return f"nothing is listed in {place.cache}"
    ours = str(place.asked.config)
    cells: list[tuple[str, ...]] = [_HEAD]
    for row in found:
        verified = f"{row['verified_at']}, {row['verified_by']}" if row["verified_at"] else "-"
        by = "this configuration" if row["by"] == ours else row["by"]
        version = f"{row['version']}" + ("" if row["listed"] else " (taken back)")
        cells.append((
            row["model"] or row["name"], row["precision"] or "-", version,
            f"{row['size_bytes'] / 1e6:.1f} MB", row["target"], verified, by, row["id"],
        ))  # fmt: skip
    cells = [tuple(map(one_line, line)) for line in cells]
    widths = [max(len(line[i]) for line in cells) for i in range(len(_HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:], f"in {place.cache}"])


def _size(one: Model) -> int:
    return sum(path.stat().st_size for path in one.folder.rglob("*") if path.is_file())


def _target(one: Model) -> str:
    """The execution providers that the model's settings name; none means the CPU."""
    try:
        settings = json_files.read(one.folder / caches.SETTINGS)
        return ", ".join(genai_config.providers(settings)) or "cpu"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "unknown"

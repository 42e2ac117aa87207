"""The table of families in the README, from a run of every one: `python -m tests.families.table FIGURES [README]`.

FIGURES is a file of JSON lines, one a family: what `FAMILY_FIGURES=FIGURES make test-all` measured. Families that it
lacks are run, on every core, and added to it as they end, so that an interrupted run goes on; then the table is written
between its marks in README. A checkpoint that would hide a fault (`sharpness`) is not run.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tests.families import checkpoints, measure, sharpness, variants

BEGIN, END = "<!-- families: begin -->\n", "<!-- families: end -->\n"
PUBLISHED = "gpt-oss, as published"
_HEADS = ("family", "class", "a fault", "export", "int8", "int4", "answers",
          "and once more", "a fault", "export", "int8", "answers")  # fmt: skip


def names() -> list[str]:
    """Every row of the table in order: the families, and gpt-oss in MXFP4 after gpt-oss."""
    found = list(checkpoints.FAMILIES)
    found.insert(found.index("gpt-oss") + 1, PUBLISHED)
    return found


def converted() -> list[str]:
    """The rows that are run: all but what is refused."""
    return [name for name in names() if name == PUBLISHED or not checkpoints.FAMILIES[name].refused]


def record(row: dict[str, Any], figures: Path) -> None:
    """Add what `run` returned to a file of figures."""
    with figures.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def run(name: str) -> dict[str, Any]:
    """The figures of one family and of its variant, or the reason why it did not come through."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
    if name == PUBLISHED:
        return {"name": name, **_figures(checkpoints.make_mxfp4, ("int8", "int4"))}
    figures = _figures(lambda folder: checkpoints.make(name, folder), ("int8", "int4"))
    variant = variants.of(name)
    once_more = _figures(lambda folder: variants.make(name, folder, variant), ("int8",))
    return {"name": name, **figures, "variant": {"how": str(variant), **once_more}}


def _figures(make: Callable[[Path], Path], precisions: tuple[str, ...]) -> dict[str, Any]:
    figures: dict[str, Any] = {"answers": False}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        try:
            checkpoint = make(folder / "checkpoint")
            sharp = sharpness.of(checkpoint)
            figures |= {"entropy": sharp.entropy, "fault": sharp.least}
            if reason := sharpness.refused(sharp, measure.GATE):
                raise ValueError(reason)
            result = measure.judged(checkpoint, folder)
            figures |= {"export": result.worst, "verdict": result.export.verdict}
            measure.judged_precisions(folder, result, precisions)
            figures |= result.kl
            measure.answered(folder, result)
            figures["answers"] = True
        except Exception as error:  # noqa: BLE001 - whatever stops it is what the table says
            figures["reason"] = " ".join(str(error).split())[-300:]
    return figures


def render(rows: list[dict[str, Any]]) -> str:
    """The table as Markdown."""
    lines = [f"| {' | '.join(_HEADS)} |", "|---" * len(_HEADS) + "|"]
    by_name = {row["name"]: row for row in rows}
    for name in names():
        family = checkpoints.FAMILIES["gpt-oss" if name == PUBLISHED else name]
        if family.refused:
            lines.append(f"| {name} | {family.architecture} | refused: {family.refused}{' |' * (len(_HEADS) - 2)}")
        elif row := by_name.get(name):
            cells = [name, family.architecture, *_cells(row, ("fault", "export", "int8", "int4"))]
            again = row.get("variant")
            cells += [again["how"], *_cells(again, ("fault", "export", "int8"))] if again else [""] * 5
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cells(row: dict[str, Any], keys: tuple[str, ...]) -> list[str]:
    export = row.get("verdict") in ("passed", "warned")
    figures = [f"{row[key]:.0e}" if key in row else "" for key in keys]
    figures[1] = figures[1] if export else f"{figures[1]} refused".strip()
    return [*figures, "yes" if row["answers"] else "no"]


def main(figures: Path, readme: Path | None) -> None:
    """Run what `figures` lacks, and put the table into `readme`."""
    rows = [json.loads(line) for line in figures.read_text("utf-8").splitlines()] if figures.exists() else []
    done = {row["name"] for row in rows}
    wanted = [name for name in converted() if name not in done]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), context, initializer=_be_quiet) as pool:
        for done_one in as_completed([pool.submit(run, name) for name in wanted]):
            rows.append(done_one.result())
            record(rows[-1], figures)
            print(f"{len(rows)}: {rows[-1]}", flush=True)
    if readme is None:
        print(render(rows))
        return
    text = readme.read_text(encoding="utf-8")
    start, stop = text.index(BEGIN) + len(BEGIN), text.index(END)
    readme.write_text(text[:start] + render(rows) + text[stop:], encoding="utf-8")


def _be_quiet() -> None:
    """What tools say of each family is not the table."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)

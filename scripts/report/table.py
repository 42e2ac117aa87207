"""Tables of plain text: columns beside each other, the least important left out where there is no room."""

from __future__ import annotations

from collections.abc import Sequence


def fitted(
    table: Sequence[Sequence[str]], ranks: Sequence[int], numbers: Sequence[bool], width: int
) -> list[str]:  # fmt: skip
    """The table laid out; where it is wider than `width`, without the columns of the highest rank; those of 0 stay.

    `numbers`: columns whose cells stand to the right. `width` 0: all columns.
    """
    kept = list(range(len(ranks)))
    while True:
        lines = laid_out([[row[i] for i in kept] for row in table], [numbers[i] for i in kept])
        worst = max(kept, key=ranks.__getitem__)
        if not width or ranks[worst] == 0 or max(map(len, lines)) <= width:
            return lines
        kept.remove(worst)


def laid_out(table: Sequence[Sequence[str]], numbers: Sequence[bool]) -> list[str]:
    """Cells in columns, numbers to the right, with a rule below the headings."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = []
    for row in table:
        cells = [cell.rjust(width) if number else cell.ljust(width)
                 for cell, width, number in zip(row, widths, numbers, strict=True)]  # fmt: skip
        lines.append("  ".join(cells).rstrip())
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]

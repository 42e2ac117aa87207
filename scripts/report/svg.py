"""A Vega-Lite chart as SVG that belongs to the page: its colours, its font, a name for those who do not see it.

Charts are drawn with the colours of `INK` and `SERIES` below, which no one sees: each becomes a variable of the page's
style sheet, so that one drawing serves light, dark and print.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape
from typing import Any

#: What a chart is drawn with → the variable of page.css.
INK = {
    "#000001": "--ink", "#000002": "--muted", "#000003": "--line", "#000004": "--accent", "#000005": "--paper",
    "#000006": "--passed", "#000007": "--warned", "#000008": "--refused", "#000009": "--skipped",
}  # fmt: skip
SERIES = [f"#0000a{i}" for i in range(8)]
COLOUR = {name.removeprefix("--"): colour for colour, name in INK.items()}
VERDICT = {**{name: COLOUR[name] for name in ("passed", "warned", "refused", "skipped")}, "failed": COLOUR["refused"]}
_VARIABLES = INK | {colour: f"--c{i}" for i, colour in enumerate(SERIES)}
#: The widths that a chart is drawn for, in pixels; the style sheet shows the one that fits. Two halves stand in a row.
WIDTHS = {"wide": 720, "half": 540, "narrow": 330}


def figure(draw: Callable[[int], dict[str, Any]], key: str, title: str, description: str, *, half: bool = False) -> str:
    """One chart at two widths, as HTML; `draw` makes a Vega-Lite specification, `key` is unique on the page."""
    return "".join(
        inline(draw(WIDTHS[width]), f"{key}-{css}", css, title, description)
        for css, width in (("wide", "half" if half else "wide"), ("narrow", "narrow"))
    )


def inline(spec: dict[str, Any], key: str, css: str, title: str, description: str) -> str:
    """The SVG of a Vega-Lite specification, as an element to put into the page. No network is used."""
    import vl_convert

    drawn = vl_convert.vegalite_to_svg(spec, allowed_base_urls=[])
    # The library names its clips alike in each drawing; what it tells to readers of screens is told by the title.
    drawn = re.sub(r'\s(?:aria-[a-z]+|role|xmlns(?::xlink)?|font-family|version|class)="[^"]*"', "", drawn)
    drawn = re.sub(r'id="((?:clip|gradient)\d+)"', rf'id="{key}-\1"', drawn)
    drawn = re.sub(r"url\(#((?:clip|gradient)\d+)\)", rf"url(#{key}-\1)", drawn)
    for colour, name in _VARIABLES.items():
        drawn = drawn.replace(f'"{colour}"', f'"var({name})"')
    box = re.search(r'viewBox="([^"]*)"', drawn)
    assert box, "an SVG without a viewBox"
    wide = box[1].split()[2]
    head = (
        f'<svg class="{css}" viewBox="{box[1]}" width="{wide}" role="img" aria-labelledby="{key}-t {key}-d">'
        f'<title id="{key}-t">{escape(title)}</title><desc id="{key}-d">{escape(description)}</desc>'
    )
    return head + drawn[drawn.index(">") + 1 :]

"""The report's charts, drawn by Altair from the rows that `series` makes. Colours are those of `svg`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scripts.report.svg import COLOUR, SERIES, VERDICT

_SHAPES = {"passed": "circle", "warned": "triangle-up", "refused": "cross", "failed": "cross", "skipped": "square"}
_DASHES: list[list[int]] = [[1, 0], [7, 3], [2, 3], [9, 3, 2, 3], [12, 4], [4, 2], [1, 4], [6, 2, 1, 2]]
_FONT = 12
_LETTER = 6.6  # pixels that a letter takes at most, to keep labels apart
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def pareto_chart(rows: Sequence[Mapping[str, Any]], width: int) -> dict[str, Any]:
    """Size across, KL (log) up, decode rate as area; smaller is better both ways."""
    import altair as alt

    data = _Data()
    height, inner = 300, width - 66
    seconds = {row["name"]: f"{row['rate']:.1f} tok/s" if row["rate"] else "speed not measured" for row in rows}
    wide = {name: max(len(name) + 2, len(second)) * _LETTER for name, second in seconds.items()}
    # Room for the leftmost label: beside its point, the next precision is often close.
    xs = _span([row["size"] for row in rows], min(0.42, (wide[rows[0]["name"]] + 36) / inner), 0.14)
    exponents = [math.log10(max(row["kl"], 1e-9)) for row in rows]
    ys = (math.floor(min(exponents) - 0.15), math.ceil(max(exponents) + 0.15))
    points = _points(rows, seconds, wide, xs, ys, (inner, height))
    ticks = [10.0**n for n in range(ys[0], ys[1] + 1)]
    names = ", ".join(f'"{n}": "{_power(n)}"' for n in range(ys[0], ys[1] + 1))
    base = alt.Chart(data(points))
    across = alt.X(
        "size:Q", title="size of the model, MB (further left is smaller)", scale=alt.Scale(domain=list(xs), nice=False)
    )
    up = alt.Y(
        "kl:Q", title="KL from float, nats (lower is closer)",
        scale=alt.Scale(type="log", domain=[ticks[0], ticks[-1]]),
        axis=alt.Axis(values=ticks, labelExpr=f"({{{names}}})[toString(round(log(datum.value) / LN10))]"),
    )  # fmt: skip
    edge = base.transform_filter("datum.edge").mark_line(
        interpolate="step-after", color=COLOUR["accent"], strokeWidth=1.5, strokeDash=[5, 4]
    )
    layers = [edge.encode(x=across, y=up)]
    shape = alt.Shape("shape:N", scale=None)
    colour, area = alt.Color("colour:N", scale=None), alt.Size("area:Q", scale=None)
    layers.append(
        base.transform_filter("datum.recommended")
        .mark_point(filled=False, stroke=COLOUR["accent"], strokeWidth=2, opacity=1)
        .encode(x=across, y=up, size=alt.Size("ring:Q", scale=None))
    )
    for front, opacity in ((True, 0.9), (False, 0.25)):
        layers.append(
            base.transform_filter(f"datum.front === {str(front).lower()}")
            .mark_point(filled=True, opacity=opacity, stroke=COLOUR["paper"], strokeWidth=1)
            .encode(x=across, y=up, size=area, color=colour, shape=shape)
        )
    layers += [mark for row in points for mark in _label(row, alt.Chart(data([row])))]
    return _spec(alt.layer(*layers).properties(width=inner, height=height), data)


def _points(
    rows: Sequence[Mapping[str, Any]], seconds: Mapping[str, str], wide: Mapping[str, float],
    xs: tuple[float, float], ys: tuple[int, int], room: tuple[float, float],
) -> list[dict[str, Any]]:  # fmt: skip
    """Each row with where its point is, how large, and where its label has room."""
    inner, height = room
    rates = [row["rate"] for row in rows if row["rate"]]
    places = {}
    for row in rows:
        x = inner * (row["size"] - xs[0]) / (xs[1] - xs[0])
        y = height * (ys[1] - math.log10(max(row["kl"], 1e-9))) / (ys[1] - ys[0])
        places[row["name"]] = (x, y, 4 + 10 * math.sqrt(row["rate"] / max(rates)) if row["rate"] and rates else 6.0)
    points, boxes = [], [(x - r, y - r, x + r, y + r) for x, y, r in places.values()]
    for row in rows:
        x, y, radius = places[row["name"]]
        left, top, align = _free(x, y, radius, wide[row["name"]], boxes, room)
        points.append({
            **row, "kl": max(row["kl"], 1e-9), "area": math.pi * radius**2, "ring": math.pi * (radius + 5) ** 2,
            "colour": VERDICT[row["verdict"]], "shape": _SHAPES[row["verdict"]], "second": seconds[row["name"]],
            "align": align, "lx": left, "ly": top,
            "label": row["name"] + (" ★" if row["recommended"] else ""),
        })  # fmt: skip
    return points


def _label(row: Mapping[str, Any], of_row: Any) -> Iterator[Any]:
    """The two lines beside a point."""
    import altair as alt

    for field, dy, ink in (("label", 0, "ink"), ("second", 15, "muted")):
        mark = of_row.mark_text(
            align=row["align"], baseline="top",
            fontWeight="bold" if row["recommended"] and field == "label" else "normal", color=COLOUR[ink],
            fontSize=_FONT, dy=dy, stroke=COLOUR["paper"], strokeWidth=4,
        )  # fmt: skip
        yield mark.encode(x=alt.value(row["lx"]), y=alt.value(row["ly"]), text=f"{field}:N")


def _free(
    x: float, y: float, radius: float, wide: float, boxes: list[tuple[float, float, float, float]],
    room: tuple[float, float],
) -> tuple[float, float, str]:  # fmt: skip
    """Where a label of two lines has room beside a point: its anchor, its upper edge, its alignment."""
    high = 30
    options = [(x + radius + 4, y - high - 2, "left"), (x - radius - 7, y - high / 2, "right")]
    options += [(x + radius + 7, y - high / 2, "left")]
    options += [(x, y + radius + 5, "center"), (x, y - radius - high - 4, "center")]
    for reach in (24, 44):  # aside, where points are close
        options += [(x + radius + 3, y - reach - high / 2, "left"), (x + radius + 3, y + reach - high / 2, "left")]
        options += [(x - radius - 3, y + reach - high / 2, "right"), (x - radius - 3, y - reach - high / 2, "right")]
    best, least = options[0], math.inf
    for option in options:
        left = option[0] - {"left": 0.0, "right": wide, "center": wide / 2}[option[2]]
        box = (left, option[1], left + wide, option[1] + high)
        covered = sum(_overlap(box, other) for other in boxes)
        outside = wide * high - _overlap(box, (0, 0, *room))
        if covered + outside < least - 1e-6:
            best, least, chosen = option, covered + outside, box
    boxes.append(chosen)
    return best


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> float:
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return max(across, 0) * max(down, 0)


def latency_chart(rows: Sequence[Mapping[str, Any]], width: int, order: Sequence[str]) -> dict[str, Any]:
    """One strip a precision, on one common scale; `order` names the precisions that share the colours."""
    import altair as alt

    data = _Data()
    names = list(dict.fromkeys(row["name"] for row in rows))
    domain = [min(row["from"] for row in rows), max(row["to"] for row in rows)]
    x = alt.X("from:Q", title="milliseconds between tokens", scale=alt.Scale(domain=domain, nice=False))
    longest, strips = max(map(len, names)), []
    for number, name in enumerate(names):
        mine = [row for row in rows if row["name"] == name]
        last = number == len(names) - 1
        axis = x if last else x.title(None).axis(alt.Axis(labels=False, ticks=False, title=None))
        bars = alt.Chart(data(mine)).mark_rect(color=_series(order.index(name)), opacity=0.85)
        bars = bars.encode(x=axis, x2="to:Q", y=alt.Y("share:Q", axis=None), y2=alt.value(46))
        middle = alt.Chart(data([{"from": mine[0]["median"], "name": name}]))
        line = middle.mark_rule(color=COLOUR["ink"], strokeWidth=1.5).encode(x=axis)
        tag = middle.mark_text(align="right", baseline="middle", color=COLOUR["ink"], dx=-8, fontSize=_FONT)
        tag = tag.encode(x=alt.value(0), y=alt.value(34), text="name:N")
        strips.append(alt.layer(bars, line, tag).properties(width=width - 24 - _LETTER * longest, height=46))
    return _spec(alt.vconcat(*strips, spacing=6), data, left=4 + 1.4 * longest)


def line_chart(
    rows: Sequence[Mapping[str, Any]], width: int, order: Sequence[str], x_title: str, y_title: str, *,
    log_x: bool = False, log_y: bool = False, height: int = 240, points: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """A line a precision, told apart by colour, by dash and by its name at the end; `order` as for `latency_chart`."""
    import altair as alt

    data = _Data()
    names = list(dict.fromkeys(row["name"] for row in rows))
    margin = 76 + _LETTER * max(map(len, names))
    x_scale = alt.Scale(type="log", nice=False) if log_x else alt.Scale(zero=False, nice=False)
    ticks = sorted({row["x"] for row in rows}) if log_x else alt.Undefined
    x_axis = alt.Axis(values=ticks, format=",.0f", labelOverlap="greedy", tickCount=6)
    x = alt.X("x:Q", title=x_title, scale=x_scale, axis=x_axis)
    low, high, marks = _scale(rows, log_y)
    y_scale = alt.Scale(type="log" if log_y else "linear", domain=[low, high], nice=False)
    small = marks is not None and low < 1e-2
    y_axis = alt.Axis(values=marks or alt.Undefined, labelExpr=_powers(rows) if small else alt.Undefined, tickCount=5)
    y = alt.Y("y:Q", title=y_title, scale=y_scale, axis=y_axis)
    layers = []
    last = {name: [row for row in rows if row["name"] == name][-1]["y"] for name in names}
    ends = _apart(last, (low, high), height, log_y)
    for name in names:
        mine, number = [row for row in rows if row["name"] == name], order.index(name)
        colour, dash = _series(number), _DASHES[number % len(_DASHES)]
        base = alt.Chart(data(mine))
        fitted = mine[0].get("fit") is not None
        # Where a line was fitted to them, the samples step back behind it.
        line = base.mark_line(color=colour, strokeWidth=1.2 if fitted else 2, opacity=0.55 if fitted else 1,
                              strokeDash=alt.Undefined if fitted else dash)  # fmt: skip
        layers.append(line.encode(x=x, y=y))
        if fitted:
            layers.append(base.mark_line(color=colour, strokeWidth=2, strokeDash=[6, 4]).encode(x=x, y="fit:Q"))
        elif points:
            layers.append(base.mark_point(color=colour, filled=True, size=34, opacity=1).encode(x=x, y=y))
        if mine[0].get("high") is not None:
            band = base.mark_rule(color=colour, strokeWidth=1, opacity=0.6)
            layers.append(band.encode(x=x, y=y, y2="high:Q"))
        tag = alt.Chart(data([mine[-1]])).mark_text(
            align="left", baseline="middle", color=colour, fontSize=_FONT, fontWeight="bold"
        )
        layers.append(tag.encode(x=alt.value(width - margin + 8), y=alt.value(ends[name]), text="name:N"))
    return _spec(alt.layer(*layers).properties(width=width - margin, height=height), data)


def _apart(ends: Mapping[str, float], domain: tuple[float, float], height: int, log: bool) -> dict[str, float]:
    """Where the names at the ends of lines go, so that none covers another: pixels from the top."""
    scale = math.log10 if log else float
    low, high = map(scale, domain)
    places = {name: height * (high - scale(value)) / (high - low) for name, value in ends.items()}
    below = -math.inf
    for name in sorted(places, key=lambda name: places[name]):
        places[name] = below = max(places[name], below + 15)
    over = max(0.0, below - height)
    return {name: place - over for name, place in places.items()}


def _powers(rows: Sequence[Mapping[str, Any]]) -> str:
    low = math.floor(math.log10(min(row["y"] for row in rows))) - 1
    high = math.ceil(math.log10(max(row["y"] for row in rows))) + 1
    names = ", ".join(f'"{n}": "{_power(n)}"' for n in range(low, high + 1))
    power = "round(log(datum.value) / LN10)"
    return f"abs(log(datum.value) / LN10 - {power}) < 1e-6 ? ({{{names}}})[toString({power})] : ''"


def _power(exponent: int) -> str:
    return {-2: "0.01", -1: "0.1", 0: "1", 1: "10"}.get(exponent, "10" + str(exponent).translate(_SUPERSCRIPT))


def _span(values: Sequence[float], before: float, after: float) -> tuple[float, float]:
    """A range around `values` that leaves shares of it free on either side."""
    low, high = min(values), max(values)
    each = ((high - low) or high or 1.0) / (1 - before - after)
    return (max(low - before * each, 0.0), high + after * each)


def _scale(rows: Sequence[Mapping[str, Any]], log: bool) -> tuple[float, float, list[float] | None]:
    """The range of the values of `rows`, and where its marks are on a log scale: powers of ten, or 1, 2, 5 of them."""
    values = [row[key] for row in rows for key in ("y", "high", "fit") if row.get(key) is not None]
    low, high = min(values), max(values)
    if not log:
        room = 0.06 * ((high - low) or abs(high) or 1.0)
        return low - room, high + room, None
    steps = (1,) if high / low > 300 else (1, 2, 5)
    marks = [step * 10.0**n for n in range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
             for step in steps]  # fmt: skip
    first = max(mark for mark in marks if mark <= low)
    last = min(mark for mark in marks if mark >= high)
    last = last if last > first else first * 10
    return first, last, [mark for mark in marks if first <= mark <= last]


def _series(number: int) -> str:
    return SERIES[number % len(SERIES)]


class _Data(dict[str, list[Mapping[str, Any]]]):
    """The rows of a chart by name. Altair copies what is in a chart dozens of times, and checks each row of it."""

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> Any:
        """The rows under a new name, as Altair refers to them."""
        import altair as alt

        name = f"rows{len(self)}"
        self[name] = list(rows)
        return alt.NamedData(name=name)


def _spec(chart: Any, data: _Data, left: float = 4) -> dict[str, Any]:
    """The Vega-Lite specification: the chart in the page's style, with its rows."""
    axis = {
        "labelColor": COLOUR["muted"], "titleColor": COLOUR["muted"], "gridColor": COLOUR["line"], "domainColor":
        COLOUR["line"], "tickColor": COLOUR["line"], "labelFontSize": 11, "titleFontSize": 11.5, "titleFontWeight":
        "normal", "titlePadding": 8, "labelFontWeight": "normal",
    }  # fmt: skip
    padding = {"left": left, "right": 6, "top": 6, "bottom": 4}
    styled = (
        chart.configure(background="transparent", padding=padding, font="sans-serif")
        .configure_axis(**axis)
        .configure_axisX(grid=False)
        .configure_view(strokeWidth=0)
    )
    spec: dict[str, Any] = styled.to_dict()
    return spec | {"datasets": dict(data)}

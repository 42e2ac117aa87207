"""Words of Jinja that onnxruntime-genai 0.18 lacks, or reads otherwise, in words that both sides read alike.

All were tried against the installed runtime, and against transformers.
"""

from __future__ import annotations

import copy
import string
from collections.abc import Mapping

from jinja2 import Environment, nodes
from jinja2.visitor import NodeTransformer

_PARSER = Environment()
#: Filters, tests and methods that the runtime has, as transformers has them.
FILTERS = (
    *("default", "dictsort", "e", "escape", "indent", "int", "items", "join", "length", "list", "lower", "map"),
    *("reject", "rejectattr", "safe", "select", "selectattr", "sort", "string", "tojson", "trim", "unique"),
)
TESTS = (
    *("boolean", "defined", "false", "float", "integer", "iterable", "mapping", "none", "number", "string"),
    *("true", "undefined"),
)
METHODS = (
    "capitalize",
    "cycle",
    "endswith",
    "get",
    "items",
    "lstrip",
    "rstrip",
    "split",
    "startswith",
    "strip",
    "title",
)
#: The tests that `select` and its relatives know in the runtime.
SELECTED = ("equalto", "==")
#: Expressions by what they stand for: `x` is what a filter, test or method is applied to, `a` and `b` its arguments.
OTHER_FILTERS = {
    ("first", 0): "(x[0:1] if x is string else x[0])",
    ("last", 0): "(x[-1:] if x is string else x[-1])",
    ("reverse", 0): "x[::-1]",
    ("count", 0): "x | length",
    ("d", 0): "x | default('')",
    ("d", 1): "x | default(a)",
    ("d", 2): "x | default(a, b)",
    ("title", 0): "(x | lower).title()",
    ("capitalize", 0): "(x | lower).capitalize()",
    ("replace", 2): "(x | string).split(a) | join(b)",
    ("trim", 1): "x.strip(a)",
    ("abs", 0): "(x if x >= 0 else 0 - x)",
}
OTHER_TESTS = {
    ("odd", 0): "x % 2 == 1",
    ("even", 0): "x % 2 == 0",
    ("divisibleby", 1): "x % a == 0",
    ("sequence", 0): "x is iterable",
    ("in", 1): "x in a",
    **{(name, 1): "x == a" for name in ("eq", "equalto", "==")},
    **{(name, 1): "x != a" for name in ("ne", "!=")},
    **{(name, 1): "x > a" for name in ("gt", "greaterthan", ">")},
    **{(name, 1): "x < a" for name in ("lt", "lessthan", "<")},
}
#: What may be given by name.
NAMED = {"tojson": ("indent",), "default": ("boolean",), "map": ("attribute",)}
_CUT = "x.split(a)"
OTHER_METHODS = {
    ("replace", 2): f"{_CUT} | join(b)",
    ("lower", 0): "x | lower",
    ("title", 0): "(x | lower).title()",
    ("capitalize", 0): "(x | lower).capitalize()",
    ("join", 1): "a | join(x)",
    ("keys", 0): "x | items | map(attribute=0) | list",
    ("values", 0): "x | items | map(attribute=1) | list",
    ("get", 1): "x.get(a, none)",
    ("count", 1): f"({_CUT} | length) - 1",
    ("find", 1): f"(({_CUT}[0] | length) if ({_CUT} | length) > 1 else -1)",
    ("removeprefix", 1): f"(({_CUT}[1:] | join(a)) if x.startswith(a) else x)",
    ("removesuffix", 1): f"(({_CUT}[:-1] | join(a)) if x.endswith(a) else x)",
    ("partition", 1): f"[{_CUT}[0], a if ({_CUT} | length) > 1 else '', {_CUT}[1:] | join(a)]",
    ("rpartition", 1): f"[{_CUT}[:-1] | join(a), a if ({_CUT} | length) > 1 else '', {_CUT}[-1]]",
}
CUT_ONCE = {
    "split": f"([{_CUT}[0], {_CUT}[1:] | join(a)] if ({_CUT} | length) > 1 else [x])",
    "rsplit": f"([{_CUT}[:-1] | join(a), {_CUT}[-1]] if ({_CUT} | length) > 1 else [x])",
}


def expression(text: str, line: int, parts: Mapping[str, nodes.Node]) -> nodes.Expr:
    """The tree of an expression, in which some names stand for trees."""
    output = _PARSER.parse("{{ " + text + " }}").body[0]
    assert isinstance(output, nodes.Output)
    tree = _Replace(parts).visit(output.nodes[0]).set_lineno(line, override=True)
    assert isinstance(tree, nodes.Expr)
    return tree


class _Replace(NodeTransformer):
    def __init__(self, parts: Mapping[str, nodes.Node]) -> None:
        self._parts = parts

    def visit_Name(self, node: nodes.Name) -> nodes.Node:  # noqa: N802 - jinja2's naming
        return copy.deepcopy(self._parts[node.name]) if node.name in self._parts else node


def upper(text: nodes.Expr, line: int) -> nodes.Expr:
    """A text in capitals, letter by letter: those of ASCII."""
    for letter in string.ascii_lowercase:
        if not (isinstance(text, nodes.Const) and letter not in str(text.value)):
            text = expression(f"x.split('{letter}') | join('{letter.upper()}')", line, {"x": text})
    return text

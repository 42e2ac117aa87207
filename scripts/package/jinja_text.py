"""Write a Jinja template's syntax tree as text again, in the part of Jinja that onnxruntime-genai 0.18 reads alike.

Whatever renders text stands in tags, and white space outside of them has no say: nothing is left to trim, which the
runtime doesn't do. Every tag stands on the line of the template that it comes from, so a row in one of the runtime's
messages is a line of the template. The nodes' meaning: jinja.palletsprojects.com, "Extending Jinja: The AST".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from jinja2 import nodes

_ESCAPES = str.maketrans({"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t"})
_COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "lteq": "<=", "gt": ">", "gteq": ">=", "in": "in", "notin": "not in"}


class UnwritableError(ValueError):
    """The template holds what the runtime's Jinja has no word for. `line`: where."""

    def __init__(self, what: str, line: int) -> None:
        super().__init__(f"{what} in line {line}")
        self.what, self.line = what, line


def written(template: nodes.Template) -> str:
    """The text of a template. Raises `UnwritableError`."""
    writer = _Writer()
    writer.body(template.body)
    return "".join(writer.parts)


class _Writer:
    def __init__(self) -> None:
        self.parts: list[str] = []
        self.row = 1

    def body(self, statements: Iterable[nodes.Node]) -> None:
        for statement in statements:
            kind = type(statement).__name__
            write = getattr(self, f"_{kind.lower()}", None)
            if write is None:
                raise UnwritableError(f"a tag of the kind {kind}", statement.lineno)
            write(statement)

    def tag(self, text: str, line: int, marks: tuple[str, str] = ("{%", "%}")) -> None:
        gap = "\n" * (line - self.row) or " "
        self.row = max(self.row, line)
        self.parts.append(f"{marks[0]}{gap}{text} {marks[1]}")

    def _output(self, node: nodes.Output) -> None:
        for part in node.nodes:
            if not isinstance(part, nodes.TemplateData):
                self.tag(expression(part), _first_line(part), ("{{", "}}"))
            elif part.data.strip() != part.data or set(part.data) & set("\n{}"):
                self.tag(_quoted(part.data), part.lineno, ("{{", "}}"))
            else:
                self.parts.append(part.data)

    def _if(self, node: nodes.If) -> None:
        self.tag(f"if {expression(node.test)}", node.lineno)
        self.body(node.body)
        for other in node.elif_:
            self.tag(f"elif {expression(other.test)}", other.lineno)
            self.body(other.body)
        if node.else_:
            self.tag("else", self.row)
            self.body(node.else_)
        self.tag("endif", self.row)

    def _for(self, node: nodes.For) -> None:
        condition = f" if {expression(node.test)}" if node.test else ""
        again = " recursive" if node.recursive else ""
        self.tag(f"for {_target(node.target)} in {expression(node.iter)}{condition}{again}", node.lineno)
        self.body(node.body)
        if node.else_:
            self.tag("else", self.row)
            self.body(node.else_)
        self.tag("endfor", self.row)

    def _assign(self, node: nodes.Assign) -> None:
        self.tag(f"set {_target(node.target)} = {expression(node.node)}", node.lineno)

    def _assignblock(self, node: nodes.AssignBlock) -> None:
        if node.filter is not None:
            raise UnwritableError("a set block with a filter", node.lineno)
        self.tag(f"set {_target(node.target)}", node.lineno)
        self.body(node.body)
        self.tag("endset", self.row)

    def _macro(self, node: nodes.Macro) -> None:
        given = [argument.name for argument in node.args]
        first = len(given) - len(node.defaults)
        for place, default in enumerate(node.defaults, first):
            given[place] += f"={expression(default)}"
        self.tag(f"macro {node.name}({', '.join(given)})", node.lineno)
        self.body(node.body)
        self.tag("endmacro", self.row)

    def _exprstmt(self, node: nodes.ExprStmt) -> None:
        raise UnwritableError("a do tag", node.lineno)

    def _break(self, node: nodes.Break) -> None:
        self.tag("break", node.lineno)

    def _continue(self, node: nodes.Continue) -> None:
        self.tag("continue", node.lineno)

    def _scope(self, node: nodes.Scope) -> None:
        self.body(node.body)


def _first_line(node: nodes.Node) -> int:
    return min(part.lineno for part in (node, *node.find_all(nodes.Node)) if part.lineno)


def _target(node: nodes.Node) -> str:
    if isinstance(node, nodes.NSRef):
        return f"{node.name}.{node.attr}"
    if isinstance(node, nodes.Tuple):
        return ", ".join(map(_target, node.items))
    return str(getattr(node, "name"))  # noqa: B009 - a Name, which nodes.Node does not promise


def expression(node: nodes.Node) -> str:
    """The text of an expression; whatever is not one word stands in parentheses where it is a part."""
    kind = type(node).__name__
    write = _EXPRESSIONS.get(kind)
    if write is None:
        if isinstance(node, nodes.BinExpr):
            return f"{_part(node.left)} {node.operator} {_part(node.right)}"
        raise UnwritableError(f"an expression of the kind {kind}", node.lineno)
    return write(node)


def _part(node: nodes.Node) -> str:
    text = expression(node)
    whole = (nodes.Name, nodes.Const, nodes.List, nodes.Dict, nodes.Tuple, nodes.CondExpr, nodes.Getattr)
    return text if isinstance(node, whole) else f"({text})"


def _owner(node: nodes.Node) -> str:
    """What an attribute, an item or a method is taken of: a chain of names stays one."""
    if isinstance(node, (nodes.Name, nodes.Getattr)):
        return expression(node)
    if isinstance(node, nodes.CondExpr) or (isinstance(node, nodes.Getitem) and not isinstance(node.arg, nodes.Slice)):
        return expression(node)
    return f"({expression(node)})"


def _quoted(text: str) -> str:
    return f"'{text.translate(_ESCAPES)}'"


def _const(node: nodes.Const) -> str:
    if isinstance(node.value, str):
        return _quoted(node.value)
    return "none" if node.value is None else str(node.value).lower()


def _list(node: nodes.List) -> str:
    return f"[{', '.join(map(expression, node.items))}]"


def _tuple(node: nodes.Tuple) -> str:
    return _list(nodes.List(node.items))  # the runtime has no empty tuple, nor one of a single item


def _dict(node: nodes.Dict) -> str:
    return "{" + ", ".join(f"{expression(pair.key)}: {expression(pair.value)}" for pair in node.items) + "}"


def _getitem(node: nodes.Getitem) -> str:
    if isinstance(node.arg, nodes.Slice):
        ends = [expression(end) if end else "" for end in (node.arg.start, node.arg.stop)]
        step = f":{expression(node.arg.step)}" if node.arg.step else ""
        return f"{_owner(node.node)}[{ends[0]}:{ends[1]}{step}]"
    return f"{_owner(node.node)}[{expression(node.arg)}]"


def _arguments(node: nodes.Call | nodes.Filter | nodes.Test) -> str:
    if node.dyn_args or node.dyn_kwargs:
        raise UnwritableError("a call with * or **", node.lineno)
    return ", ".join([*map(expression, node.args), *(f"{pair.key}={expression(pair.value)}" for pair in node.kwargs)])


def _filter(node: nodes.Filter) -> str:
    if node.node is None:
        raise UnwritableError(f"a filter block ({node.name})", node.lineno)
    given = _arguments(node)
    return f"{_part(node.node)} | {node.name}" + (f"({given})" if given else "")


def _test(node: nodes.Test, word: str = "is") -> str:
    if node.args or node.kwargs:
        raise UnwritableError(f"the test {node.name} of two values", node.lineno)
    return f"{_part(node.node)} {word} {node.name}"


def _not(node: nodes.Not) -> str:
    if isinstance(node.node, nodes.Test):
        return _test(node.node, "is not")
    return f"not {_part(node.node)}"


def _condexpr(node: nodes.CondExpr) -> str:
    otherwise = f" else {_part(node.expr2)}" if node.expr2 else ""
    return f"({_part(node.expr1)} if {_part(node.test)}{otherwise})"


def _concat(node: nodes.Concat) -> str:
    return " ~ ".join(map(_part, node.nodes))


def _compare(node: nodes.Compare) -> str:
    left: nodes.Node = node.expr
    parts: list[str] = []
    for operand in node.ops:
        parts.append(f"{_part(left)} {_COMPARE[operand.op]} {_part(operand.expr)}")
        left = operand.expr
    return parts[0] if len(parts) == 1 else " and ".join(f"({part})" for part in parts)


def _signed(node: nodes.UnaryExpr) -> str:
    return f"{node.operator}{_part(node.node)}"


def _call(node: nodes.Call) -> str:
    return f"{_owner(node.node)}({_arguments(node)})"


def _getattr(node: nodes.Getattr) -> str:
    return f"{_owner(node.node)}.{node.attr}"


_EXPRESSIONS: dict[str, Callable[[Any], str]] = {
    "Name": lambda node: node.name, "NSRef": _target, "Const": _const, "List": _list, "Tuple": _tuple, "Dict": _dict,
    "Getattr": _getattr, "Getitem": _getitem, "Call": _call, "Filter": _filter, "Test": _test, "Not": _not,
    "CondExpr": _condexpr, "Concat": _concat, "Compare": _compare, "Neg": _signed, "Pos": _signed,
    "TemplateData": lambda node: _quoted(node.data),
}  # fmt: skip

"""Rules by kind of construct, on the syntax tree: what onnxruntime-genai 0.18's Jinja lacks or reads otherwise.

Whether a template that was rewritten by them means the same is not decided here but by rendering: see `tokens`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

from scripts.package import jinja_scopes as scopes
from scripts.package import jinja_words as words

#: What transformers gives every template, as none where it has none, and the runtime leaves out.
_GIVEN = ("tools", "documents")
#: Lists by what they are called, which are never texts.
_LISTS = ("messages", "loop_messages", "tools", "documents")


class Rules(NodeTransformer):
    """Rewrites a tree in place. `done`: what was done, in words; `lacking`: (construct, line) that has no other words.

    `names`: the variables that it reads or sets. `tokens`: special tokens by their names in a template, of which the
    runtime knows `bos_token` and `eos_token` alone.
    """

    def __init__(self, tokens: Mapping[str, str]) -> None:
        self.done: dict[str, None] = {}
        self.lacking: list[tuple[str, int]] = []
        self.names: set[str] = set()
        self._tokens = tokens
        self._macros: dict[str, dict[str, str]] = {}
        self._count = 0
        self._set: set[str] = set()

    def _note(self, what: str) -> None:
        self.done[what] = None

    def _new_name(self, name: str) -> str:
        self._count += 1
        return f"{name}__{self._count}"

    def visit_Template(self, node: nodes.Template) -> nodes.Template:  # noqa: N802
        for macro in node.find_all(nodes.Macro):
            self._macros[macro.name] = {argument.name: self._new_name(argument.name) for argument in macro.args}
        self._set = scopes.set_anywhere(node)
        self.names = used = {name.name for name in node.find_all(nodes.Name)}
        self.generic_visit(node)
        given = [
            self._if(f"{name} is not defined", [self._assign(name, nodes.Const(None))])
            for name in _GIVEN
            if name in used
        ]
        for name in sorted(used & set(self._tokens)):
            self._note("special tokens written out")
            given.append(self._assign(name, nodes.Const(self._tokens[name])))
        node.body[:0] = given
        return node

    @staticmethod
    def _assign(name: str, value: nodes.Expr) -> nodes.Node:
        return nodes.Assign(nodes.Name(name, "store"), value, lineno=1).set_lineno(1)

    @staticmethod
    def _if(test: str, body: list[nodes.Node]) -> nodes.Node:
        return nodes.If(words.expression(test, 1, {}), body, [], [], lineno=1)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Expr:  # noqa: N802
        self.generic_visit(node)
        if len(node.ops) > 1 or node.ops[0].op not in ("in", "notin"):
            return node
        held, text = node.ops[0].expr, node.expr
        if isinstance(held, (nodes.List, nodes.Tuple, nodes.Dict)):
            return node
        self._note("text searched by split")
        found = "x.split(a) | length > 1" if node.ops[0].op == "in" else "x.split(a) | length < 2"
        if not isinstance(held, nodes.Const):
            found = f"({found}) if x is string else (a {'in' if node.ops[0].op == 'in' else 'not in'} x)"
        return words.expression(found, node.lineno, {"x": held, "a": text})

    def visit_Div(self, node: nodes.Div) -> nodes.Expr:  # noqa: N802
        self.generic_visit(node)
        self._note("a division in other words")
        return words.expression("x * 1.0 / a", node.lineno, {"x": node.left, "a": node.right})

    def visit_Mod(self, node: nodes.Mod) -> nodes.Expr:  # noqa: N802
        self.generic_visit(node)
        if isinstance(node.left, nodes.Const) and isinstance(node.left.value, str):
            self.lacking.append(("a text formatted by %", node.lineno))
        return node

    def visit_Filter(self, node: nodes.Filter) -> nodes.Expr:  # noqa: N802
        self.generic_visit(node)
        if node.node is None:
            self.lacking.append((f"a filter block ({node.name})", node.lineno))
            return node
        if node.name == "tojson":
            node.kwargs = [pair for pair in node.kwargs if not _is(pair, "ensure_ascii", False)]
        elif node.name in ("select", "reject", "selectattr", "rejectattr"):
            test = node.args[node.name.endswith("attr") :][:1]
            if not (test and isinstance(test[0], nodes.Const) and test[0].value in words.SELECTED):
                said = f" by the test {test[0].value}" if test and isinstance(test[0], nodes.Const) else ""
                self.lacking.append((f"the filter {node.name}{said}", node.lineno))
        elif node.name == "indent":
            node.args += [pair.value for name in ("width", "first") for pair in node.kwargs if pair.key == name]
            node.kwargs = [pair for pair in node.kwargs if pair.key not in ("width", "first")]
        elif node.name == "join" and (pairs := [pair for pair in node.kwargs if pair.key == "attribute"]):
            self._note("a filter in other words")
            mapped = nodes.Filter(node.node, "map", [], pairs, None, None, lineno=node.lineno)
            return nodes.Filter(mapped, "join", node.args, [], None, None, lineno=node.lineno)
        if node.name in ("length", "count", "join", "list") and self._may_be_missing(node.node):
            self._note("what is missing counted as empty")
            node.node = words.expression("x or []", node.lineno, {"x": node.node})
        if node.name == "upper":
            return self._upper(node.node, node.lineno)
        return self._replaced(node, words.OTHER_FILTERS, node.node, "a filter", words.FILTERS)

    def visit_Test(self, node: nodes.Test) -> nodes.Expr:  # noqa: N802
        self.generic_visit(node)
        if node.name in ("defined", "undefined") and isinstance(node.node, nodes.Name) and node.node.name in _GIVEN:
            self._note("tools and documents given as none")
            return nodes.Const(node.name == "defined", lineno=node.lineno)
        return self._replaced(node, words.OTHER_TESTS, node.node, "a test", words.TESTS)

    def visit_Call(self, node: nodes.Call) -> nodes.Expr:  # noqa: N802
        self.generic_visit(node)
        if isinstance(node.node, nodes.Name):
            names = self._macros.get(node.node.name, {})
            for pair in node.kwargs:
                pair.key = names.get(pair.key, pair.key)
            if node.node.name == "dict" and not node.args:
                return nodes.Dict([nodes.Pair(nodes.Const(pair.key), pair.value) for pair in node.kwargs])
        if not isinstance(node.node, nodes.Getattr):
            return node
        owner, name = node.node.node, node.node.attr
        if name == "upper" and not node.args:
            return self._upper(owner, node.lineno)
        if name in words.CUT_ONCE and (len(node.args) == 2 or name == "rsplit"):
            limit = node.args[1] if len(node.args) == 2 else None
            if isinstance(limit, nodes.Const) and limit.value == 1:
                self._note("a method in other words")
                return words.expression(words.CUT_ONCE[name], node.lineno, {"x": owner, "a": node.args[0]})
        if name == "split" and len(node.args) == 1 and not node.kwargs:
            return node
        if name == "split":
            self.lacking.append(("split without one text to split by", node.lineno))
            return node
        return self._replaced(node, words.OTHER_METHODS, owner, "a method", words.METHODS)

    @staticmethod
    def _may_be_missing(node: nodes.Node) -> bool:
        listed = isinstance(node, nodes.Name) and node.name in _LISTS
        return isinstance(node, (nodes.Name, nodes.Getattr, nodes.Getitem)) and not listed

    def _replaced(
        self, node: Any, rules: Mapping[tuple[str, int], str], owner: nodes.Expr, kind: str, known: Collection[str]
    ) -> nodes.Expr:
        name: str = node.node.attr if kind == "a method" else node.name
        text = rules.get((name, len(node.args))) if not node.kwargs else None
        if odd := [pair.key for pair in node.kwargs if pair.key not in words.NAMED.get(name, ())]:
            self.lacking.append((f"the {kind.split()[-1]} {name} with {odd[0]}", node.lineno))
        if text is None:
            if name not in known and owner is not None:
                self.lacking.append((f"the {kind.split()[-1]} {name}", node.lineno))
            return node  # type: ignore[no-any-return]
        self._note(f"{kind} in other words")
        arguments = dict(zip("ab", node.args, strict=False))
        return words.expression(text, node.lineno, {"x": owner, **arguments})

    def _upper(self, owner: nodes.Expr, line: int) -> nodes.Expr:
        self._note("upper written letter by letter")
        return words.upper(owner, line)

    def visit_Getattr(self, node: nodes.Getattr) -> nodes.Expr:  # noqa: N802
        if isinstance(node.node, nodes.Getitem):  # of what has attributes, no item is a letter
            self.generic_visit(node.node)
            return node
        self.generic_visit(node)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Expr:  # noqa: N802
        if isinstance(node.node, nodes.Getitem):
            self.generic_visit(node.node)
            node.arg = self.visit(node.arg)
        else:
            self.generic_visit(node)
        number = node.arg.node if isinstance(node.arg, nodes.Neg) else node.arg
        listed = isinstance(node.node, nodes.Name) and node.node.name in _LISTS
        if not isinstance(number, nodes.Const) or type(number.value) is not int or listed:
            return node
        if not isinstance(node.node, (nodes.Name, nodes.Getattr, nodes.Getitem)):
            return node
        self._note("a letter of a text as a slice")
        index = number.value * (-1 if isinstance(node.arg, nodes.Neg) else 1)
        piece = f"x[{index}:{index + 1 or ''}]"
        return words.expression(f"({piece} if x is string else x[{index}])", node.lineno, {"x": node.node})

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        for name in {target.name for target in scopes.targets(node.target)} & self._set:
            scopes.rename(node, name, self._new_name(name))
        early = scopes.reads_early(node.body, scopes.assigned(node.body))
        self.generic_visit(node)
        if isinstance(node.target, nodes.Name) and isinstance(node.iter, (nodes.Name, nodes.Getattr, nodes.Getitem)):
            name = node.iter.name if isinstance(node.iter, nodes.Name) else ""
            if name not in _LISTS and not isinstance(getattr(node.iter, "arg", None), nodes.Slice):
                keys = "(x if x is not mapping else (x | items | map(attribute=0) | list))"
                node.iter = words.expression(keys, node.lineno, {"x": node.iter})
        if early and not any(scopes.own(node.body, nodes.Break)):
            self._note("variables of a loop kept to one turn of it")
            loop = self._new_name("loop")
            for name_node in scopes.own(node.body, nodes.Name):
                if name_node.name == "loop":
                    name_node.name = loop
            kept = nodes.Assign(nodes.Name(loop, "store"), nodes.Name("loop", "load"), lineno=node.lineno)
            node.body = [kept, scopes.once(node.body, {}, node.lineno, self._new_name("turn"))]
        return node

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        names = self._macros[node.name]
        if names or scopes.assigned(node.body):
            self._note("variables of a macro kept to one call of it")
            for argument in node.args:
                argument.name = names[argument.name]
            node.body = [scopes.once(node.body, names, node.lineno, self._new_name("call"))]
        return node

    def visit_With(self, node: nodes.With) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        self._note("a tag in other words")
        body: list[nodes.Node] = [
            nodes.Assign(target, value, lineno=node.lineno)
            for target, value in zip(node.targets, node.values, strict=True)
        ]
        return scopes.once([*body, *node.body], {}, node.lineno, self._new_name("turn"))

    def visit_FilterBlock(self, node: nodes.FilterBlock) -> list[nodes.Node]:  # noqa: N802
        name = self._new_name("text")
        filtered: Any = node.filter
        while filtered.node is not None:
            filtered = filtered.node
        filtered.node = nodes.Name(name, "load", lineno=node.lineno)
        self.generic_visit(node)
        self._note("a tag in other words")
        block = nodes.AssignBlock(nodes.Name(name, "store"), None, node.body, lineno=node.lineno)
        return [block, nodes.Output([node.filter], lineno=node.lineno)]

    def visit_Block(self, node: nodes.Block) -> list[nodes.Node]:  # noqa: N802
        self.generic_visit(node)
        return node.body


def _is(pair: Any, key: str, value: object) -> bool:
    return pair.key == key and isinstance(pair.value, nodes.Const) and pair.value.value is value

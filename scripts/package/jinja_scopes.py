"""Which variables a loop or a macro of a template sets, and a scope for them that onnxruntime-genai 0.18 keeps to.

Jinja forgets what a loop's turn or a macro sets when it ends. The runtime lets a turn's variables into the next turn,
and a macro's, its arguments too, into whoever called it; what a loop within them sets, it forgets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from jinja2 import nodes


def once(body: list[nodes.Node], values: Mapping[str, str], line: int, turn: str) -> nodes.Node:
    """A loop of one turn around `body`, which gives it variables of its own, and `values`: own names to outer ones."""
    copied = [nodes.Assign(nodes.Name(name, "store"), nodes.Name(outer, "load")) for name, outer in values.items()]
    one = nodes.List([nodes.Const(1)])
    loop = nodes.For(nodes.Name(turn, "store"), one, [*copied, *body], [], None, False)
    return loop.set_lineno(line)


def set_anywhere(template: nodes.Template) -> set[str]:
    """The names that are set somewhere in a template, or are a macro's arguments."""
    found = {argument.name for macro in template.find_all(nodes.Macro) for argument in macro.args}
    setters: list[Any] = [*template.find_all((nodes.Assign, nodes.AssignBlock))]
    return found | {name.name for node in setters for name in targets(node.target)}


def rename(loop: nodes.For, name: str, new: str) -> None:
    """Call a variable that a loop runs through otherwise: the runtime would let it out over one of the same name."""
    for part in (loop.target, *loop.body, *([loop.test] if loop.test else [])):
        for found in targets(part):
            if found.name == name:
                found.name = new


def own(body: Iterable[nodes.Node], kind: type[Any] | tuple[type[Any], ...]) -> Iterable[Any]:
    """The nodes of a kind in a loop's body that are not in a loop or macro within it."""
    for node in body:
        if isinstance(node, kind):
            yield node
        if isinstance(node, nodes.For):
            yield from own([node.iter], kind)
        elif not isinstance(node, nodes.Macro):
            yield from own(node.iter_child_nodes(), kind)


def assigned(body: Iterable[nodes.Node]) -> set[str]:
    """The names that a loop's body assigns to."""
    set_by = own(body, (nodes.Assign, nodes.AssignBlock))
    return {name.name for node in set_by for name in targets(node.target)}


def targets(node: nodes.Node) -> list[nodes.Name]:
    """The names in a node, such as the target of a loop."""
    return [node] if isinstance(node, nodes.Name) else list(node.find_all(nodes.Name))


def reads_early(body: Iterable[nodes.Node], names: set[str], known: set[str] | None = None) -> bool:
    """Whether a body may read one of `names` before it assigned to it; `known` grows by what is surely assigned."""
    known = set() if known is None else known
    for node in body:
        if isinstance(node, nodes.If):
            branches = [(node.test, node.body), *((other.test, other.body) for other in node.elif_)]
            ends = []
            for test, inside in branches:
                if _reads([test], names - known):
                    return True
                end = set(known)
                if reads_early(inside, names, end):
                    return True
                ends.append(end)
            last = set(known)
            if reads_early(node.else_, names, last):
                return True
            known |= set.intersection(*ends, last)
        elif isinstance(node, (nodes.Assign, nodes.AssignBlock)):
            read: list[nodes.Node] = [node.node] if isinstance(node, nodes.Assign) else [*node.body]
            if _reads(read, names - known):
                return True
            known |= {name.name for name in targets(node.target)}
        elif _reads([node], names - known):
            return True
    return False


def _reads(body: Iterable[nodes.Node], names: set[str]) -> bool:
    return any(name.name in names and name.ctx == "load" for node in body for name in targets(node))

"""What a module of the project loads and starts, read from its text.

    from scripts.x import y, late ones too       loads `scripts.x.y`; what only a type checker reads does not count
    "scripts.x.y.Thing", "scripts.x.y:thing"     a text that names a module: loaded by that name
    ("scripts.x", "verb"), f("scripts.x", "verb") a text that names a program, in a call, list or tuple, and its verb:
                                                 started with that verb; with every verb where none follows
    "page.css"                                   a text that names a file beside the module: read
    import numpy                                 what is not the project's nor Python's own: `outside`

A program (`__main__`) is read verb by verb: each command, a function under `@….command()`, is a part of its own.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from scripts.common.hashes import digest_bytes

_TOPS = ("scripts", "tests")
_NAMES = re.compile(rf"(?:{'|'.join(_TOPS)})(?:\.[A-Za-z_]\w*)+(?::\w+)?")
_FILE = re.compile(r"[\w-]+(?:\.[\w-]+)+")


class Part(NamedTuple):
    """Some of a module's text: the digest of it, and what it names. `programs` are pairs, the verb "" for every one."""

    digest: str
    modules: Sequence[str] = ()
    programs: Sequence[Sequence[str]] = ()
    files: Sequence[str] = ()
    outside: Sequence[str] = ()


class Code(NamedTuple):
    """A module: what belongs to all of it, and of a program each verb; whether it does anything when it is loaded."""

    common: Part
    verbs: dict[str, Part]
    acts: bool


def parse(source: bytes, name: str, *, is_package: bool) -> Code:
    """Read the module `name`. One that is not Python names nothing: the step that runs it will say so."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return Code(Part(digest_bytes(source)), {}, True)
    package = name if is_package else name.rpartition(".")[0]
    commands = dict(_commands(tree)) if name.endswith(".__main__") else {}
    lines = source.splitlines(keepends=True)
    spans = {verb: slice(_first_line(node) - 1, node.end_lineno) for verb, node in commands.items()}
    verbs = {verb: _part([node], lines[spans[verb]], package) for verb, node in commands.items()}
    taken = {number for span in spans.values() for number in range(*span.indices(len(lines)))}
    rest = [node for node in tree.body if node not in commands.values()]
    common = _part(rest, [line for number, line in enumerate(lines) if number not in taken], package)
    return Code(common, verbs, any(not _is_text(node) for node in tree.body))


def _commands(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    """The verbs of a typer program: by the name that the decorator gives, else by the function's."""
    for node in tree.body:
        for decorator in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
            call = decorator if isinstance(decorator, ast.Call) else None
            target = call.func if call else decorator
            if isinstance(node, ast.FunctionDef) and isinstance(target, ast.Attribute) and target.attr == "command":
                given = [_text(argument) for argument in call.args[:1]] if call else []
                yield (given[0] if given and given[0] else node.name.replace("_", "-")), node


def _first_line(node: ast.FunctionDef) -> int:
    return min(node.lineno, *(decorator.lineno for decorator in node.decorator_list))


def _part(nodes: Sequence[ast.stmt], lines: Sequence[bytes], package: str) -> Part:
    imported, programs, texts = set[str](), set[tuple[str, str]](), set[str]()
    in_order = set[int]()
    for node in (found for top in nodes for found in _walk(top)):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            imported.add(base)
            imported.update(f"{base}.{alias.name}" for alias in node.names)
        elif text := _text(node):
            if id(node) not in in_order:
                texts.add(text)
        else:
            for item, program, verb in _started(node):
                in_order.add(id(item))
                programs.add((program, verb))
    own = {name for name in imported if name.split(".")[0] in _TOPS}
    named = {text for text in texts if _NAMES.fullmatch(text)}
    return Part(
        digest_bytes(b"".join(lines)),
        sorted(own | {text.replace(":", ".") for text in named}),
        sorted(programs),
        sorted(text for text in texts if _FILE.fullmatch(text) and not text.endswith(".py") and text not in named),
        sorted(name for name in imported - own if name.split(".")[0] not in sys.stdlib_module_names),
    )


def _walk(top: ast.AST) -> Iterator[ast.AST]:
    """Every node, but for what stands under `if TYPE_CHECKING`."""
    pending = [top]
    while pending:
        node = pending.pop()
        yield node
        is_for_types = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        pending += node.orelse if is_for_types and isinstance(node, ast.If) else ast.iter_child_nodes(node)


def _started(node: ast.AST) -> Iterator[tuple[ast.AST, str, str]]:
    """What may name a program, in a call, a list or a tuple: the node, its text and the text after it."""
    items = node.args if isinstance(node, ast.Call) else node.elts if isinstance(node, ast.List | ast.Tuple) else []
    for item, after in zip(items, [*items[1:], None], strict=False):
        if (text := _text(item)) and ":" not in text and _NAMES.fullmatch(text):
            yield item, text, (after and _text(after)) or ""


def _text(node: ast.AST) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and _text(node.value) is not None

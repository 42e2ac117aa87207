"""The texts of `doit help`, `doit --help` and `doit --version`: at most 80 columns, and of Ingot before doit."""

from __future__ import annotations

import platform
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from doit.version import VERSION

#: What `dodo.py` asks doit for.
VARIABLES = {
    "config": "folder of models.toml and recipes.toml [config]",
    "build": "folder of everything that is made [build]",
}
_WIDTH = 80

_USES = (
    ("doit", "everything up to the report, of the models in config/models.toml"),
    ("doit TASK", "one task and what it needs: doit package:triage-int4"),
    ("doit -n auto", "steps side by side, as far as cores and memory go; one that measures runs alone"),
    ("doit why", "what would run, and why; nothing is run"),
    ("doit list --all", "every task of every model"),
    ("doit config=DIR build=DIR", "another configuration, another folder to build in"),
)
#: In the order in which people meet them; the rest are doit's.
_COMMANDS = (
    "init", "run", "watch", "list", "why", "info", "check", "gate", "accept", "models", "chat", "serve", "rollback",
    "undeploy", "pack", "families", "mlflow", "clean", "forget", "gc", "help",
)  # fmt: skip
_EXIT_CODES = (
    ("0", "all is well, also where a gate refused a precision: `doit gate` exits 1 then"),
    ("1", "a step failed; the rest was built, and `doit` goes on from there"),
    ("2", "an error in Ingot itself"),
    ("3", "the command line or the configuration is wrong; nothing was run"),
    ("130", "interrupted; what was finished is kept"),
)


def version() -> str:
    """The versions of Ingot, doit and Python."""
    import tomli

    project = tomli.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    around = f"doit {'.'.join(map(str, VERSION))}, Python {platform.python_version()}"
    return f"{project['name']} {project['version']} ({around})"


def overview(commands: Mapping[str, Any]) -> str:
    """What `doit --help` prints."""
    others = ", ".join(sorted(set(commands) - set(_COMMANDS)))
    lines = [
        "Ingot makes models that Foundry Local serves from fine-tuned weights.",
        "",
        *_columns(_USES),
        "",
        "Commands",
        *_columns([(name, commands[name].doc_purpose) for name in _COMMANDS if name in commands]),
        *_wrapped(f"of doit itself: {others}", "  "),
        "",
        "Variables, anywhere on the command line",
        *_columns([(f"{name}=DIR", text) for name, text in VARIABLES.items()]),
        "",
        "Exit codes",
        *_columns(_EXIT_CODES),
        "",
        "More: doit help COMMAND, doit help TASK, README.md",
    ]
    return "\n".join(lines)


def of_command(command: Any) -> str:
    """What `doit help COMMAND` prints: its own options; those that each command of doit takes are named alone."""
    own = [option for option in command.cmd_options if option.get("short") or option.get("long")]
    usage = f"doit {command.name} [OPTIONS] {command.doc_usage}" if own else f"doit {command.name} {command.doc_usage}"
    lines = [usage.rstrip(), "", *_wrapped(_sentence(command.doc_purpose), "")]
    if command.doc_description:
        lines += ["", *_wrapped(command.doc_description, "")]
    if own:
        lines += ["", "Options", *_columns([(_spelt(option), _meaning(option)) for option in own])]
    lines += ["", *_wrapped(f"Also, as with every command: {', '.join(_names(command.loader.cmd_options))}", "")]
    return "\n".join(lines)


def of_task(task: Any, below: Sequence[Any]) -> str:
    """What `doit help TASK` prints."""
    one = below[0].name if below else task.name
    rows = [(f"doit {task.name}", "each of these, and what it needs" if below else "it, and what it needs")]
    rows += [(f"doit {task.name} --{option['long']}", option["help"]) for option in task.params]
    rows += [(f"doit {sub.name}", "") for sub in below]
    rows += [(f"doit info {one}", "what it reads and makes, and whether it is up to date")]
    return "\n".join([task.name, "", *_wrapped(_sentence(task.doc or "no description"), ""), "", *_columns(rows)])


def _columns(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Two columns; the second wraps in itself, and starts on a line of its own where the first is wide."""
    start = 2 + min(max(len(left) for left, _ in rows), 26) + 2
    lines = []
    for left, right in rows:
        wrapped = textwrap.wrap(right, _WIDTH - start, break_on_hyphens=False) or [""]
        if len(left) > start - 4:
            lines.append(f"  {left}")
        else:
            lines.append(f"  {left:<{start - 2}}{wrapped.pop(0)}".rstrip())
        lines += [" " * start + line for line in wrapped if line]
    return lines


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?")) else ".")


def _names(options: Sequence[Mapping[str, Any]]) -> list[str]:
    return [f"--{option['long']}" for option in options if option.get("long")]


def _spelt(option: Mapping[str, Any]) -> str:
    short, long = option.get("short"), option.get("long")
    value = "" if option.get("type") is bool else option.get("metavar", "ARG")
    both = [f"-{short}" if short else "", f"--{long}" + (f"={value}" if value else "") if long else ""]
    return ", ".join(filter(None, both))


def _meaning(option: Mapping[str, Any]) -> str:
    text = str(option.get("help", "")) % {"default": option["default"]}
    choices = [choice for choice, _ in option.get("choices", ())]
    return " ".join(text.split()) + (f" ({', '.join(choices)})" if choices else "")

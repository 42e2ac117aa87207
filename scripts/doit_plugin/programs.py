"""Commands that hand over to a program of the project: what is deployed is listed, taken down, talked to and served.

The program is told by `dodo.py` (`deployed` in DOIT_CONFIG) where everything is; here is only how its command line is
read. Options may stand before and after what is named.
"""

from __future__ import annotations

import getopt
import json
import sys
from collections.abc import Sequence
from typing import Any

import doit
from doit.cmdparse import CmdParseError
from doit.exceptions import InvalidCommand

from scripts.common import json_files
from scripts.common.handing_over import hand_over
from scripts.doit_plugin.commands import SessionCommand, flag
from scripts.doit_plugin.usage import at_least_one
from scripts.engine.step import Step


class _Program(SessionCommand):
    """A command whose work is done by a verb of `scripts.serving`."""

    verb = ""
    names_tasks = False
    #: Variables of its own, besides `config=` and `build=`.
    variables: Sequence[str] = ()

    def parse_execute(self, in_args: Sequence[str]) -> int:
        """Doit calls this with what follows the command's name."""
        try:
            options, names = getopt.gnu_getopt(list(in_args), self.cmdparser.get_short(), self.cmdparser.get_long())
        except getopt.GetoptError as error:
            raise CmdParseError(self._unknown(error)) from None
        given = [f"{name}={value}" if name.startswith("--") and value else name + value for name, value in options]
        return super().parse_execute([*given, "--", *names])

    def execute(self, params: Any, args: list[str]) -> int:
        """Doit calls this with the parsed command line."""
        self.loader.variables = self.variables
        return super().execute(params, args)

    def hand_over(self, names: Sequence[str], *options: str) -> int:
        """Run the program; its exit code."""
        deployed = self.loader.load_doit_config().get("deployed")
        if deployed is None:
            raise InvalidCommand("DOIT_CONFIG names nothing that is deployed; see dodo.py")
        command = [sys.executable, "-m", "scripts.serving", self.verb, "--deployed", json.dumps(deployed)]
        return hand_over([*command, *options, "--", *names])

    def variable(self, name: str, least: int, most: int) -> list[str]:
        """The option of a variable that is a whole number; nothing where it is not given."""
        value = doit.get_var(name)
        if value is None:
            return []
        if not value.isdecimal() or not least <= int(value) <= most:
            raise InvalidCommand(f"{name}={value}: expected a whole number from {least} to {most}")
        return [f"--{name}", value]


class Undeploy(_Program):
    """`doit undeploy`."""

    verb = "undeploy"
    doc_purpose = "take models out of the Foundry cache"
    doc_usage = "[MODEL | MODEL-PRECISION | ID ...]"
    doc_description = "Of what Ingot put there, whatever is named; of a model all precisions. Others' models stay."
    cmd_options = (flag("orphans", bool, False, "all that nothing in models.toml asks for any more"),)

    def _execute(self, orphans: bool, pos_args: list[str]) -> int:
        return self.hand_over(pos_args, *(["--orphans"] if orphans else []))


class Rollback(_Program):
    """`doit rollback`."""

    verb = "rollback"
    doc_purpose = "go back to an earlier version of a deployed model"
    doc_usage = "MODEL | MODEL-PRECISION [to=N]"
    doc_description = (
        "To the one before, or to version N; nothing is built. The newer ones stay in the cache, unlisted, and to=N "
        "brings one back. `doit` deploys what was taken back again only when it was rebuilt."
    )
    variables = ("to",)

    def _execute(self, pos_args: list[str]) -> int:
        return self.hand_over(pos_args, *self.variable("to", 1, 10**9))


class Pack(_Program):
    """`doit pack`."""

    verb = "pack"
    doc_purpose = "make one archive of a model, to hand on"
    doc_usage = "MODEL-PRECISION [out=FILE] [format=tar|oci]"
    doc_description = (
        "With its card, provenance, report and an installer for a machine without Ingot. format=oci writes an OCI "
        "image layout, a folder that ORAS sends to a registry. Builds nothing; what a gate refused takes --force."
    )
    cmd_options = (
        flag("force", bool, False, "replace what is there; pack also what a gate refused"),
        {**flag("dry_run", bool, False, "tell what would be written, and write nothing"), "long": "dry-run"},
    )
    variables = ("out", "format")

    def _execute(self, force: bool, dry_run: bool, pos_args: list[str]) -> int:
        given = {name: doit.get_var(name) for name in self.variables}
        options = [f"--{name}={value}" for name, value in given.items() if value is not None]
        options += [f"--{name}" for name, on in (("force", force), ("dry-run", dry_run)) if on]
        code = self.hand_over(pos_args, *options)
        step = self._step(pos_args[0]) if pos_args else None
        if code == 0 and step and not self.session.status.is_current(step):
            print(f"{pos_args[0]}: this is of an earlier build; doit {step.name} makes it anew", file=sys.stderr)
        return code

    def _step(self, word: str) -> Step | None:
        """The step that makes what is packed of what was typed: of a model, of the precision that is recommended."""
        try:
            best = json_files.read(self.session.build / word / "recommend.json")["recommended"]
        except (OSError, ValueError, TypeError, KeyError):
            best = None
        return self.session.steps.get(f"attest:{word}-{best}" if best else f"attest:{word}")


class Models(_Program):
    """`doit models`."""

    verb = "models"
    doc_purpose = "what stands in the Foundry cache, and who put it there"
    doc_usage = ""
    cmd_options = (flag("json", bool, False, "for programs"),)

    def _execute(self, json: bool) -> int:
        return self.hand_over((), *(["--json"] if json else []))


class Chat(_Program):
    """`doit chat`."""

    verb = "chat"
    doc_purpose = "talk to a deployed model"
    doc_usage = "[MODEL | MODEL-PRECISION | ID]"
    doc_description = (
        "In the real runtime; of a model the recommended precision. At a terminal a conversation (/help tells more), "
        "with -m or text on standard input one answer. Exits 0 where it was given, 1 where not, 3 where nothing has "
        "that name, 130 where it was interrupted."
    )
    cmd_options = (
        {**flag("message", str, None, "ask this, and print the answer alone"), "short": "m"},
        {**flag("system", str, "", "how the model should behave"), "short": "s"},
        flag("tokens", at_least_one, None, "of an answer, at most [default: as the context allows]"),
        flag("greedy", bool, False, "the most likely words, the same each time, whatever the model's settings say"),
    )

    def _execute(self, message: str | None, system: str, tokens: int | None, greedy: bool, pos_args: list[str]) -> int:
        given = {"message": message, "system": system or None, "tokens": tokens}
        options = [f"--{name}={value}" for name, value in given.items() if value is not None]
        return self.hand_over(pos_args, *options, *(["--greedy"] if greedy else []))


class Serve(_Program):
    """`doit serve`."""

    verb = "serve"
    doc_purpose = "put deployed models behind an OpenAI-compatible HTTP service"
    doc_usage = "[MODEL | MODEL-PRECISION | ID ...] [port=N]"
    doc_description = (
        "Until Ctrl-C, for this machine alone; on a free port, or on the one that is named. It prints how to ask, and "
        "as its last line that it is ready: no client is answered before all models are loaded."
    )
    variables = ("port",)

    def _execute(self, pos_args: list[str]) -> int:
        return self.hand_over(pos_args, *self.variable("port", 1, 65535))

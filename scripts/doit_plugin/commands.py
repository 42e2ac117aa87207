"""The commands that doit has not: why, check, gate, accept, gc. They concern the whole build and run nothing."""

from __future__ import annotations

import contextlib
import datetime
import fnmatch
import gc
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import doit
from doit.exceptions import InvalidCommand, InvalidDodoFile

from scripts.common import json_files, process, terminal, visible
from scripts.common.errors import IngotError
from scripts.doit_plugin.manual import VARIABLES
from scripts.doit_plugin.usage import Usage, check_variables, end_with_reader
from scripts.engine import outputs
from scripts.engine.session import Session
from scripts.engine.step import Step


class SessionCommand(Usage):
    """A command in a project whose `dodo.py` hands over a session."""

    def execute(self, params: Any, args: list[str]) -> int:
        """Doit calls this with the parsed command line."""
        # Thousands of tasks are made and none goes away: to search them for garbage takes a third of a no-op.
        gc.disable()
        try:
            return super().execute(params, args) or 0
        finally:
            gc.freeze()  # nor when Python ends
            gc.enable()

    @property
    def session(self) -> Session:
        """The session of the `dodo.py` that doit has loaded."""
        found = self.loader.load_doit_config().get("session")
        if not isinstance(found, Session):
            remedy = "Write DOIT_CONFIG = Tasks(session).config(…), see scripts/doit_plugin/tasks.py"
            raise InvalidDodoFile(str(IngotError("DOIT_CONFIG", "names no session", remedy)))
        return found


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """For commands that only tell: `| head` ends them quietly, and a user's mistake is not a traceback."""
    end_with_reader()
    try:
        yield
    except IngotError as error:
        raise InvalidDodoFile(str(error)) from None


class _Reading(SessionCommand):
    """A command of Ingot's own, that changes nothing."""

    def execute(self, params: Any, args: list[str]) -> int:
        """Doit calls this with the parsed command line."""
        with reading():
            return super().execute(params, args)

    def write(self, text: str) -> None:
        """To the terminal, or to whatever reads."""
        self.outstream.write(terminal.fitted(visible.visible(text), terminal.columns(self.outstream)) + "\n")

    def _selected(self, names: Sequence[str] | None) -> list[Step]:
        tasks = {task.name: task for task in self.task_list}
        for name in names or ():
            if "*" not in name and name not in tasks:
                raise InvalidCommand(not_found=name)
        pending = [task for task in tasks if not names or any(fnmatch.fnmatch(task, name) for name in names)]
        found: dict[str, Step] = {}
        asked = set(pending)
        for name in pending:  # a task that is not a step, a group above all, stands for the steps that it needs
            if name in self.session.steps:
                found[name] = self.session.steps[name]
            else:
                pending += [needed for needed in tasks[name].task_dep if needed not in asked]
                asked.update(tasks[name].task_dep)
        return list(found.values())


def flag(name: str, kind: Callable[[str], object], default: object, help_text: str) -> dict[str, Any]:
    """An option of a command, as doit wants it."""
    return {"name": name, "short": "", "long": name, "type": kind, "default": default, "help": help_text}


class Why(_Reading):
    """`doit why`: see `scripts.engine.explain`."""

    doc_purpose = "say what would run, and why"
    doc_usage = "[TASK ...]"
    doc_description = "Without a task: for those that plain `doit` runs. Runs nothing."
    cmd_options = (flag("json", bool, False, "for programs"),)

    def _execute(self, json: bool) -> int:
        from scripts.engine import explain

        made = explain.plan(self.session, self._selected(self.sel_tasks))
        self.write(explain.as_json(made) if json else explain.as_text(made))
        return 0


class Check(_Reading):
    """`doit check`: see `scripts.engine.check`."""

    doc_purpose = "verify what was built and deployed against its manifests"
    doc_usage = "[TASK ...]"
    doc_description = "Exits 1 where something is damaged; `doit` makes it right."
    cmd_options = (
        flag("deep", bool, False, "read every byte again, whatever the stamps of the files say"),
        flag("signed", bool, False, "verify the signature of each deployed model, too"),
    )

    def _execute(self, deep: bool, signed: bool, pos_args: list[str]) -> int:
        from scripts.engine import check

        report = check.check(self.session, self._selected(pos_args), deep=deep)
        self.write(check.as_text(report))
        if not signed:
            return int(bool(report.damage))
        from scripts.doit_plugin.signed import verify

        self.outstream.flush()
        return int(bool(report.damage)) | verify(self.loader.load_doit_config().get("deployed") or {})


#: Reading the builder's sources takes a second or two.
_FAMILIES_SECONDS = 60.0


class Families(_Reading):
    """`doit families`: what `python -m scripts.convert families` prints."""

    doc_purpose = "list the families of models that can be converted"
    doc_usage = ""
    doc_description = "Read from the installed builder and from the bridges to it. Runs nothing."

    def _execute(self) -> int:
        command = [sys.executable, "-m", "scripts.convert", "families"]
        return process.call(command, seconds=_FAMILIES_SECONDS)  # the stage's own program: no stage is known here


#: Headers are read of the weights that are there.
_INIT_SECONDS = 600.0


class Init(Usage):
    """`doit init`: what `python -m scripts.init` does. There need be no models.toml yet, so `dodo.py` is not loaded."""

    doc_purpose = "write a models.toml for the weights in a folder"
    doc_usage = "FOLDER"
    doc_description = (
        "FOLDER holds a model, its adapter, or both, and what the model is judged by; or it is a .gguf file. The file "
        "is written there, or to config=DIR, never over another one."
    )
    names_tasks = False
    cmd_options = (
        {"name": "adapter", "short": "", "long": "adapter", "type": list, "default": [],
         "help": "a LoRA adapter's folder; may be repeated"},
        flag("name", str, "", "what to call the model"),
        flag("dry-run", bool, False, "print the file, and write none"),
    )  # fmt: skip

    def parse_execute(self, in_args: Sequence[str]) -> int:
        """Doit calls this with what follows the command's name: here options may stand behind the folder too."""
        valued = {f"--{option['name']}" for option in self.cmd_options if option["type"] is not bool}
        options, others, words = list[str](), list[str](), iter(in_args)
        for word in words:
            if word == "--":
                others += words
            elif word.startswith("-"):
                options += [word, *([next(words, "")] if word in valued else [])]
            else:
                others.append(word)
        return super().parse_execute([*options, "--", *others])

    def execute(self, params: Any, args: list[str]) -> int:
        """Doit calls this with the parsed command line."""
        check_variables(VARIABLES)
        if len(args) != 1:
            raise InvalidCommand("init: name one folder, or one .gguf file: doit init FOLDER")
        command = [sys.executable, "-m", "scripts.init", *(f"--adapter={path}" for path in params["adapter"])]
        command += [f"--name={params['name']}"] if params["name"] else []
        command += ["--dry-run"] if params["dry-run"] else []
        command += [f"--config={folder}"] if (folder := doit.get_var("config")) else []
        return process.call([*command, "--", args[0]], seconds=_INIT_SECONDS)


class Gate(_Reading):
    """`doit gate`: a refusal lets a build go on and exit 0; this turns it into an exit code, for CI."""

    doc_purpose = "exit 1 if anything was refused by a gate, failed, or was not built"
    doc_usage = "[TASK ...]"
    doc_description = "Without a task: for all that plain `doit` builds. Runs nothing."

    def _execute(self) -> int:
        pending, seen = self._selected(self.sel_tasks), dict[str, Step]()
        while pending:
            step = pending.pop()
            if step.name not in seen:
                seen[step.name] = step
                pending += step.upstream
        held = {name: self.session.status.verdict(step) or "not built" for name, step in sorted(seen.items())}
        held = {name: verdict for name, verdict in held.items() if verdict in ("refused", "failed", "not built")}
        self.outstream.writelines(f"{name}: {verdict}\n" for name, verdict in held.items())
        return int(bool(held))


class Accept(_Reading):
    """`doit accept`: the present report is what later ones are compared with."""

    doc_purpose = "keep the report, so that the next says what changed since"
    doc_usage = ""
    doc_description = "Replaces the one that was accepted before. `doit clean` leaves it where it is."
    cmd_options = (flag("note", str, "", "a few words to keep with it: why this one is good"),)

    def _execute(self, note: str) -> int:
        step = self.session.steps.get("report")
        if step is None:
            raise IngotError("doit accept", "there is no task called report", "Declare one in dodo.py")
        file, kept = step.output / "report.json", self.session.build / "accepted.json"
        try:
            report = json_files.read(file)
            if not (isinstance(report, dict) and "version" in report and "models" in report):
                raise ValueError(f"{file}: is not a report")
        except FileNotFoundError:
            print(f"{file}: is not there. Make the report first: doit", file=sys.stderr)
            return 1
        except (OSError, ValueError) as error:
            print(f"{error}. Make the report again: doit", file=sys.stderr)
            return 1
        if not self.session.status.is_current(step):
            self.outstream.write("the report is not up to date (doit why); it is accepted as it is\n")
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        json_files.write(kept, {"accepted_at": now, "note": note or None, "report": report})
        self.outstream.write(f"accepted {file}; kept as {kept}\n")
        return 0


class Gc(_Reading):
    """`doit gc`: remove from the store what was not used for longest."""

    doc_purpose = "make the store of earlier outputs smaller, or the shared one"
    doc_usage = ""
    doc_description = (
        "Keeps what present outputs share, and of the rest the most recently used; of a shared store, to which this "
        "machine must be allowed to write, what was put there last."
    )
    cmd_options = (
        flag("keep", str, "10GB", "how much of the rest to keep: 500MB, 10GB [default: %(default)s]"),
        flag("shared", str, "", "instead: how much to keep of the shared store of models.toml"),
    )

    def _execute(self, keep: str, shared: str) -> int:
        from scripts.engine import fetching

        limit, store = _bytes("--shared" if shared else "--keep", shared or keep), self.session.store
        keys = {key for step in self.session.steps.values() if (key := outputs.recorded_key(step))}
        if shared:
            return self._shared(limit, keys)
        fetching.sweep(self.session.build)
        gone = store.collect(limit, keys)
        size = sum(item.size for item in gone) / 1e9
        self.outstream.write(f"{len(gone)} removed ({size:.2f} GB), {len(store.objects())} left in {store.folder}\n")
        return 0

    def _shared(self, limit: int, in_use: set[str]) -> int:
        from scripts.engine import shared_gc
        from scripts.engine.remote import RemoteError

        shared = self.session.shared
        if shared is None or not shared.writes:
            found = "names no shared store" if shared is None else "does not let this machine write to the shared store"
            raise IngotError("models.toml", found, "Write [store] with a url, and write = true where that is meant")
        try:
            done = shared_gc.collect(shared.remote, limit, in_use)
        except RemoteError as error:
            raise IngotError(shared.remote.url, str(error), "Nothing here depends on it") from None
        self.outstream.write(
            f"{done.gone} removed ({done.gone_bytes / 1e9:.2f} GB), {done.left} left "
            f"({done.left_bytes / 1e9:.2f} GB) in {shared.remote.url}\n"
        )
        return 0


def _bytes(option: str, text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", text.strip(), re.IGNORECASE)
    if not found:
        raise InvalidCommand(f"{option} {text!r}: expected a size such as 500MB or 10GB")
    return int(float(found[1]) * 1000 ** " KMGT".index(found[2].upper() or " "))

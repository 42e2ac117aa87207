"""A step: one run of one verb of a stage, the unit that is stale or current, built, published and reported.

    inputs + parameters ──► key ──► is the output of this key, and whole? ──► else run, check, publish
         `keys`                        `outputs`, `status`                       `execute`, `publish`

Here it is only declared, once and for good. The command line of the child is made of exactly what is in the key, so
nothing reaches it that staleness does not see. An output is a folder (an artifact with a manifest) or one JSON file (a
result with a verdict). A step that breaks, or has nothing to work on, leaves a marker in `.ingot/` beside its output
and the output as it was.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from scripts.common import manifest
from scripts.common.errors import IngotError
from scripts.common.process import Limits
from scripts.engine.user_files import Belongs, paths_of

#: Verdicts after which there is nothing to work on for those who need the output.
STOPPING = ("refused", "skipped", "failed")


@dataclass(frozen=True)
class ExternalState:
    """What a result claims of things outside `build/`: which files show it, and whether it still holds.

    `holds` is given the session's digests by path, which read no file again that has not changed; it returns what is no
    longer so. `remarks` are what is so and worth telling all the same, such as a model that nothing asks for.
    """

    files: Callable[[Mapping[str, Any]], Sequence[str]]
    holds: Callable[[Mapping[str, Any], Callable[[str], str]], str | None]
    remarks: Callable[[Mapping[str, Any]], Sequence[str]] = lambda _: ()


@dataclass(frozen=True)
class Part:
    """Some of the files of a step's output, as an input of another one: only these are in that one's key."""

    step: Step
    name: str

    @property
    def output(self) -> Path:
        """The folder that they are in; it is passed whole."""
        return self.step.output


class Read(NamedTuple):
    """One thing that a step reads: its name in the key, the flag that passes it, a step or the user's own path; of a
    step, which part of its output counts (none: the whole).
    """

    name: str
    flag: str
    item: Any
    part: str = ""


def _here(_: str, item: Any) -> str:
    return str(item if isinstance(item, Path) else item.output)


@dataclass(frozen=True, eq=False)
class Step:
    """Declared in `dodo.py` by `Session.step`.

    stage, verb     `python -m scripts.<stage> <verb>`, whose flags are the names below
    inputs          steps (their output is passed; where one stopped, this one is skipped), parts of steps, or the
                    user's own paths; a tuple repeats the flag, None leaves it out
    belongs         flag → which files of a folder of the user's of that flag belong to what the step reads, see
                    `user_files`; without it all that is below the folder do
    loads           modules that only its parameters name, such as the passes of a recipe, or that its inputs decide on:
                    then a function that tells them, asked when the inputs are there. What else its processes load is
                    read from the code, see `sources`
    tools           distributions that can change the result although its code does not import them
    parameters      text, passed as it is, or anything else, passed as JSON
    tools_of        flag → steps before this one: the versions of the tools that act in them, as one more parameter:
                    distribution → version, as JSON
    verdicts        steps that may have stopped: then their marker is passed, which has the form of a result
    observed        what the result depends on without being told, such as the machine; in the key alone
    scratch         what can't change the result, such as a folder for downloads; on the command line alone
    external_state  for a result that claims something of what is outside `build/`
    alone           it measures: nothing else of Ingot may run meanwhile, on the whole machine
    limits          time and memory that its process tree may use; None: what the session says
    undo            for `doit clean`: a command that takes back what the result did outside `build/`
    shows           a text file in the output folder that is printed at the end of a run
    forms           option of the task → a file in the output folder that a run with it names at its end
    reads           steps whose outputs it finds by itself, below a scratch folder; they may have stopped
    stored          whether earlier outputs are kept, to be restored; not what measures or has an external state
    shared          it goes to a team's store all the same: for what is large here, and takes long to make elsewhere
    optional        like reads, but of steps that this one does not ask for: their outputs count where there are any
    preflight       flag → "module:function", called with each path of the user's of that flag before it is read for
                    the first time: raises `IngotError` in milliseconds where to read gigabytes would be in vain
    guards          "module:function" → a file of the user's, or several, that it judges in the same way, although this
                    step does not read them: hours are not spent on the way to a mistake in what is read last
    follows         steps that it does not read, and without which nobody needs its output: where one stopped, this
                    one is skipped, unless it is asked for by name
    dispensable     where it breaks, it counts as skipped, with the reason: the build does without it, and ends well
    problem         a mistake in what declares this step: it can't be run, and fails with that
    parts           of an output that is a folder, what others may read alone: name → patterns (`fnmatch`) of the files'
                    paths; with "!" in front they leave files out, and where there are no others, of all
    resources       what a worker of a cluster must have for it beside memory, by the names of `dask worker --resources`
    tied            it needs what only this machine has, such as a secret: no worker of a cluster is given it
    """

    name: str
    output: Path
    stage: str
    verb: str
    inputs: Mapping[str, Any]
    loads: tuple[str, ...] | Callable[[], tuple[str, ...]] = ()
    tools: Sequence[str] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    verdicts: Mapping[str, Any] = field(default_factory=dict)
    observed: Mapping[str, Any] = field(default_factory=dict)
    scratch: Mapping[str, Any] = field(default_factory=dict)
    external_state: ExternalState | None = None
    alone: bool = False
    limits: Limits | None = None
    undo: Callable[[Mapping[str, Any]], Sequence[str]] | None = None
    shows: str | None = None
    reads: Sequence[Step] = ()
    stored: bool = True
    optional: Sequence[Step] = ()
    preflight: Mapping[str, str] = field(default_factory=dict)
    belongs: Mapping[str, Belongs] = field(default_factory=dict)
    guards: Mapping[str, Any] = field(default_factory=dict)
    problem: IngotError | None = None
    follows: Sequence[Step] = ()
    dispensable: bool = False
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    shared: bool = False
    forms: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, float] = field(default_factory=dict)
    tools_of: Mapping[str, tuple[Step, ...]] = field(default_factory=dict)
    tied: bool = False

    #: All that it reads, in the order of the command line.
    read: tuple[Read, ...] = field(init=False)
    #: The steps that come before this one, each once; the optional ones need not be current, nor be there.
    upstream: tuple[Step, ...] = field(init=False)
    is_result: bool = field(init=False)
    #: The folder that the output is in, and its name there.
    parent: str = field(init=False)
    base: str = field(init=False)
    #: The file by which doit knows the output, and which those who need it depend on.
    target: str = field(init=False)
    #: Where a failure or a skip is noted.
    marker: str = field(init=False)
    #: Where it is written what the output was made from; and, of a result, where this is until the result is in place.
    provenance: str = field(init=False)
    announced: str = field(init=False)

    def __post_init__(self) -> None:
        named = [*flat(self.inputs), *flat(self.verdicts), *(("reads", step) for step in self.reads)]
        read = [
            Read(f"{flag}[{number}]", flag, item.step, item.name) if isinstance(item, Part)
            else Read(f"{flag}[{number}]", flag, item)
            for number, (flag, item) in enumerate(named)
        ]  # fmt: skip
        upstream = tuple(dict.fromkeys([*(one.item for one in read if isinstance(one.item, Step)), *self.follows]))
        read += [Read(f"optional[{step.name}]", "optional", step) for step in self.optional]
        text = str(self.output)
        is_result = text.endswith(".json")
        parent, base = os.path.split(text)
        stem = base[:-5] if is_result else base
        vars(self).update(  # a frozen instance is filled by way of its dict
            read=tuple(read),
            upstream=upstream, is_result=is_result, parent=parent, base=base,
            target=text if is_result else f"{text}{os.sep}{manifest.MANIFEST}",
            marker=f"{parent}/.ingot/{stem}.failed.json",
            provenance=f"{parent}/.ingot/{stem}.provenance.json" if is_result else f"{text}/{manifest.PROVENANCE}",
            announced=f"{parent}/.ingot/{stem}.announced.json",
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<Step {self.name}>"

    def loaded(self) -> tuple[str, ...]:
        """The modules that `loads` names, as far as that is known now."""
        return self.loads() if callable(self.loads) else self.loads

    @property
    def storable(self) -> bool:
        """Whether its output may be kept in the store: an observation is made again instead."""
        return self.stored and not self.external_state and not self.alone

    @property
    def shareable(self) -> bool:
        """Whether its output may be fetched from a team's store, and put there."""
        return self.storable or (self.shared and not self.external_state and not self.alone)

    def files_read(self) -> list[str]:
        """The files that it reads: an artifact by its manifest, of the user's own each that counts.

        Without those of the optional steps, which it does not ask for.
        """
        found: list[str] = []
        for _, flag, item, _ in self.read:
            if not isinstance(item, Step):
                found += paths_of(str(item), self.belongs.get(flag))
            elif flag != "optional":
                found.append(item.target)
        return found

    def part(self, name: str) -> Part:
        """One of `parts`, as an input of another step."""
        assert name in self.parts, f"{self.name} has no part {name!r}"
        return Part(self, name)

    def arguments(
        self, out: str | Path, parameters: Mapping[str, Any], place: Callable[[str, Any], str] = _here
    ) -> list[str]:
        """The verb and its flags: inputs, parameters and scratch folders; the output goes to `out`.

        `parameters` are those of `Keys.parameters`; `place` says where a flag's step, part or path is, if not where it
        is here.
        """
        words = [self.verb]
        for name, item in flat({**self.inputs, **self.verdicts, **parameters, **self.scratch}):
            is_place = isinstance(item, Step | Part | Path)
            value = place(name, item) if is_place else item
            words += [f"--{name}", value if isinstance(value, str) else json.dumps(value)]
        return [*words, "--output", str(out)]


def leave_out(*patterns: str) -> tuple[str, ...]:
    """A part that is all but the files whose paths fit these patterns."""
    return tuple(f"!{pattern}" for pattern in patterns)


def flat(named: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Flags in order, lists spread, absent ones left out."""
    return [
        (name, item)
        for name, value in named.items()
        for item in (value if isinstance(value, tuple) else (value,))
        if item is not None
    ]


def in_order(wanted: Iterable[Step]) -> list[Step]:
    """The steps and all that they are made from, each after what it reads."""
    found: dict[Step, None] = {}
    pending: list[tuple[Step, bool]] = [(step, False) for step in reversed(list(wanted))]
    while pending:
        step, ready = pending.pop()
        if ready:
            found[step] = None
        elif step not in found:
            pending.append((step, True))
            pending += [(upstream, False) for upstream in reversed(step.upstream)]
    return list(found)

"""What doit alone does not do, each shown twice: doit alone fails it, the engine does not.

Every function below says whether a promise was kept. It is run under both; see `both`.
"""

from __future__ import annotations

import builtins
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import doit.dependency
import pytest

from scripts.engine import digests, sources
from scripts.engine.state import State
from tests.faults import both, forked
from tests.faults.both import Ingot, Plain


def promise(kept: Callable[[Any], bool]) -> Callable[[str, Path], None]:
    """Decorator: a test that holds under the engine, and fails under doit alone."""

    @pytest.mark.parametrize("kind", ["doit alone", "with the engine"])
    def test(kind: str, tmp_path: Path) -> None:
        trial = Ingot(tmp_path / "project") if kind == "with the engine" else Plain(tmp_path / "project")
        assert kept(trial) == (kind == "with the engine")
        for pid in forked.children_of(trial.folder):
            os.kill(pid, signal.SIGKILL)

    return test


def up_to_date(trial: Plain) -> bool:
    """Whether another run does nothing."""
    before = trial.runs("one") + trial.runs("two")
    assert trial.run()[0] == 0
    return trial.runs("one") + trial.runs("two") == before


@promise
def test_an_output_changed_by_hand_is_rebuilt(trial: Plain) -> bool:
    trial.run()
    trial.output("two").write_text("something else")
    trial.run()
    return trial.output("two").read_text() == "alpha and omega"


@promise
def test_a_truncated_output_is_rebuilt(trial: Plain) -> bool:
    trial.run()
    os.truncate(trial.output("one"), 3)
    trial.run()
    return trial.output("one").read_text() == "alpha and omega"


@promise
def test_an_edit_of_the_same_size_and_mtime_is_seen(trial: Plain) -> bool:
    trial.run()
    file = trial.folder / "src/a/x.txt"
    status = file.stat()
    file.write_text("omega and alpha")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    trial.run()
    return trial.output("two").read_text() == "omega and alpha"


@promise
def test_a_step_that_makes_nothing_fails(trial: Plain) -> bool:
    trial.declare([{"name": "two", "verb": "fail", "inputs": ["src/a"], "parameters": {"how": "silent"}}])
    if isinstance(trial, Ingot):
        return trial.run()[0] != 0
    trial.write("dodo.py", "def task_two():\n    return {'actions': ['true'], 'targets': ['build/two.txt']}\n")
    return trial.run()[0] != 0


@promise
def test_a_changed_parameter_is_seen(trial: Plain) -> bool:
    trial.run()
    trial.configure(suffix="!")
    trial.run()
    return trial.output("two").read_text() == "alpha and omega!"


@promise
def test_a_changed_action_is_seen(trial: Plain) -> bool:
    """Of the engine, the action is the code that a stage runs; so the project gets code of its own."""
    code = trial.folder / "code"
    if isinstance(trial, Ingot):
        for part in ("scripts", "tests/engine/stages"):
            shutil.copytree(sources.ROOT / part, code / part, ignore=shutil.ignore_patterns("__pycache__"))
        for package in ("tests", "tests/engine"):
            (code / package / "__init__.py").touch()

    def own_code() -> None:
        sources.ROOT = code
        os.environ["PYTHONPATH"] = str(code)

    trial.run(before=own_code)
    if isinstance(trial, Ingot):
        file, old, new = code / "tests/engine/stages/text/__main__.py", "file.read_text() + suffix", "'new' + suffix"
    else:
        file, old, new = trial.folder / "dodo.py", "cat build/one.txt >", "printf new >"
    file.write_text(file.read_text().replace(old, new))
    trial.run(before=own_code)
    return trial.output("two").read_text() == "new"


@promise
def test_a_new_tool_version_is_seen(trial: Plain) -> bool:
    tool = trial.folder / "a_tool-1.0.dist-info"
    tool.mkdir()
    if isinstance(trial, Ingot):
        trial.declare([{"name": "one", "verb": "copy", "inputs": ["src/a"], "tools": ["a-tool"]}])
    else:
        trial.write("dodo.py", "DOIT_CONFIG = {'verbosity': 2}\ndef task_one():\n    return {'actions': ['echo one >> "
                    "ran.txt; a-tool --version || true'], 'file_dep': ['src/a/x.txt']}\n")  # fmt: skip
    trial.run(before=lambda: sys.path.insert(0, str(trial.folder)))
    tool.rename(trial.folder / "a_tool-1.1.dist-info")
    trial.run(before=lambda: sys.path.insert(0, str(trial.folder)))
    return trial.runs("one") == 2


@promise
def test_a_folder_that_was_emptied_is_rebuilt(trial: Plain) -> bool:
    if not isinstance(trial, Ingot):
        trial.write("dodo.py", "def task_two():\n    return {'actions': ['mkdir -p build/two; echo a > build/two/a'], "
                    "'file_dep': ['src/a/x.txt'], 'targets': ['build/two']}\n")  # fmt: skip
    trial.run()
    file = trial.output("two") if isinstance(trial, Ingot) else trial.build / "two/a"
    file.unlink()
    trial.run()
    return file.exists()


@promise
def test_a_folder_can_be_an_input(trial: Plain) -> bool:
    if not isinstance(trial, Ingot):
        trial.write("dodo.py", "def task_two():\n    return {'actions': ['true'], 'file_dep': ['src/a']}\n")
    return trial.run()[0] == 0


@promise
def test_needing_a_file_of_an_artifact_builds_the_artifact(trial: Plain) -> bool:
    if not isinstance(trial, Ingot):
        trial.write("dodo.py", "def task_one():\n    return {'actions': ['mkdir -p build/one; echo a > build/one/a'], "
                    "'targets': ['build/one']}\ndef task_two():\n    return {'actions': ['cat build/one/a'], "
                    "'file_dep': ['build/one/a']}\n")  # fmt: skip
    return trial.run("two")[0] == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("kind", ["doit alone", "with the engine"])
def test_finished_work_survives_a_kill(kind: str, number: int, tmp_path: Path) -> None:
    trial = Ingot(tmp_path / "project") if kind == "with the engine" else Plain(tmp_path / "project")
    if isinstance(trial, Ingot):
        trial.declare([{"name": "one", "verb": "copy", "inputs": ["src/a"]},
                       {"name": "two", "verb": "copy", "inputs": ["one"], "parameters": {"delay": 60}}])  # fmt: skip
    else:
        trial.configure(then=["sleep 60"])
    pid = trial.begin("-n", "1")
    forked.wait_for(lambda: any(trial.build.glob(".work/two.*/two/*")) if isinstance(trial, Ingot)
                    else trial.runs("two"))  # fmt: skip
    both.kill(pid, number)
    for left in forked.children_of(trial.folder):
        os.kill(left, signal.SIGKILL)
    trial.configure(then=[])
    before = trial.runs("one")
    trial.run()
    assert (trial.runs("one") == before) == isinstance(trial, Ingot)


@promise
def test_a_kill_while_the_state_is_written_loses_nothing_of_it(trial: Plain) -> bool:
    def die_writing() -> None:
        real_open, real_put = builtins.open, State.put

        def opened(name: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
            file = real_open(name, mode, *rest, **named)
            if str(name).endswith(".doit.db") and "w" in mode:
                os.kill(os.getpid(), signal.SIGKILL)
            return file

        def put(state: State, kind: str, name: str, value: str) -> None:
            if kind != "receipt" or name != "two":
                return real_put(state, kind, name, value)
            state._run("begin immediate")
            real_put(state, kind, name, value)
            os.kill(os.getpid(), signal.SIGKILL)
            return None

        builtins.open = opened  # type: ignore[assignment]
        State.put = put  # type: ignore[assignment,method-assign]

    trial.configure(config={"backend": "json"})
    trial.run()
    trial.write("src/a/x.txt", "omega and alpha")
    assert forked.end(trial.begin(before=die_writing)) == -signal.SIGKILL
    return trial.run("list")[0] == 0 and trial.run()[0] == 0 and up_to_date(trial)


@promise
def test_a_corrupt_state_does_not_keep_doit_from_listing(trial: Plain) -> bool:
    trial.configure(config={"backend": "json"})
    trial.run()
    state = trial.build / "state.db" if isinstance(trial, Ingot) else trial.folder / ".doit.db"
    state.write_bytes(b"\x00noise\xff" * 500)
    return trial.run("list")[0] == 0


@promise
def test_switching_back_after_a_kill_does_not_trust_half_an_output(trial: Plain) -> bool:
    trial.run()
    trial.write("src/a/x.txt", "Something longer than before")
    trial.configure(delay=60)
    pid = trial.begin()
    if isinstance(trial, Ingot):
        trial.until_running("one")
    else:
        forked.wait_for(lambda: trial.runs("one") == 2 and trial.output("one").stat().st_size == 2)
    both.kill(pid)
    for left in forked.children_of(trial.folder):
        os.kill(left, signal.SIGKILL)
    trial.write("src/a/x.txt", "alpha and omega")
    trial.configure(delay=0)
    trial.run()
    return trial.output("one").read_text() == trial.output("two").read_text() == "alpha and omega"


@promise
def test_two_builds_at_once_build_everything_once(trial: Plain) -> bool:
    trial.configure(delay=1.0)
    first = trial.begin()
    trial.until_running("one")
    code, said = trial.run()
    waited = "waiting for another build" in said
    assert forked.end(first) == code == 0
    return trial.runs("one") <= 1 and waited


@promise
def test_an_input_that_changes_while_it_is_read_is_not_taken_for_built(trial: Plain) -> bool:
    trial.configure(delay=1.0)
    pid = trial.begin()
    trial.until_running("one")
    trial.write("src/a/x.txt", "something else entirely")
    forked.end(pid)
    trial.configure(delay=0 if isinstance(trial, Ingot) else 1.0)
    trial.run()
    return trial.output("two").read_text() == "something else entirely"


@promise
def test_an_empty_input_is_not_built_every_time(trial: Plain) -> bool:
    (trial.folder / "src/a/x.txt").unlink()
    if isinstance(trial, Ingot):
        trial.declare([{"name": "two", "verb": "join", "inputs": ["src/a"]}])
    else:
        trial.write("dodo.py", "from pathlib import Path\ndef task_two():\n    return {'actions': "
                    "['echo two >> ran.txt'], 'file_dep': list(map(str, Path('src/a').glob('*')))}\n")  # fmt: skip
    trial.run()
    assert trial.runs("two") == 1
    return up_to_date(trial)


def note_reads(trial: Plain) -> None:
    """In a fork: from now on an x in read.txt for each time that the text is hashed."""
    for module, name in ((doit.dependency, "get_file_md5"), (digests, "digest_file")):
        real = getattr(module, name)

        def noted(path: str, *rest: object, real: Callable[..., str] = real) -> str:
            if path.endswith("src/a/x.txt"):
                with (trial.folder / "read.txt").open("a") as file:
                    file.write("x")
            return real(path, *rest)

        setattr(module, name, noted)


@promise
def test_after_a_touch_a_file_is_read_once_and_never_again(trial: Plain) -> bool:
    trial.run(before=lambda: note_reads(trial))
    (trial.folder / "read.txt").write_text("")
    os.utime(trial.folder / "src/a/x.txt", (1, 1))
    for _ in range(3):
        trial.run(before=lambda: note_reads(trial))
    return (trial.folder / "read.txt").read_text() == "x"


@promise
def test_what_several_tasks_need_is_read_once(trial: Plain) -> bool:
    if isinstance(trial, Ingot):
        trial.declare([{"name": f"n{n}", "verb": "copy", "inputs": ["src/a"]} for n in range(3)])
    else:
        trial.write("dodo.py", "def task_n():\n    for n in range(3):\n        yield {'name': str(n), 'actions': "
                    "['true'], 'file_dep': ['src/a/x.txt']}\nDOIT_CONFIG = {}\n")  # fmt: skip
    assert trial.run(before=lambda: note_reads(trial))[0] == 0
    return (trial.folder / "read.txt").read_text() == "x"


@promise
def test_forget_works_without_default_tasks(trial: Plain) -> bool:
    dodo = (trial.folder / "dodo.py").read_text()
    trial.write("dodo.py", dodo.replace('"default_tasks": ["two"], ', "").replace("default_tasks=list(MADE)", ""))
    assert trial.run()[0] == 0
    code, said = trial.run("forget")
    return code == 0 and "Traceback" not in said and not up_to_date(trial)


@promise
def test_a_report_is_made_though_a_part_of_it_failed(trial: Plain) -> bool:
    if isinstance(trial, Ingot):
        trial.declare([{"name": "one", "verb": "fail", "inputs": ["src/a"]},
                       {"name": "two", "verb": "count", "verdicts": ["one"]}])  # fmt: skip
    else:
        trial.write("dodo.py", "def task_one():\n    return {'actions': ['false']}\ndef task_two():\n    return {"
                    "'actions': ['echo two >> ran.txt'], 'task_dep': ['one']}\n")  # fmt: skip
    code = trial.run("--continue", "two")[0]
    return code != 0 and trial.runs("two") == 1


@promise
def test_the_listed_status_tells_what_follows_a_stale_task(trial: Plain) -> bool:
    trial.run()
    trial.write("src/a/x.txt", "other")
    return "R two" in trial.run("list", "--status")[1]


@promise
def test_why_tells_old_and_new_and_runs_nothing(trial: Plain) -> bool:
    trial.configure(suffix="?")
    trial.run()
    trial.configure(suffix="!")
    before = trial.runs("one")
    code, said = trial.run("why")
    assert trial.runs("one") == before
    return code == 0 and '"?" → "!"' in said and "follows one" in said


@promise
def test_a_result_that_comes_out_otherwise_rebuilds_those_who_use_it(trial: Plain) -> bool:
    if isinstance(trial, Ingot):
        trial.declare([{"name": "one", "verb": "count", "inputs": ["src/a"]},
                       {"name": "two", "verb": "join", "inputs": ["one"]}])  # fmt: skip
    else:
        trial.write("dodo.py", "def size():\n    return {'size': len(open('src/a/x.txt').read())}\n"
                    "def use(size):\n    open('ran.txt', 'a').write('two ')\n"
                    "def task_one():\n    return {'actions': [size], 'file_dep': ['src/a/x.txt']}\n"
                    "def task_two():\n    return {'actions': [use], 'getargs': {'size': ('one', 'size')}, "
                    "'file_dep': ['dodo.py'], 'targets': []}\nDOIT_CONFIG = {'default_tasks': ['two']}\n")  # fmt: skip
    trial.run()
    trial.write("src/a/x.txt", "longer than it was before")
    trial.run()
    return trial.runs("two") == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_build_leaves_no_process_behind(number: int, tmp_path: Path) -> None:
    @promise
    def test(trial: Plain) -> bool:
        trial.configure(delay=60)
        pid = trial.begin()
        trial.until_running("one")
        both.kill(pid, number)
        time.sleep(0.3)
        return forked.children_of(trial.folder) == []

    for kind in ("doit alone", "with the engine"):
        test(kind, tmp_path / kind)


def test_what_a_child_has_started_dies_with_the_build(tmp_path: Path) -> None:
    trial = Ingot(tmp_path / "project")
    trial.declare([{"name": "one", "verb": "fail", "inputs": ["src/a"], "parameters": {"how": "grandchild"}}])
    pid = trial.begin()
    forked.wait_for(lambda: list(trial.build.glob(".work/one.*/started")))
    grandchild = int(next(trial.build.glob(".work/one.*/started")).read_text())
    both.kill(pid)
    time.sleep(0.3)
    assert not Path(f"/proc/{grandchild}").exists() or "Z" in Path(f"/proc/{grandchild}/stat").read_text()


@promise
def test_a_reader_that_goes_away_does_no_harm(trial: Plain) -> bool:
    doit = subprocess.Popen(trial.command(), cwd=trial.folder, env=trial.environment(PYTHONUNBUFFERED="1"),
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip
    assert doit.stdout and doit.stderr
    doit.stdout.close()
    said = doit.stderr.read()
    return doit.wait() == 0 and not said and trial.output("two").exists()


@promise
def test_tasks_that_run_together_keep_their_words_apart(trial: Plain) -> bool:
    if isinstance(trial, Ingot):
        trial.declare([{"name": f"say{n}", "verb": "fail", "inputs": ["src/a"], "parameters": {"how": "hang"},
                        "limits": {"seconds": 0.6}} for n in range(2)])  # fmt: skip
        trial.run("-n", "2")
        return all((trial.build / f"logs/say{n}.log").read_text() == "hanging\n" for n in range(2))
    trial.write("dodo.py", "import time\ndef say(word):\n    for _ in range(20):\n        print(word)\n"
                "        time.sleep(0.01)\ndef task_say():\n    for word in 'ab':\n        yield {'name': word, "
                "'actions': [(say, [word])], 'verbosity': 0}\nDOIT_CONFIG = {'reporter': 'json'}\n")  # fmt: skip
    said = trial.run("-n", "2", "-P", "thread")[1]
    try:
        return all(set(task["out"].split()) == {task["name"][-1]} for task in json.loads(said)["tasks"])
    except ValueError:  # the threads' words went astray altogether
        return False


@promise
def test_clean_removes_filled_folders(trial: Plain) -> bool:
    if not isinstance(trial, Ingot):
        trial.write("dodo.py", "def task_two():\n    return {'actions': ['mkdir -p build/two; echo a > build/two/a'], "
                    "'targets': ['build/two'], 'clean': True}\n")  # fmt: skip
    trial.run()
    trial.run("clean")
    return not (trial.build / "two").exists()


@promise
def test_two_builds_at_once_both_remember_what_they_did(trial: Plain) -> bool:
    shutil.copytree(trial.folder / "src/a", trial.folder / "src/c")
    if isinstance(trial, Ingot):
        trial.declare([{"name": n, "verb": "copy", "inputs": ["src/c"], "parameters": {"delay": 0.3}}
                       for n in ("one", "two")])  # fmt: skip
    else:
        trial.write("dodo.py", "def task_t():\n    for n in ('one', 'two'):\n        yield {'name': n, 'actions': "
                    "[f'echo {n} >> ran.txt; sleep 0.3; echo > {n}.txt'], 'file_dep': ['src/c/x.txt'], "
                    "'targets': [f'{n}.txt']}\nDOIT_CONFIG = {'backend': 'json'}\n")  # fmt: skip
    prefix = "" if isinstance(trial, Ingot) else "t:"
    pids = [trial.begin(f"{prefix}{name}") for name in ("one", "two")]
    assert [forked.end(pid) for pid in pids] == [0, 0]
    before = trial.runs("one") + trial.runs("two")
    said = trial.run()[1]
    return trial.runs("one") + trial.runs("two") == before and "built in" not in said

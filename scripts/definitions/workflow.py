"""A user's own Olive workflow, as a recipe names it: judged when it is read, as far as JSON tells.

It is a stranger's file, which may ask Olive to run scripts, to fetch data, or to work in other places. None of that is
done unless the recipe says `trust = true`: then the workflow may do on this machine whatever its user may.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from scripts.common.errors import IngotError
from scripts.common.typed import key_name, place, short
from scripts.definitions.passes import check_pass

#: What an entry under "passes" says beside its options.
PASS_KEYS = ("type", "config", "host", "evaluator")
#: Keys by which Olive 0.13 loads code that is not its own; of these, `SCRIPTS` name files or folders.
SCRIPTS = ("user_script", "script_dir", "model_script", "script_path")
_CODE = (
    *SCRIPTS, "trust_remote_code", "custom_script", "module_path", "model_loader", "python_environment_path",
    "environment_variables", "prepend_to_path", "requirements_file", "dockerfile",
)  # fmt: skip
#: Keys by which it writes, fetches or shares what a build does not.
_OUTSIDE = {
    "enable_shared_cache": "shares models through a cache elsewhere",
    "account_name": "names a cache elsewhere",
    "container_name": "names a cache elsewhere",
    "hf_token": "gives away this machine's token",
    "packaging_config": "writes packages of its own, where Ingot packages",
}
_TRUST = "Leave it out or, if you know all that it runs, say trust = true in its recipe"
_SYSTEMS = "works elsewhere than in this process"
#: Keys whose texts name nodes and tensors of a graph, which look like paths.
_NODES = re.compile(r"node|(?<!external_data_)(?<!file_)(?<!file)names?$|pattern|tensor|layer|op_type", re.IGNORECASE)
Passes = list[tuple[str, dict[str, Any]]]


def check(workflow: Any, *, trust: bool = False, file: object = "", where: str = "", target: str = "cpu") -> None:
    """Raise `IngotError` where it is not a workflow, has a mistake that can be seen, or asks for what is not done."""
    if not isinstance(workflow, dict) or not isinstance(workflow.get("passes"), dict) or not workflow["passes"]:
        raise IngotError(place(file, where), "has no passes", 'Give a whole Olive workflow, with "passes"')
    _check_input(workflow.get("input_model", {}), file, where)
    if not isinstance(workflow.get("engine") or {}, dict):
        raise IngotError(place(file, where, "engine"), f"expected a table, found {short(workflow['engine'])}", "")
    found = steps(workflow, file=file, where=where)
    for path, key, value in _below(_used(workflow), ()):
        providers = value if isinstance(value, list) else [value]
        if key == "execution_providers" and any(item != "CPUExecutionProvider" for item in providers):
            remedy = "Leave it out; the recipe's target says for which provider the model is made"
            raise IngotError(place(file, where, *path, key), f"{short(value)} is not used", remedy)
    if not trust:
        for path, what in _beyond(workflow):
            raise IngotError(place(file, where, *path), f"{what}, which is refused", _TRUST)
    for name, step in found:
        here = _join(where, "passes", key_name(name))
        check_pass(step.get("type"), options_of(step), file=file, where=here, target=target)


def steps(workflow: dict[str, Any], *, file: object = "", where: str = "") -> Passes:
    """The passes in order, by name; under one name there may be several, of which Olive tries each."""
    found: Passes = []
    for name, value in workflow["passes"].items():
        for step in value if isinstance(value, list) else [value]:
            if not isinstance(step, dict) or not isinstance(step.get("config") or {}, dict):
                subject = place(file, where, "passes", key_name(name))
                raise IngotError(subject, f"expected a table, found {short(step)}", 'Give "type"')
            found.append((name, step))
    return found


def scripts(workflow: Any) -> list[str]:
    """The files and folders of code that it names, each once."""
    if not isinstance(workflow, dict):
        return []
    used = _used(workflow)
    return list(dict.fromkeys(value for _, key, value in _below(used, ()) if key in SCRIPTS and _is_text(value)))


def with_scripts(value: Any, places: dict[str, str]) -> Any:
    """A workflow that names its code by where it is: `places` by the names that it gave."""
    if isinstance(value, list):
        return [with_scripts(item, places) for item in value]
    if isinstance(value, dict):
        return {
            key: places.get(item, item) if key in SCRIPTS and _is_text(item) else with_scripts(item, places)
            for key, item in value.items()
        }
    return value


def options_of(step: dict[str, Any]) -> dict[str, Any]:
    """What a pass is told, under "config" or beside it."""
    return {**{key: value for key, value in step.items() if key not in PASS_KEYS}, **(step.get("config") or {})}


def _check_input(model: Any, file: object, where: str) -> None:
    subject = place(file, where, "input_model")
    if not isinstance(model, dict) or not isinstance(model.get("config") or {}, dict):
        raise IngotError(subject, f"expected a table, found {short(model)}", "Leave it out: the build gives its own")
    if (model.get("config") or model).get("adapter_path"):
        found = "names an adapter, which the builder would not merge"
        raise IngotError(f"{subject}.adapter_path", found, "Give it as the model's adapters")


def _used(workflow: dict[str, Any]) -> dict[str, Any]:
    """A workflow without its input model, which is replaced."""
    return {key: value for key, value in workflow.items() if key != "input_model"}


def _beyond(workflow: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """What a workflow asks for beyond Olive's own passes on this machine: where it says so, and what it would do."""
    used = _used(workflow)
    for name, value in workflow["passes"].items():
        if isinstance(value, list) and len(value) != 1:
            yield ("passes", key_name(name)), f"has {len(value)} alternatives, of which Olive would choose one"
    for path, key, value in _below(used, ()):
        if key in _CODE and value not in (None, False, "", {}, []):
            yield (*path, key), "runs code that is not Olive's own"
        elif key in _OUTSIDE and value not in (None, False, "", {}, []):
            yield (*path, key), _OUTSIDE[key]
        elif key in ("host", "target") and isinstance(value, dict):
            yield from _strange_system((*path, key), value)
        elif key.endswith("evaluator") and isinstance(value, dict) and _kind(value) not in ("", "oliveevaluator"):
            yield (*path, key), "evaluates with a tool that fetches its data"
    for name, system in _entries(used.get("systems")):
        yield from _strange_system(("systems", name), system)
    for name, evaluator in _entries(used.get("evaluators")):
        if _kind(evaluator) not in ("", "oliveevaluator"):
            yield ("evaluators", name), "evaluates with a tool that fetches its data"
    for name, data in _entries(used.get("data_configs")):
        yield from _strange_data(("data_configs", name), data)
    replaced = ("output_dir", "cache_dir", "log_to_file")
    for path, text in _texts(used, ()):
        if path[-1] in replaced and path[:-1] in ((), ("engine",)):
            continue
        if "://" in text or text.lower().startswith(("azureml:", "http:", "https:", "file:")):
            yield path, f"names {short(text)}, which is not on this machine"
        elif not _NODES.search(path[-1] if not path[-1].startswith("[") else path[-2]) and _leads_out(text):
            yield path, f"names {short(text)}, which is outside of the build"


def _strange_system(path: tuple[str, ...], system: Any) -> Iterator[tuple[tuple[str, ...], str]]:
    if not isinstance(system, dict) or _kind(system) not in ("", "localsystem"):
        yield path, _SYSTEMS


def _strange_data(path: tuple[str, ...], data: Any) -> Iterator[tuple[tuple[str, ...], str]]:
    """Only made-up data is Olive's own: all else is read from files, or fetched."""
    kinds = [_kind(data)] if isinstance(data, dict) else [""]
    parts = [value for key, value in data.items() if key.endswith("_config")] if isinstance(data, dict) else []
    kinds += [_kind(part) for part in parts if isinstance(part, dict) and part.get("type")]
    if any("dummy" not in kind and "default" not in kind for kind in kinds):
        yield path, "reads data that is not the build's"


def _kind(value: Any) -> str:
    return str(value.get("type") or "").lower() if isinstance(value, dict) else ""


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((key_name(key), item) for key, item in value.items())
    elif isinstance(value, list):
        yield from ((f"[{number}]", item) for number, item in enumerate(value, 1))


def _leads_out(text: str) -> bool:
    """Whether a text would be a path out of the folder that it is looked up in, on any system."""
    kinds = (PurePosixPath(text), PureWindowsPath(text))
    return any(path.is_absolute() or path.drive or ".." in path.parts for path in kinds) or text.startswith("~")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _texts(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, str):
        yield path, value
    for name, item in _entries(value):
        yield from _texts(item, (*path, name))


def _below(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str, Any]]:
    """Every key in it, however deep, with the way there and its value."""
    items = value.items() if isinstance(value, dict) else enumerate(value, 1) if isinstance(value, list) else ()
    for key, item in items:
        if isinstance(key, str):
            yield path, key, item
        yield from _below(item, (*path, key_name(key) if isinstance(key, str) else f"[{key}]"))


def _join(*parts: str) -> str:
    return place("", *parts)

"""Where a folder has its model and its adapter: as trainers, MLflow, Azure ML, Olive and the hub leave them.

Only names and small JSON files are looked at. Whether what is found can be built, `scripts.checkpoint` judges.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.checkpoint.layout import PICKLES
from scripts.checkpoint.user_json import json_object
from scripts.checkpoint.weights import trainer_checkpoints
from scripts.common.errors import IngotError
from scripts.common.model_files import INDEX, MODEL_FOLDERS, is_weight_file

#: Folders below the one that is named are looked at so deep.
DEPTH = 2
_CONFIG, _ADAPTER = "config.json", "adapter_config.json"
#: What is never a place of the user's own: hidden folders, what Ingot makes, and what trainers leave.
_PASSED_OVER = re.compile(r"\..*|build|runs|wandb|__pycache__|global_step\d+|checkpoint-\d+")
#: GGUF files of something else: what sees pictures, an adapter, a matrix of importance.
_LORA = re.compile(r"adapter|lora", re.IGNORECASE)
_NO_MODEL = re.compile(rf"mmproj|imatrix|{_LORA.pattern}", re.IGNORECASE)
_SNAPSHOT = re.compile(r"models--(?P<owner>.+?)--(?P<name>.+)")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Found:
    """`source` is a folder or a GGUF file; `notes` say what was chosen on the way."""

    source: Path
    adapters: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def look(path: Path, adapters: list[Path]) -> Found:
    """The model in `path`, and the adapters to merge: those named, else the one that is there.

    Raises `IngotError` where there is none, or no saying which.
    """
    if not path.exists():
        raise IngotError(path, "there is no such folder", "Name the folder of the model, or of its adapter")
    if path.is_file():
        return Found(_file(path), tuple(adapters))
    path, notes = snapshot(path)
    chosen = adapters or list(_below(path, _adapters))
    if len(chosen) > 1 and not adapters:
        raise IngotError(path, f"holds several adapters: {_listed(path, chosen)}", "Choose: --adapter FOLDER")
    models = list(_below(path, _models))
    if chosen and not adapters and len(models) != 1:
        source, why = _base(chosen[0], models)
        return Found(source, tuple(chosen), (*notes, *why))
    if len(models) > 1:
        raise IngotError(path, f"holds several models: {_listed(path, models)}", "Name the folder of one of them")
    if not models:
        found = "holds no model: neither config.json with weights, nor a .gguf, nor an adapter"
        raise IngotError(path, found, "Name the folder of the model, or of its adapter")
    left = [f"{item.name} is left out: an adapter as GGUF is not read" for item in sorted(path.glob("*.gguf"))
            if _LORA.search(item.name)]  # fmt: skip
    return Found(models[0], tuple(chosen), (*notes, *left))


def snapshot(path: Path) -> tuple[Path, tuple[str, ...]]:
    """Of a model's folder in a cache of the hub, the snapshot in use; any other folder as it is."""
    if not _SNAPSHOT.fullmatch(path.name) or not (path / "snapshots").is_dir():
        return path, ()
    main = path / "refs" / "main"
    there = sorted(folder.name for folder in (path / "snapshots").iterdir() if folder.is_dir())
    commit = main.read_text(encoding="utf-8").strip() if main.is_file() else there[0] if len(there) == 1 else ""
    if commit not in there:
        raise IngotError(path / "snapshots", f"holds {len(there)} snapshots, and none is the main one", "Name one")
    return path / "snapshots" / commit, (f"the snapshot is {commit}",)


def of_hub(path: Path) -> tuple[str, str] | None:
    """Name and commit of a snapshot in the machine's own cache of the hub; None of any other folder."""
    from huggingface_hub.constants import HF_HUB_CACHE

    found = _SNAPSHOT.fullmatch(path.parent.parent.name)
    own = Path(HF_HUB_CACHE).expanduser()
    if not found or not _COMMIT.fullmatch(path.name) or not own.is_dir():
        return None
    return (f"{found['owner']}/{found['name']}", path.name) if path.parents[2].samefile(own) else None


def is_in_hub_cache(path: Path) -> bool:
    """Whether a path lies in any cache of the hub, which is no place for a file of one's own."""
    return any(_SNAPSHOT.fullmatch(folder.name) for folder in (path, *path.parents))


def _file(path: Path) -> Path:
    if path.suffix == ".gguf":
        return path
    if is_weight_file(path.name) and (path.parent / _CONFIG).is_file():
        return path.parent
    raise IngotError(path, "is neither a folder nor a .gguf file", "Name the folder of the model, or of its adapter")


def _below(path: Path, kind: Callable[[Path], list[Path]], depth: int = DEPTH) -> Iterator[Path]:
    """What is of a kind in a folder and, unless it is the folder itself, in the folders below."""
    found = kind(path)
    yield from found
    if depth and not any(place == path or (place.parent == path and place.is_dir()) for place in found):
        for folder in subfolders(path):
            yield from _below(folder, kind, depth - 1)


def subfolders(path: Path) -> list[Path]:
    """The folders in a folder that may be the user's own, by name."""
    return sorted(item for item in path.iterdir() if item.is_dir() and not _PASSED_OVER.fullmatch(item.name))


def _models(folder: Path) -> list[Path]:
    if is_model(folder):
        return [folder]
    if last := [found for found in trainer_checkpoints(folder, _CONFIG) if is_model(found)]:
        return last[-1:]
    return sorted(path for path in folder.glob("*.gguf") if not _NO_MODEL.search(path.name))


def is_model(folder: Path) -> bool:
    """Whether a folder holds a config and weights, directly or where jobs put them."""
    for place in (folder, *(folder / name for name in MODEL_FOLDERS)):
        if (place / _CONFIG).is_file():
            return any(_is_weights(path) for path in place.iterdir())
    return False


def _is_weights(path: Path) -> bool:
    if path.name.startswith(("adapter_", "training_args", "optimizer", "scheduler", "rng_state")):
        return False
    return path.name == INDEX or is_weight_file(path.name) or path.suffix in PICKLES


def _adapters(folder: Path) -> list[Path]:
    """An adapter's folder; of a trainer's run that has none but in its checkpoints, the last of these."""
    return [folder] if (folder / _ADAPTER).is_file() else trainer_checkpoints(folder, _ADAPTER)[-1:]


def _base(adapter: Path, models: list[Path]) -> tuple[Path, tuple[str, ...]]:
    """The model that an adapter was trained on: where its config says, else what lies beside it."""
    file = adapter / _ADAPTER
    value = json_object(file, "Name the folder that peft's save_pretrained wrote").get("base_model_name_or_path")
    name = value if isinstance(value, str) else ""
    last = re.split(r"[\\/]", name.rstrip("\\/"))[-1].lower()
    beside = models or next(filter(None, (_around(adapter, folder) for folder in adapter.parents[:2])), [])
    named = [
        place
        for root in (adapter, *adapter.parents[:2], Path.cwd())
        if name
        for place in [root / _expanded(name)]
        if _exists(place) and (_models(place) or place.suffix == ".gguf")
    ]
    if named:
        return named[0].resolve(), (f"its base is {name}, as {_ADAPTER} says",)
    alike = [path for path in beside if last in (path.name.lower(), path.stem.lower())]
    if len(alike) == 1:
        return alike[0], (f"its base is {alike[0].name}, which {_ADAPTER} names",)
    if cached := _cached(name):
        return cached, (f"its base is {name}, out of the hub's cache",)
    if len(beside) == 1:
        told = f"names {name!r}, which is not here" if name else "names none"
        return beside[0], (f"its base: {_ADAPTER} {told}; taken is {beside[0].name}, the only model beside it",)
    others = f", and there are several models beside it: {_listed(adapter.parent, beside)}" if beside else ""
    found = f"names {json.dumps(name)} as its base, which is not on this machine{others}"
    raise IngotError(file, found, "Fetch it, and name it first: doit init BASE --adapter ADAPTER")


def _around(adapter: Path, folder: Path) -> list[Path]:
    """The models in a folder and directly below it, but those that hold the adapter itself."""
    found = [path for place in (folder, *subfolders(folder)) for path in _models(place)]
    return [path for path in dict.fromkeys(found) if path not in (adapter, *adapter.parents)]


def _expanded(name: str) -> Path:
    """A stranger's path: one below nobody's home stays as it is written, and so is not there."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _cached(name: str) -> Path | None:
    """The snapshot of a hub model in the machine's own cache."""
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = Path(HF_HUB_CACHE).expanduser() / f"models--{name.replace('/', '--')}"
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or not folder.is_dir():
        return None
    try:
        found, _ = snapshot(folder)
    except IngotError:
        return None
    return found if is_model(found) else None


def _listed(start: Path, paths: list[Path]) -> str:
    shown = [os.path.relpath(path, start) for path in paths]
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")

"""Which safetensors files of a folder are the model's, and what each holds; only headers are read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from scripts.checkpoint.headers import Tensor, read_safetensors
from scripts.checkpoint.user_json import json_object
from scripts.common.errors import IngotError
from scripts.common.model_files import INDEX, files_in, is_weight_file
from scripts.results.remarks import Remark

SINGLE = "model.safetensors"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d+)-of-(?P<count>\d+)\.safetensors")
#: In all files together; the largest model that is known has a fifth of it.
_MOST_TENSORS = 1 << 19
AN_ADAPTER = ("an adapter, not a checkpoint", "Name its base model as `source` and this folder in `adapters`")
#: What trainers keep of a model that is spread over GPUs, and what makes weights of it.
_STATES = (
    ("pytorch_model_fsdp_*", "FSDP", "Merge it: accelerate merge-weights pytorch_model_fsdp_0 OUTPUT"),
    ("global_step*", "DeepSpeed", "Gather the weights: python zero_to_fp32.py . OUTPUT --safe_serialization"),
)
_SAVE_AGAIN = "Save the checkpoint again"


@dataclass(frozen=True)
class Layout:
    """The files in use; each tensor and the file that holds it; the index that came with them, if one did."""

    files: tuple[Path, ...]
    tensors: dict[str, Tensor]
    places: dict[str, Path]
    index: Path | None
    remarks: tuple[Remark, ...]


def find_weights(folder: Path) -> Layout:
    """The weights of a checkpoint's folder. Raises `IngotError` where there are none, or no saying which."""
    index, single = folder / INDEX, folder / SINGLE
    if index.exists():
        names = _weight_map(index)
        shards = sorted(set(names.values()))
        there = [shard for shard in shards if _is_there(folder, shard)]
        if there == shards:
            ignored = () if not single.exists() or SINGLE in shards else (_stray(single),)
            return _read(index, tuple(folder / shard for shard in shards), names, ignored)
        if there or not single.exists():
            lost = next(shard for shard in shards if shard not in there)
            if Path(lost).name != lost:
                raise IngotError(
                    index, f"names {lost}, which is not beside it", "Put the shards into the index's folder"
                )
            raise IngotError(folder / lost, f"shard is missing that {index.name} names", "Fetch it, or save again")
        left = Remark(INDEX, f"ignored: none of the {len(shards)} files that it names is there; {SINGLE} is used")
        return _read(None, (single,), None, (left,))
    if single.exists():
        return _read(None, (single,), None, ())
    others = files_in(folder, is_weight_file)
    if len(others) == 1:
        taken = Remark(others[0].name, f"taken as the weights: it is the only safetensors file, though not {SINGLE}")
        return _read(None, tuple(others), None, (taken,))
    if _is_whole_set([path.name for path in others]):
        taken = Remark(INDEX, f"not there: the {len(others)} shards, a complete set by their names, are all used")
        return _read(None, tuple(others), None, (taken,))
    raise IngotError(folder, *_no_weights(folder, others))


def _read(
    index: Path | None, files: tuple[Path, ...], names: dict[str, str] | None, remarks: tuple[Remark, ...]
) -> Layout:
    tensors: dict[str, Tensor] = {}
    places: dict[str, Path] = {}
    for file in files:
        held = read_safetensors(file)
        if len(held) + len(tensors) > _MOST_TENSORS:
            raise IngotError(file, f"with those before it, more than {_MOST_TENSORS} tensors", _SAVE_AGAIN)
        if twice := sorted(set(held) & set(tensors)):
            name = twice[0]
            found = f"holds {name}, which {places[name].name} holds too"
            raise IngotError(file, found, f"Keep {name} in one of them: {_SAVE_AGAIN.lower()}")
        tensors |= held
        places |= dict.fromkeys(held, file)
    if index and names and (lost := sorted(set(names) - set(tensors))):
        raise IngotError(index, f"names {len(lost)} tensors that no shard holds, {lost[0]} the first", _SAVE_AGAIN)
    return Layout(files, tensors, places, index, remarks)


def _is_there(folder: Path, shard: str) -> bool:
    try:
        return Path(shard).name == shard and (folder / shard).is_file()
    except (OSError, ValueError):  # a name that is too long, or none that a file can have
        return False


def _weight_map(index: Path) -> dict[str, str]:
    names = json_object(index, _SAVE_AGAIN).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(shard, str) for shard in names.values()):
        raise IngotError(index, "has no weight_map of tensors and files", _SAVE_AGAIN)
    return names


def _stray(single: Path) -> Remark:
    return Remark(single.name, f"ignored: {INDEX} names other files, and all of them are there")


def _is_whole_set(names: list[str]) -> bool:
    found = [match for name in names if (match := _SHARD.fullmatch(name))]
    counts = {(match["stem"], int(match["count"])) for match in found}
    if len(found) != len(names) or len(counts) != 1:
        return False
    count = counts.pop()[1]
    return len(found) == count and sorted(int(match["number"]) for match in found) == list(range(1, count + 1))


def _no_weights(folder: Path, others: list[Path]) -> tuple[str, str]:
    if others:
        listed = ", ".join(path.name for path in others[:4])
        remedy = f"Keep one model in the folder, or write the {INDEX} that belongs to these files"
        return f"no {SINGLE} and no index, but {len(others)} other weights files ({listed})", remedy
    if pickled := sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES):
        remedy = 'Pickle can run code; save as safetensors: model.save_pretrained("FOLDER", safe_serialization=True)'
        return f"weights only as pickle ({pickled[0]})", remedy
    if (folder / "adapter_config.json").exists():
        return AN_ADAPTER
    for pattern, who, remedy in _STATES:
        if states := sorted(folder.glob(pattern)):
            return f"no weights, but what {who} keeps while it trains ({states[0].name})", remedy
    return f"no weights ({SINGLE})", "Name the folder that holds the checkpoint"

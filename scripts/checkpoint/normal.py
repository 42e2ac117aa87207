"""A checkpoint's folder in normal form: what transformers, the builder and every other reader takes the same way.

Links to the user's files wherever these are so already; else the config, the index or the weights' names are written
anew. Weights keep their bytes.
"""

from __future__ import annotations

import copy
import errno
import json
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from scripts.checkpoint import foreign, ids, positions, quantised, tensors, vocabulary
from scripts.checkpoint.layout import SINGLE
from scripts.checkpoint.plausible import text_settings
from scripts.checkpoint.speech import Speech
from scripts.checkpoint.user_json import has_bom, json_object
from scripts.checkpoint.weights import Checkpoint
from scripts.common import json_files
from scripts.common.model_files import INDEX, files_in, is_companion, is_tokenizer_file
from scripts.results.remarks import Remark

_CONFIG, _GENERATION = "config.json", "generation_config.json"
_FLOATS = ("float64", "float32", "float16", "bfloat16")


class Normal:
    """What a checkpoint becomes in normal form: its config as it must read, and tensors under other names."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.config: dict[str, Any] = copy.deepcopy(checkpoint.config)
        if checkpoint.quantised:
            quantised.forget(self.config)
        if checkpoint.is_packed:
            self._say_dtype()
        self.renamed: dict[str, str] = {}
        self._said: list[Remark] = []
        self.generation_config = self.generation()

    @property
    def changed(self) -> bool:
        """Whether the config must be written anew."""
        return self.config != self.checkpoint.config or has_bom(self.checkpoint.path / _CONFIG)

    def _say_dtype(self) -> None:
        """Have the config name the type that holds every weight: what is de-quantised is mostly float32."""
        held = {tensor.dtype for tensor in self.checkpoint.tensors.values()}
        dtype = {"BF16": "bfloat16", "F16": "float16"}.get(held.pop(), "float32") if len(held) == 1 else "float32"
        for part in (self.config, text_settings(self.config)):
            part |= {key: dtype for key in ("dtype", "torch_dtype") if key in part}
        if not {"dtype", "torch_dtype"} & set(self.config):
            self.config["dtype"] = dtype

    def count_rows(self) -> None:
        """Take the number of tokens from the embedding: that is what there are weights for."""
        rows, settings = vocabulary.rows_of(self.checkpoint.tensors), text_settings(self.config)
        if rows is not None and settings.get("vocab_size") != rows:
            before = f"in place of {settings['vocab_size']}" if settings.get("vocab_size") else "as it says none"
            what = f"vocab_size is {rows}, the embedding's rows, {before}"
            self._said.append(Remark(_CONFIG, what))
            settings["vocab_size"] = rows

    def untie_where_told_apart(self, model: Any) -> None:
        """Take the config's word that head and embedding are one only where the files do not hold two."""
        found = {self.renamed.get(name, name): name for name in self.checkpoint.tensors}
        names = {id(value): name for name, value in model.named_parameters(remove_duplicate=False)}
        head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
        pair = [found.get(names.get(id(layer.weight), "")) for layer in (head, embedding) if layer is not None]
        settings = model.config.get_text_config()
        if len(pair) < 2 or None in pair or not settings.tie_word_embeddings or pair[0] == pair[1]:
            return
        places, all_tensors = self.checkpoint.places, self.checkpoint.tensors
        if tensors.same(*((places[name], all_tensors[name]) for name in pair if name)):
            return
        for part in (self.config, text_settings(self.config)):
            part["tie_word_embeddings"] = False
        model.config.tie_word_embeddings = False
        what = "is not the embedding, though config.json says that the two are tied: both are kept"
        self._said.append(Remark(str(pair[0]), what))

    def forget_foreign_keys(self, model: Any) -> None:
        """Leave out what the config says to readers other than the class of `model`."""
        for key in foreign.forget(self.config, model.config, type(model)):
            self._said.append(Remark(_CONFIG, f"{key} left out: {type(model).__name__} does not use it"))

    def settle_config(self) -> None:
        """Have the config say one thing of positions, and no ids without a row, types or tables that are none."""
        self._said += positions.settle(self.checkpoint.path / _CONFIG, self.config)
        if rows := vocabulary.rows_of(self.checkpoint.tensors):
            self._said += ids.drop_beyond(_CONFIG, self.config, rows)
        for key in ("dtype", "torch_dtype"):
            if self.config.get(key) not in (None, *_FLOATS):
                what = f"{key} {self.config.pop(key)!r} is left out: the files say what their tensors are"
                self._said.append(Remark(_CONFIG, what))
        for key in ("quantization_config", "auto_map"):
            if key in self.config and not (self.config[key] and key == "quantization_config"):
                self.config.pop(key)
                if key == "auto_map":
                    what = (
                        f"auto_map left out: {self.checkpoint.architecture} is transformers' own, no other code is run"
                    )
                    self._said.append(Remark(_CONFIG, what))

    def notice_what_is_assumed(self, model: Any) -> None:
        """Say which of the class's own values stand for what the config leaves open, or refuse those against it."""
        positions.check_original(self.checkpoint.path / _CONFIG, self.config, model)
        self._said += positions.assumed(self.checkpoint.path / _CONFIG, self.config, model)

    def generation(self) -> dict[str, Any] | None:
        """generation_config.json as it must read, where that is not as it stands."""
        path = self.checkpoint.path / _GENERATION
        if not path.is_file():
            return None
        value = json_object(path, "Remove it, or copy it from the base model")
        rows = vocabulary.rows_of(self.checkpoint.tensors)
        said = ids.drop_beyond(_GENERATION, value, rows) if rows else []
        self._said += said
        return value if said else None

    def remarks(self, left: Collection[str]) -> list[Remark]:
        """What there is to say; `left` are tensors that no model of this class has a use for."""
        said = list(self._said)
        if self.renamed:
            first = min(self.renamed)
            what = f"{len(self.renamed)} tensors renamed, {first} to {self.renamed[first]} the first"
            said.append(Remark("weights", what))
        if left:
            named = sorted(left)
            more = f" and {len(named) - 1} more" if len(named) > 1 else ""
            said.append(Remark("weights", f"not used by this class of model: {named[0]}{more}"))
        return said


def write_normal(normal: Normal, spoken: Speech, output: Path, made: Path | None = None) -> list[str]:
    """Write the folder; returns what had to be copied because links can't be made.

    Weights in the folder `made` were written for this: they are moved.
    """
    checkpoint, copied = normal.checkpoint, []

    def bring(path: Path, name: str) -> None:
        if has_bom(path) and path.suffix == ".json":
            (output / name).write_text(path.read_text(encoding="utf-8-sig"), encoding="utf-8", newline="\n")
        elif path.parent == made:
            path.replace(output / name)
        elif not symlink(path, output / name):
            copied.append(name)

    for path in files_in(checkpoint.path, is_companion):
        if not is_tokenizer_file(path.name) and path.name != _CONFIG:
            bring(path, path.name)
    if normal.generation_config:
        (output / _GENERATION).unlink(missing_ok=True)
        json_files.write(output / _GENERATION, normal.generation_config)
    if normal.changed:
        json_files.write(output / _CONFIG, normal.config)
    else:
        bring(checkpoint.path / _CONFIG, _CONFIG)
    for name, path in spoken.files.items():
        bring(path, name)
    for name, text in spoken.written.items():
        (output / name).write_text(text, encoding="utf-8", newline="\n")
    _write_weights(normal, output, bring)
    return copied


def _write_weights(normal: Normal, output: Path, bring: Any) -> None:
    checkpoint = normal.checkpoint
    alone = len(checkpoint.weights) == 1 and checkpoint.index is None
    for path in checkpoint.weights:
        name = SINGLE if alone else path.name
        if normal.renamed:
            own = {key: checkpoint.tensors[key] for key, place in checkpoint.places.items() if place == path}
            tensors.write_renamed(path, output / name, own, normal.renamed)
        else:
            bring(path, name)
    if checkpoint.index and not normal.renamed and not has_bom(checkpoint.index):
        bring(checkpoint.index, INDEX)
    elif not alone:
        names = {normal.renamed.get(key, key): path.name for key, path in sorted(checkpoint.places.items())}
        total = sum(tensor.end - tensor.start for tensor in checkpoint.tensors.values())
        text = json.dumps({"metadata": {"total_size": total}, "weight_map": names}, indent=2)
        (output / INDEX).write_text(text + "\n", encoding="utf-8", newline="\n")


def symlink(target: Path, link: Path) -> bool:
    """Make `link` point to `target`; where the system has no symlinks or forbids them, copy and return False."""
    try:
        # The folder is resolved but not the file: in the hub's cache a file is itself a link with a telling name.
        link.symlink_to(target.parent.resolve() / target.name)
    except OSError as error:
        forbidden = error.errno in (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS)
        if not forbidden and getattr(error, "winerror", None) != 1314:  # ERROR_PRIVILEGE_NOT_HELD
            raise
        shutil.copyfile(target, link)
        return False
    return True

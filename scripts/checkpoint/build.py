"""Make the checkpoint folder that the rest of the build reads: linked where nothing changes, written where it does."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from scripts.checkpoint import preflight
from scripts.checkpoint.sources import Opened, Source, opened
from scripts.common import json_files
from scripts.common.errors import IngotError
from scripts.common.model_files import INDEX, files_in, is_companion, is_legal_file, is_tokenizer_file


def build(
    source: Source,
    output: Path,
    *,
    adapters: Sequence[Path] = (),
    weights: Sequence[float] | None = None,
    downloads: Path | None = None,
    precisions: int = 0,
) -> None:
    """Write a Hugging Face checkpoint to `output`: config, safetensors, tokenizer, license.

    A folder without adapters becomes symlinks to its files. With adapters, or out of GGUF, the weights are float32.
    `weights`: a factor for each adapter, 1.0 where not given. `precisions`: how many will be made of it, so that a
    machine too small for them is told now and not half an hour later. Raises `IngotError` for what the user can mend,
    before anything heavy is imported.
    """
    factors = [1.0] * len(adapters) if weights is None else list(weights)
    if len(factors) != len(adapters):
        found = f"{len(factors)} weights for {len(adapters)} adapters"
        raise IngotError("weights", found, "Give one number for each adapter")
    with (
        tempfile.TemporaryDirectory(dir=output.parent) as scratch,
        opened(source, Path(scratch), downloads) as origin,
    ):
        for adapter, factor in zip(adapters, factors, strict=True):
            preflight.check_adapter(adapter, origin.checkpoint, factor)
        rewritten = bool(adapters) or origin.checkpoint.path.is_file()
        need = preflight.estimate(origin.checkpoint.parameters, rewritten=rewritten, precisions=precisions)
        preflight.check_room(need, output.parent)
        work = Path(scratch) / "checkpoint"
        work.mkdir()
        if rewritten:
            _write(origin, work, adapters, factors)
        else:
            _link(origin, work)
        work.rename(output)


def _link(origin: Opened, output: Path) -> None:
    """Symlinks, never hard links: the user's inodes stay untouched by whatever Ingot does to its own files."""
    checkpoint = origin.checkpoint
    index = [checkpoint.path / INDEX] if len(checkpoint.weights) > 1 else []
    copied = []
    for path in (*files_in(checkpoint.path, is_companion), *index, *checkpoint.weights):
        if not symlink(path, output / path.name):
            copied.append(path.name)
    if copied:
        print(f"checkpoint: no right to make symlinks here, so copied {', '.join(copied)}", flush=True)


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


def _write(origin: Opened, output: Path, adapters: Sequence[Path], factors: Sequence[float]) -> None:
    from scripts.checkpoint import merge

    checkpoint = origin.checkpoint
    print(f"checkpoint: reading {checkpoint.parameters / 1e6:.0f} million parameters in float32", flush=True)
    if checkpoint.path.is_file():
        with merge.parsed_once():
            model = merge.load(checkpoint)
            context = getattr(model.config, "max_position_embeddings", None)
            merge.load_gguf_tokenizer(checkpoint.path, context).save_pretrained(output)
    else:
        model = merge.load(checkpoint)
    for adapter in adapters:
        if files_in(adapter, is_tokenizer_file):
            print(f"checkpoint: {adapter.name} has tokenizer files of its own; the base model's are used", flush=True)
    tied = merge.save(merge.merge(model, adapters, factors), output)
    if checkpoint.path.is_dir():
        _copy_companions(checkpoint.path, output, tied=tied)
    for path in origin.licenses:
        shutil.copyfile(path, output / path.name)


def _copy_companions(folder: Path, output: Path, *, tied: bool) -> None:
    """The user's own files rather than what transformers rewrites them to; the config changes where it must."""
    for path in files_in(folder, is_companion):
        if not is_legal_file(path.name) and path.name != "config.json":
            shutil.copyfile(path, output / path.name)
    config = json_files.read(folder / "config.json")
    for key in ("dtype", "torch_dtype"):
        if key in config:
            config[key] = "float32"
    if not {"dtype", "torch_dtype"} & set(config):
        config["dtype"] = "float32"
    if not tied and config.get("tie_word_embeddings") is not False:
        config["tie_word_embeddings"] = False  # said aloud, because many families tie by default
    json_files.write(output / "config.json", config)

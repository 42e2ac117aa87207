"""Make the checkpoint folder that the rest of the build reads: linked where nothing changes, written where it does.

Before anything is made, the input is held against truths of its own: its tensors against the class that its config
names, an adapter's against peft, its tokenizer against the embedding, its numbers against being numbers.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.checkpoint import preflight, speech, tokenizer, vocabulary
from scripts.checkpoint.adapters import WEIGHTS, Adapter, trained_on_quantised
from scripts.checkpoint.layout import find_weights
from scripts.checkpoint.sources import Opened, Source, opened
from scripts.checkpoint.spilled import Spill
from scripts.checkpoint.weights import Checkpoint
from scripts.common import context as contexts
from scripts.common import json_files
from scripts.common.errors import IngotError
from scripts.common.model_files import ADAPTER, files_in, is_companion, is_tokenizer_file
from scripts.results import remarks
from scripts.results.remarks import Remark


@dataclass
class _Work:
    """One build under way."""

    origin: Opened
    adapters: list[Adapter]
    template: str | None
    scratch: Path
    needs_template: bool = True
    remarks: list[Remark] = field(default_factory=list)

    @property
    def checkpoint(self) -> Checkpoint:
        return self.origin.checkpoint


def build(
    source: Source,
    output: Path,
    *,
    adapters: Sequence[Path] = (),
    weights: Sequence[float] | None = None,
    template: str | None = None,
    needs_template: bool = True,
    context: tuple[int | None, int | None] | None = None,
    exporter: str | None = None,
    downloads: Path | None = None,
    makes: float = 0,
    serves_float: bool = False,
) -> None:
    """Write a Hugging Face checkpoint to `output`: config, safetensors, tokenizer, license, and remarks on them.

    A folder without adapters becomes symlinks to its files. With adapters, or out of GGUF, the weights are float32.
    `weights`: a factor for each adapter, 1.0 where not given. `template`: a file with the chat template, or the name of
    one that is there; without `needs_template` there may be none, or none by default. `makes`: how many bytes a
    parameter will be made of it, and whether any of that `serves_float` weights; `context`: the tokens that its
    packages are asked to have and to write; `exporter`: who is asked to export it: what does not fit machine or model
    is told now and not half an hour later. Raises `IngotError` for what the user can correct, before any weight is
    loaded.
    """
    factors = [1.0] * len(adapters) if weights is None else list(weights)
    if len(factors) != len(adapters):
        found = f"{len(factors)} weights for {len(adapters)} adapters"
        raise IngotError("weights", found, "Give one number for each adapter")
    with (
        tempfile.TemporaryDirectory(dir=output.parent) as scratch,
        opened(source, Path(scratch), downloads) as origin,
    ):
        alone = len(adapters) < 2
        checked = [
            preflight.check_adapter(path, factor, alone=alone) for path, factor in zip(adapters, factors, strict=True)
        ]
        said = list(origin.checkpoint.remarks)
        work = _Work(origin, checked, template, Path(scratch), needs_template, said)
        preflight.check_room(_estimate(work, makes, serves_float, context), output.parent)
        preflight.check_exporter(work.checkpoint, exporter)
        if context:
            preflight.check_context(work.checkpoint, *context)
        if needs_template:
            preflight.check_template(work.checkpoint, checked, template)
        _check_adapters(work)
        work.remarks += _left_beside(work.checkpoint.path, adapters)
        made = Path(scratch) / "checkpoint"
        made.mkdir()
        (_from_gguf if work.checkpoint.path.is_file() else _from_folder)(work, made)
        tokenizer.try_out(made, work.checkpoint.path)
        remarks.write(made, work.remarks)
        for remark in remarks.read(made):
            print(f"checkpoint: {remark.subject}: {remark.text}", flush=True)
        made.rename(output)


def _estimate(
    work: _Work, makes: float, serves_float: bool, context: tuple[int | None, int | None] | None
) -> preflight.Estimate:
    """What this build, and all that is made of it, will take of the machine."""
    checkpoint, served = work.checkpoint, 0
    if context:
        served = preflight.served_context(checkpoint, contexts.wanted(context[0], int(context[1] or 0)))
    return preflight.estimate(
        checkpoint.parameters, checkpoint.largest, rewritten=bool(work.adapters) or checkpoint.is_packed, makes=makes,
        serves_float=serves_float, token_bytes=preflight.key_value_bytes(checkpoint), context=served,
    )  # fmt: skip


def _left_beside(source: Path, adapters: Sequence[Path]) -> list[Remark]:
    """An adapter in the folder of a whole model, which nobody asked to be merged."""
    if adapters or not (source / ADAPTER[0]).is_file():
        return []
    what = "an adapter lies beside the model, and is not merged: name this folder in `adapters` if it should be"
    return [Remark(ADAPTER[0], what)]


def _check_adapters(work: _Work) -> None:
    from scripts.checkpoint import tensors

    for adapter in work.adapters:
        work.remarks += adapter.remarks
        tensors.judge_numbers(dict.fromkeys(adapter.tensors, adapter.folder / WEIGHTS), adapter.tensors)


def _from_folder(work: _Work, output: Path) -> None:
    from scripts.checkpoint import dequantise, fitting, tensors
    from scripts.checkpoint.load import be_quiet, forget_quantizer
    from scripts.checkpoint.normal import Normal, write_normal

    be_quiet()
    checkpoint, floats = work.checkpoint, work.scratch / "floats"
    normal = Normal(checkpoint)
    base, left, described = _described(normal)
    if not checkpoint.is_packed:
        normal.untie_where_told_apart(base)
    fits = fitting.fit_all(work.adapters, base, checkpoint.path)
    rows = max((fit.rows for fit in fits if fit.rows), default=vocabulary.rows_of(checkpoint.tensors))
    spoken = _speech(work, checkpoint.tokenizer, rows)
    if not checkpoint.quantised:
        work.remarks += [remark for adapter in work.adapters for remark in trained_on_quantised(adapter)]
    if checkpoint.is_packed:  # all that headers tell fits: now the numbers
        checkpoint = dequantise.write(checkpoint, floats, left)
        normal = Normal(checkpoint)
        base, left, described = _described(normal)
        normal.untie_where_told_apart(base)
        fits = fitting.fit_all(work.adapters, base, checkpoint.path)
    work.remarks += tensors.judge_numbers(checkpoint.places, checkpoint.tensors)
    work.remarks += [*normal.remarks(left), *(remark for fit in fits for remark in fit.remarks), *spoken.remarks]
    if not work.adapters:
        copied = write_normal(normal, spoken, output, floats)
        if copied:
            print(f"checkpoint: no right to make symlinks here, so copied {', '.join(copied)}", flush=True)
        return
    folder = work.scratch / "base"
    folder.mkdir()
    write_normal(normal, spoken, folder, floats)
    print(f"checkpoint: reading {checkpoint.parameters / 1e6:.0f} million parameters in float32", flush=True)
    spill = Spill(work.scratch / "weights")
    model = spill.load(described.kind, folder)
    if not checkpoint.quantised and checkpoint.config.get("quantization_config"):
        forget_quantizer(model)
        model._weight_conversions = []  # else the floats are saved under the names of the blocks that they came in
    _merge(work, model, fits, spill, output)
    _copy_companions(folder, output)
    _check_written(checkpoint, output)


def _described(normal: Any) -> tuple[Any, list[str], Any]:
    """The model that a checkpoint's config and headers describe, tensors that are left out, and its description."""
    from scripts.checkpoint import truth

    checkpoint = normal.checkpoint
    normal.count_rows()
    normal.settle_config()
    described = truth.Described(checkpoint.path / "config.json", checkpoint.architecture, normal.config)
    spare = checkpoint.quantised.spare if checkpoint.quantised else ()
    base, normal.renamed, left = truth.place(checkpoint.path, described, checkpoint.tensors, spare)
    normal.forget_foreign_keys(base)
    normal.notice_what_is_assumed(base)
    truth.try_out(checkpoint.path / "config.json", base)
    return base, left, described


def _from_gguf(work: _Work, output: Path) -> None:
    from scripts.checkpoint import fitting, gguf_file

    checkpoint = work.checkpoint
    with gguf_file.parsed_once():
        described, said = gguf_file.describe(checkpoint)
        context = getattr(described.config, "max_position_embeddings", None)
        folder = work.scratch / "tokenizer"
        gguf_file.load_tokenizer(checkpoint.path, context).save_pretrained(folder)
        fits = fitting.fit_all(work.adapters, described, checkpoint.path)
        rows = max((fit.rows for fit in fits if fit.rows), default=vocabulary.rows_of(checkpoint.tensors))
        spoken = _speech(work, folder, rows)
        print(f"checkpoint: reading {checkpoint.parameters / 1e6:.0f} million parameters in float32", flush=True)
        model = gguf_file.load_model(checkpoint, described)
    work.remarks += [*said, *(remark for fit in fits for remark in fit.remarks), *spoken.remarks]
    spill = Spill(work.scratch / "weights")
    _merge(work, spill.take(model), fits, spill, output)
    for name, path in spoken.files.items():
        shutil.copyfile(path, output / name)
    for name, text in spoken.written.items():
        (output / name).write_text(text, encoding="utf-8", newline="\n")
    for path in work.origin.licenses:
        shutil.copyfile(path, output / path.name)
    _check_written(checkpoint, output)


def _speech(work: _Work, folder: Path, rows: int | None) -> speech.Speech:
    folders = [adapter.folder for adapter in work.adapters]
    return speech.choose(
        folder, folders, work.template, rows, work.scratch / "converted", work.checkpoint.path,
        needs_template=work.needs_template,
    )  # fmt: skip


def _merge(work: _Work, model: Any, fits: Sequence[Any], spill: Spill, output: Path) -> None:
    from scripts.checkpoint import merge

    merge.save(merge.merge(model, work.adapters, fits, spill), output)


def _check_written(checkpoint: Checkpoint, output: Path) -> None:
    """What was written must make up the model again: transformers renames tensors when it saves, not always rightly."""
    from scripts.checkpoint import truth

    config = json_files.read(output / "config.json")
    try:
        described = truth.Described(output / "config.json", checkpoint.architecture, config)
        truth.place(output, described, find_weights(output).tensors)
    except IngotError as error:
        remedy = "Merge it where it was trained, and name the merged model as `source`"
        raise IngotError(
            checkpoint.path, f"transformers can't save it again as it read it: {error.found}", remedy
        ) from None


def _copy_companions(folder: Path, output: Path) -> None:
    """The user's own files rather than what transformers rewrites them to; the config changes where it must."""
    for path in output.iterdir():
        if is_tokenizer_file(path.name):
            path.unlink()
    for path in files_in(folder, is_companion):
        if path.name != "config.json":
            shutil.copyfile(path, output / path.name)
    config, written = json_files.read(folder / "config.json"), json_files.read(output / "config.json")
    config.pop("quantization_config", None)  # what was quantised is float now
    for key in ("dtype", "torch_dtype"):
        if key in config:
            config[key] = "float32"
    if not {"dtype", "torch_dtype"} & set(config):
        config["dtype"] = "float32"
    tied = written.get("tie_word_embeddings")
    if tied is False and config.get("tie_word_embeddings") is not False:
        config["tie_word_embeddings"] = False  # said aloud, because many families tie by default
    settings, rows = (value.get("text_config") or value for value in (config, written))
    if rows.get("vocab_size") != settings.get("vocab_size"):
        settings["vocab_size"] = rows["vocab_size"]
    json_files.write(output / "config.json", config)

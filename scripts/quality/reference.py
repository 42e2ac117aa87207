"""The truth that conversions are judged by: the float model's log-probabilities over a few texts.

transformers runs the checkpoint in float32 on the CPU, piece by piece with a KV cache, and each piece is written as it
comes. A reference folder holds

    index.json            vocab_size (width of the logits), tokenizer_size (ids that text can give), rows, texts
    <text>/tokens.npy     int32 [tokens], as the checkpoint's tokenizer gives them, special tokens included
    <text>/00000.npy …    float16 [≤ rows, vocab_size]: natural log-probabilities after each token but the last
    passage.long/tokens.npy  int32 [tokens]: the texts in a row, again and again, as far as the model changes
    passage.long/64-1.npy …  float16 [positions, vocab_size]: the same around each change (`changes.py`)

Float16 rounds a log-probability of -10 by 0.004 at most; since readers renormalise each row, what that adds to a KL
divergence is of second order, about 1e-6 nats.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scripts.checkpoint import tokenizer as tokenizers
from scripts.common import context as contexts
from scripts.common import json_files
from scripts.common.context import SPARE
from scripts.common.errors import IngotError
from scripts.common.imports import uncollected
from scripts.common.model_files import files_in, holds_tokenizer, is_weight_file
from scripts.common.user_files import read_beginning
from scripts.quality import changes
from scripts.quality.changes import STEPS, WHOLE, Span
from scripts.quality.logits import rows_for, together
from scripts.quality.streamed import load_streamed
from scripts.results import base
from scripts.results.quality import Reference as Index
from scripts.results.quality import ReferenceSpan, ReferenceText

FORMAT = 2
#: No text has such a name.
_PASSAGE = "passage.long"
#: Fewer tokens say nothing about a model.
LEAST_TOKENS = 32
#: float16 ends at -65504; whatever is less probable than this is impossible for every purpose.
_FLOOR = -60000.0
#: Positions whose log-probabilities are in float32 at once.
_BLOCK = 32
#: Bytes of a text that are read at first, and at most; the last tokens before where it is cut are not taken.
_FIRST, _LAST, _AT_THE_CUT = 1 << 18, 1 << 24, 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Text:
    """One text of a reference: `tokens` int32 [n]; the n - 1 positions before each next token are what is judged."""

    name: str
    tokens: npt.NDArray[np.int32]
    chunks: tuple[Path, ...]

    def log_probabilities(self) -> Iterator[npt.NDArray[np.float16]]:
        """Yield the stored pieces in order, each [≤ rows, vocab_size]."""
        for chunk in self.chunks:
            yield np.load(chunk, allow_pickle=False)


@dataclass(frozen=True)
class Passage:
    """The long text that is judged where the model changes: `truth` is a file for each span and way of feeding."""

    tokens: npt.NDArray[np.int32]
    spans: tuple[Span, ...]
    truth: dict[tuple[Span, str], Path]


@dataclass(frozen=True)
class Reference:
    """A reference folder, opened; `rows` positions to a piece."""

    vocab_size: int
    tokenizer_size: int
    rows: int
    texts: tuple[Text, ...]
    passage: Passage


def parse_texts(values: list[str]) -> dict[str, Path]:
    """`NAME=FILE` or `FILE` as name → file. Raises `IngotError` on a name given twice.

    A file without a name is called after itself, without suffix; the second of that name gets a number.
    """
    texts: dict[str, Path] = {}
    for value in values:
        name, mark, rest = value.partition("=")
        given = bool(mark) and _NAME.fullmatch(name) is not None and not Path(value).exists()
        path = Path(rest if given else value)
        stem = re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem).strip("-_") or "text"
        taken = {known.lower() for known in texts}
        if given and name.lower() in taken:
            raise IngotError(f"--text {value}", f"there is a text named {name!r} already", "Give it another name")
        numbered = chain([stem], (f"{stem}-{number}" for number in count(2)))
        texts[name if given else next(word for word in numbered if word.lower() not in taken)] = path
    if not texts:
        raise IngotError("--text", "no text is given", "Give at least one evaluation text")
    return texts


def build(
    checkpoint: Path,
    texts: dict[str, Path],
    output: Path,
    tokens: int = contexts.JUDGED,
    context: int = contexts.DEFAULT,
) -> None:
    """Write the reference of `checkpoint` over the first `tokens` tokens of each text to the folder `output`, and
    around each position below `context` at which the model changes.

    Raises `IngotError` for a folder that is not a checkpoint, a text that is missing, empty, not UTF-8 or shorter than
    `LEAST_TOKENS`, and a model whose context is that short or whose own logits are not finite.
    """
    for path in texts.values():
        _read(path, _FIRST)
    _check_folder(checkpoint)
    if tokens < LEAST_TOKENS:
        raise IngotError("--tokens", f"{tokens} is too few", f"Give at least {LEAST_TOKENS}")
    # Threads that spin while they wait cost three times the time on a machine that does something else as well.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    kind = _class_of(checkpoint)
    tokenizer = tokenizers.load(checkpoint)
    ids = {name: _tokenize(tokenizer, path, tokens) for name, path in texts.items()}
    model = load_streamed(kind, checkpoint)
    settings = model.config.get_text_config()
    whole = int(getattr(settings, "max_position_embeddings", 0) or tokens + SPARE)
    if whole < LEAST_TOKENS + SPARE:
        found = f"its context of {whole} tokens is too short to judge"
        raise IngotError(checkpoint / "config.json", found, f"Give a model of at least {LEAST_TOKENS + SPARE}")
    limit = min(tokens, whole - SPARE)
    rows = rows_for(int(settings.vocab_size))
    written = {}
    for name, all_ids in ids.items():
        kept = all_ids[:limit]
        chunks = _write_text(model, kept, output / name, rows, f"{checkpoint}: {name}")
        written[name] = ReferenceText(
            tokens=len(kept), positions=len(kept) - 1, text_tokens=len(all_ids), chunks=chunks
        )
    places = changes.find(settings, min(context, whole))
    passage = _write_passage(model, list(ids.values()), places, output / _PASSAGE, rows)
    index = Index(
        format=FORMAT, vocab_size=int(settings.vocab_size), tokenizer_size=len(tokenizer), rows=rows, texts=written,
        passage=passage,
    )  # fmt: skip
    base.write(output / "index.json", index)


def load(folder: Path) -> Reference:
    """Open a reference folder. Raises `IngotError` where it is not one or a piece of it is missing."""
    path = folder / "index.json"
    if not path.is_file():
        raise IngotError(folder, "is not a reference: there is no index.json in it", "Make it with `reference`")
    index = base.read(path, Index, "Make the reference again")
    if index.format != FORMAT:
        raise IngotError(path, f"format {index.format!r} is not {FORMAT}", "Make the reference again")
    texts = []
    for name, entry in index.texts.items():
        chunks = tuple(folder / name / chunk for chunk in entry.chunks)
        if missing := [chunk for chunk in (folder / name / "tokens.npy", *chunks) if not chunk.is_file()]:
            raise IngotError(missing[0], "is missing from the reference", "Make the reference again")
        texts.append(Text(name, np.load(folder / name / "tokens.npy", allow_pickle=False), chunks))
    passage = _open_passage(folder / _PASSAGE, index.passage)
    return Reference(index.vocab_size, index.tokenizer_size, index.rows, tuple(texts), passage)


def _open_passage(folder: Path, entries: Sequence[ReferenceSpan]) -> Passage:
    spans = {Span(entry.start, entry.stop, entry.what): entry.files for entry in entries}
    truth = {(span, way): folder / name for span, names in spans.items() for way, name in names.items()}
    if missing := [path for path in (folder / "tokens.npy", *truth.values()) if not path.is_file()]:
        raise IngotError(missing[0], "is missing from the reference", "Make the reference again")
    return Passage(np.load(folder / "tokens.npy", allow_pickle=False), tuple(spans), truth)


def _class_of(checkpoint: Path) -> Any:
    """The class of transformers that the checkpoint's config names."""
    names = json_files.read(checkpoint / "config.json").get("architectures") or [""]
    with uncollected():
        import transformers

        kind = getattr(transformers, str(names[0]), transformers.AutoModelForCausalLM)
    transformers.utils.logging.disable_progress_bar()
    return kind


def _read(path: Path, most: int) -> tuple[str, bool]:
    """The beginning of an evaluation text, and whether that is all of it."""
    text, whole = read_beginning(path, most)
    if not text.strip():
        raise IngotError(path, "the evaluation text is empty", f"Give at least {LEAST_TOKENS} tokens of text")
    return text, whole


def _check_folder(checkpoint: Path) -> None:
    if not (checkpoint / "config.json").is_file():
        raise IngotError(checkpoint, "there is no config.json in it", "Give a Hugging Face checkpoint folder")
    if not files_in(checkpoint, is_weight_file):
        raise IngotError(checkpoint, "there are no safetensors weights in it", "Give a checkpoint with its weights")
    if not holds_tokenizer(checkpoint):
        raise IngotError(checkpoint, "there is no tokenizer in it", "Add the tokenizer files that belong to the model")


def _tokenize(tokenizer: Any, path: Path, tokens: int) -> npt.NDArray[np.int32]:
    """The tokens of a text, int32: all of them, or of its beginning alone if that has more than `tokens` of them."""
    most = _FIRST
    while True:
        text, whole = _read(path, most)
        ids = np.asarray(tokenizer(text, verbose=False)["input_ids"], dtype=np.int32)
        if whole or len(ids) >= tokens + _AT_THE_CUT or most >= _LAST:
            break
        most *= 8
    if len(ids) < LEAST_TOKENS:
        found = f"the evaluation text is too short: {len(ids)} tokens"
        raise IngotError(path, found, f"Give at least {LEAST_TOKENS}, better a thousand")
    return ids if whole else ids[:-_AT_THE_CUT]


def _write_text(model: Any, ids: npt.NDArray[np.int32], folder: Path, rows: int, subject: str) -> list[str]:
    folder.mkdir(parents=True)
    np.save(folder / "tokens.npy", ids)
    names, cache = list[str](), None
    for start, stop in changes.bounds(0, len(ids) - 1, together(rows, model.config.get_text_config().vocab_size)):
        values, cache = _feed(model, ids[start:stop], cache)
        if not np.isfinite(values).all():
            found = f"the float model gives logits that are not finite near token {start}"
            raise IngotError(subject, found, "The weights are damaged: take them from their source again")
        for at in range(0, len(values), rows):
            names.append(f"{len(names):05}.npy")
            np.save(folder / names[-1], values[at : at + rows])
        print(f"reference: {folder.name}: {stop} of {len(ids) - 1} positions", flush=True)
    return names


def _write_passage(
    model: Any, texts: list[npt.NDArray[np.int32]], places: dict[int, str], folder: Path, rows: int
) -> list[ReferenceSpan]:
    """Write what the model gives around `places`; returns the passage's part of the index."""
    spans = changes.spans(places)
    length = max((span.stop for span in spans), default=0)
    folder.mkdir(parents=True)
    ids = np.resize(np.concatenate(texts), length)
    np.save(folder / "tokens.npy", ids)
    entries: list[ReferenceSpan] = []
    cache, done = None, 0
    for span in spans:
        for start, stop in changes.bounds(done, span.start, rows):
            _, cache = _feed(model, ids[start:stop], cache)
        names: dict[str, str] = {}
        # Fed token by token on a copy of the cache; then in one piece, which the rest of the passage follows.
        for number, way in enumerate((STEPS, WHOLE)):
            kept, parts = copy.deepcopy(cache) if way == STEPS else cache, []
            for start, stop in changes.bounds(span.start, span.stop, changes.step(rows, way)):
                values, kept = _feed(model, ids[start:stop], kept)
                parts.append(values)
            names[way] = f"{span.start}-{number}.npy"
            np.save(folder / names[way], np.concatenate(parts))
        cache, done = kept, span.stop
        entries.append(ReferenceSpan(start=span.start, stop=span.stop, what=span.what, files=names))
        print(f"reference: around {span.what}: {span.stop} of {length} positions", flush=True)
    return entries


def _feed(model: Any, ids: npt.NDArray[np.int32], cache: Any) -> tuple[npt.NDArray[np.float16], Any]:
    """The log-probabilities after each of `ids`, and the cache that holds them too."""
    import torch

    with torch.inference_mode():
        result = model(input_ids=torch.from_numpy(ids.astype(np.int64))[None], past_key_values=cache, use_cache=True)
        logits = result.logits[0]
        found = torch.empty(logits.shape, dtype=torch.float16)
        for at in range(0, len(logits), _BLOCK):
            values = torch.log_softmax(logits[at : at + _BLOCK].float(), dim=-1)
            if torch.isfinite(values).all():
                values.clamp_(min=_FLOOR)
            found[at : at + _BLOCK] = values
        return found.numpy(), result.past_key_values

"""Tokenizers in the manner of SentencePiece, written so that transformers and the runtime read them alike.

SentencePiece writes a blank as a piece's first character and puts one more before the text. Whether it also does after
a special token is what readers differ in. In tokenizer.json three forms exist: `Metaspace` (of transformers 5, "first"
or "always"), a normaliser that prepends (of transformers 4, after each special token too), and one that only replaces
(Gemma's, never). onnxruntime-genai 0.18 knows the second and the third, and takes the first for the second. And the
class LlamaTokenizer of transformers 5 replaces what its tokenizer.json says by "first" or "always".

So "first" is written as the third form: the same ids wherever the text begins with a special token or a blank, which
the chat template sees to. And the class becomes the one that reads tokenizer.json as it is written. Unigram models, and
those that normalise texts, are beyond the runtime.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.checkpoint.user_json import json_object
from scripts.common.errors import IngotError
from scripts.common.model_files import AS_WRITTEN
from scripts.results.remarks import Remark

_BLANK = "\u2581"
_REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": _BLANK}
_PREPEND = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": _BLANK}, _REPLACE]}
_SPLIT = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
_DECODERS = (
    {"type": "Replace", "pattern": {"String": _BLANK}, "content": " "},
    {"type": "ByteFallback"},
    {"type": "Fuse"},
)
_STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
_OTHER = "Take a model with another tokenizer: it can't be changed after training"
_REMEDY = "Put the tokenizer.json there that the model was trained with, if there is one; else it can't be served"
#: Texts that show what a tokenizer does to blanks, line ends, alphabets, digits and compatibility characters.
_SAMPLES = (
    "The capital of France is Paris.", "a  b   c", "  lead", "trail  ", "one\ntwo\r\n\n\tthree", "1234567 3.14", "",
    "Grüße, où est-ce? Привет, мир. 你好，世界。", "🙂🚀 \u200b", "ﬁne ① ｆｕｌｌ e\u0301",
    "def f(x):\n    return x  # ok",
)  # fmt: skip
_TALKS = (
    [{"role": "user", "content": "Hi"}],
    [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "No"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
)


@dataclass(frozen=True)
class Alike:
    """`core` is the text of tokenizer.json and `settings` tokenizer_config.json's content, where they must be anew.

    `begins` says that each text must begin with a special token or a blank.
    """

    core: str
    settings: dict[str, Any]
    begins: bool
    remarks: tuple[Remark, ...]


def of_model(tokenizer: Any, model: Path, settings: dict[str, Any]) -> Alike:
    """The form of a tokenizer that transformers made of a SentencePiece model, held against that model itself.

    Raises `IngotError` for what the runtime can't do, and where the ids would be others than SentencePiece's.
    """
    from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto.FromString(model.read_bytes())
    if proto.trainer_spec.model_type != proto.trainer_spec.BPE:
        kind = proto.trainer_spec.ModelType.Name(proto.trainer_spec.model_type).lower()
        found = f"a {kind} model: onnxruntime-genai 0.18 joins blanks that such a model keeps apart"
        raise IngotError(
            model, found, "Take a model with a BPE tokenizer: the tokenizer can't be changed after training"
        )
    core = json.loads(tokenizer.backend_tokenizer.to_str())
    prefix, legacy = proto.normalizer_spec.add_dummy_prefix, bool(settings.get("legacy", True))
    normal = (piece.piece for piece in proto.pieces if piece.type == piece.NORMAL and len(piece.piece) > 1)
    if prefix and legacy and (joined := next((piece for piece in normal if set(piece) & set("0123456789")), None)):
        found = f"joins digits to what is beside them ({joined!r}), which onnxruntime-genai 0.18 takes apart"
        raise IngotError(model, found, _OTHER)
    core |= {"normalizer": _PREPEND, "pre_tokenizer": None} if prefix and legacy else _without_prefix()
    core["decoder"] = {"type": "Sequence", "decoders": [*_DECODERS, *([_STRIP] if prefix else [])]}
    # Runs of blanks are pieces of the model, not tokens to be found in the text: there blanks are blanks.
    core["added_tokens"] = [token for token in core["added_tokens"] if _BLANK not in token["content"]]
    proto.normalizer_spec.add_dummy_prefix = prefix and legacy
    _hold_against(SentencePieceProcessor(model_proto=proto.SerializeToString()), json.dumps(core), model)
    remarks = []
    if prefix and "legacy" not in settings:
        what = "does not say `legacy`: taken as true, as transformers 4 did, which wrote such folders"
        remarks.append(Remark("tokenizer_config.json", what))
    text = json.dumps(core, ensure_ascii=False)
    tokens = {token["content"] for token in core["added_tokens"] if token["special"]}
    settings = {key: value for key, value in settings.items() if key != "additional_special_tokens"}
    if isinstance(more := settings.get("extra_special_tokens"), list):
        settings["extra_special_tokens"] = [token for token in more if token in tokens]
    return Alike(text, _as_written(settings), prefix and not legacy, tuple(remarks))


def check_kind(path: Path, core: dict[str, Any]) -> None:
    """Raise `IngotError` unless a tokenizer.json, of this content, is of the kind that the runtime reads."""
    model = core.get("model")
    kind = model.get("type", "BPE") if isinstance(model, dict) else "BPE"
    if kind != "BPE":
        found = f"a {kind} model, and onnxruntime-genai 0.18 reads BPE alone as transformers does"
        raise IngotError(
            path, found, "Take a model with a BPE tokenizer: the tokenizer can't be changed after training"
        )


def of_file(folder: Path) -> Alike | None:
    """The form of a tokenizer.json; None where it is read alike as it stands. Raises `IngotError` unless it is BPE."""
    path, said = folder / "tokenizer.json", folder / "tokenizer_config.json"
    core = json_object(path, "Copy it from the base model again")
    settings = json_object(said, "Copy it from the base model again") if said.is_file() else {}
    check_kind(path, core)
    pre, normalizer = core.get("pre_tokenizer") or {}, core.get("normalizer")
    replaced = str(settings.get("tokenizer_class")) in ("LlamaTokenizer", "LlamaTokenizerFast")
    spaced = isinstance(pre, dict) and pre.get("type") == "Metaspace" and normalizer is None
    if spaced and pre.get("prepend_scheme") in ("first", "never"):
        first = pre["prepend_scheme"] == "first"
        text = json.dumps(core | _without_prefix(), ensure_ascii=False)
        what = "blanks are written as Gemma has them, which the runtime reads as transformers does"
        return Alike(text, _as_written(settings), first, (Remark("tokenizer.json", what),))
    if replaced and (spaced or normalizer in (_PREPEND, _REPLACE)):
        what = f"read as tokenizer.json is written: {settings['tokenizer_class']} of transformers 5 would change it"
        return Alike(path.read_text("utf-8-sig"), _as_written(settings), False, (Remark(said.name, what),))
    return None


def begin(template: str, tokenizer: Any) -> str | None:
    """A template whose texts begin with a special token or a blank, for a tokenizer that puts no blank before a text.

    Where none does so, a blank is put before it. None where some do and others don't.
    """
    texts = list(_rendered(template, tokenizer))
    specials = tuple(filter(None, map(str, tokenizer.get_added_vocab())))
    sound = [not text or text.startswith((" ", *specials)) for text in texts]
    if all(sound):
        return template
    return None if any(sound) else "{{ ' ' }}" + template


def _rendered(template: str, tokenizer: Any) -> Iterable[str]:
    for talk in _TALKS:
        try:
            yield tokenizer.apply_chat_template(talk, chat_template=template, tokenize=False)
        except Exception:  # noqa: BLE001, S112 - a template may refuse a conversation in any way
            continue


def _without_prefix() -> dict[str, Any]:
    return {"normalizer": _REPLACE, "pre_tokenizer": _SPLIT}


def _as_written(settings: dict[str, Any]) -> dict[str, Any]:
    left = {key: value for key, value in settings.items() if key not in ("legacy", "add_prefix_space")}
    return {**left, "tokenizer_class": AS_WRITTEN}


def _hold_against(truth: Any, core: str, model: Path) -> None:
    """Raise `IngotError` unless a tokenizer gives the ids that SentencePiece itself gives."""
    from tokenizers import Tokenizer

    made = Tokenizer.from_str(core)
    for text in _SAMPLES:
        if made.encode(text, add_special_tokens=False).ids != truth.encode(text):
            found = f"transformers makes a tokenizer of it that gives other ids than SentencePiece, for {text!r}"
            raise IngotError(model, found, _REMEDY)

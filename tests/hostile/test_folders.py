"""Model folders in which a file is another thing, or says what no model says: our own words, or a sound checkpoint."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.hostile import limited
from tests.hostile.limited import Stages

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without named pipes")


def bound(path: Path) -> None:
    """A socket: its path is short, and the folder's may be too long for one."""
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


def secret(path: Path) -> None:
    path.write_bytes(b"{}" * 99)
    path.chmod(0)


THINGS: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "socket": bound,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "loop": lambda path: path.symlink_to(path.name),
    "folder": Path.mkdir,
    "terabyte": sparse,
    "secret": secret,
}
#: Files without which a model is whole.
BESIDE = ("generation_config.json", "special_tokens_map.json", "added_tokens.json", "NOTICE", "vocab.txt", "README.md")


def build(stages: Stages, weights: Path, *words: str) -> None:
    """Build it: a checkpoint without words, else a refusal that says all of them, of which nothing is left."""
    output = weights.parent / "made"
    if words:
        stages.refused("checkpoint", "build", *words, source=weights, output=output)
        assert not output.exists()
        return
    ended = stages.run("checkpoint", "build", source=weights, output=output)
    assert ended.code == 0, ended
    limited.clean(ended.out)


@pytest.mark.parametrize(("name", "thing", "said"), [
    *(("config.json", thing, "is not a regular file") for thing in ("pipe", "socket", "device")),
    ("config.json", "loop", "can't be read"), ("config.json", "folder", "is a folder"),
    ("config.json", "terabyte", "MiB large"), ("config.json", "secret", "can't be read"),
    ("tokenizer.json", "pipe", "no tokenizer"), ("tokenizer.json", "secret", "can't be read"),
    ("tokenizer.json", "terabyte", "MiB large"),
    ("model.safetensors", "pipe", "weights file not found"), ("model.safetensors", "secret", "Permission denied"),
    ("model.safetensors", "terabyte", "model.safetensors"), ("chat_template.jinja", "pipe", "no chat template"),
    ("model.safetensors.index.json", "pipe", "is not a regular file"), ("LICENSE", "terabyte", "MiB large"),
    ("generation_config.json", "terabyte", "MiB large"), ("added_tokens.json", "secret", "can't be read"),
])  # fmt: skip
def test_another_thing_as_a_file_that_is_read(stages: Stages, weights: Path, name: str, thing: str, said: str) -> None:
    put(weights / name, thing)
    build(stages, weights, said, *([name] if said[:3] not in ("no ", "wei") else []))


def put(path: Path, thing: str) -> None:
    if thing == "secret" and not os.getuid():
        pytest.skip("the superuser may read all")
    path.unlink(missing_ok=True)
    THINGS[thing](path)


def test_pipes_and_the_like_where_nothing_is_read(stages: Stages, weights: Path) -> None:
    things = dict(zip(BESIDE, ("pipe", "socket", "device", "loop", "folder", "pipe"), strict=True))
    for name, thing in things.items():
        put(weights / name, thing)
    build(stages, weights)


CONFIGS = {
    "NaN": ('"rms_norm_eps": NaN', "rms_norm_eps is nan"),
    "Infinity": ('"rms_norm_eps": -Infinity', "rms_norm_eps is -inf"),
    "1e400": ('"initializer_range": 1e400', "initializer_range is inf"),
    "NaN in a table": ('"rope_parameters": {"rope_type": "default", "rope_theta": NaN}', "rope_theta is nan"),
    "5,000 digits": ('"rms_norm_eps": ' + "7" * 5000, "4300 digits"),
    "a million keys": (",".join(f'"k{n}": {n}' for n in range(1_000_000)), "MiB large"),
    "half of a character": ('"model_type": "\\ud800"', "config.json"),
    "a key twice": ('"num_hidden_layers": 2, "num_hidden_layers": 1000000000', "num_hidden_layers is 1000000000"),
    "kernels from elsewhere": ('"_attn_implementation": "evil/kernels"', "config.json"),
    "code": ('"auto_map": {"AutoModelForCausalLM": "evil--modeling.Evil"}', "wants remote code"),
    "an activation": ('"hidden_act": "__import__"', "the activation __import__"),
    "a number as id": ('"pad_token_id": 1e308', "pad_token_id"),
    "a list of positions": ('"rope_parameters": [[]]', "rope_parameters is not a table"),
    "a division by zero": ('"rope_parameters": {"rope_type": "yarn", "factor": 1e308, '
                           '"original_max_position_embeddings": 0}', "config.json"),
    "parts in parts": ('"text_config": ' + '{"text_config":' * 90 + "1" + "}" * 90, "config.json"),
}  # fmt: skip


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_config(stages: Stages, weights: Path, kind: str) -> None:
    path = weights / "config.json"
    text = path.read_text(encoding="utf-8").rstrip().removesuffix("}").rstrip()
    more, said = CONFIGS[kind]
    path.write_text(f"{text}, {more}}}", encoding="utf-8")
    build(stages, weights, "config.json", said)


OTHERS = [
    ("generation_config.json", "[" * 100_000, "nested too deeply"), ("generation_config.json", "[]", "object"),
    ("generation_config.json", '{"max_length": ' + "9" * 5000 + "}", "4300 digits"),
    ("generation_config.json", "\ud800", "is not UTF-8"), ("tokenizer_config.json", "[" * 100_000, "nested too deeply"),
    ("tokenizer_config.json", '{"chat_template": {"a": 1}}', "chat_template"),
    ("tokenizer_config.json", '{"auto_map": {"AutoTokenizer": ["evil.Evil", null]}}', "custom code"),
    ("tokenizer_config.json", '{"added_tokens_decoder": {"x": 1}}', "transformers can't load its tokenizer"),
    ("special_tokens_map.json", "[" * 100_000, "nested too deeply"), ("special_tokens_map.json", "7", "object"),
    ("added_tokens.json", "[" * 100_000, "nested too deeply"), ("added_tokens.json", "", "not JSON"),
    ("added_tokens.json", '{"a": "b"}', "transformers can't load its tokenizer"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "said"), OTHERS, ids=range(len(OTHERS)))
def test_a_small_file(stages: Stages, weights: Path, name: str, text: str, said: str) -> None:
    (weights / name).write_text(text, encoding="utf-8", errors="surrogatepass")
    build(stages, weights, said, *([name] if "transformers" not in said and said != "custom code" else []))


WORD = {"id": 3, "content": "a", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
        "special": True}  # fmt: skip
REPLACE = {"type": "Replace", "pattern": {"Regex": "(x+x+)+y|()"}, "content": "a" * 1000}
NONE = {"type": "Split", "pattern": {"Regex": "(" * 10_000}, "behavior": "Isolated", "invert": False}
AGAIN = {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}] * 100_000, "pair": [],
         "special_tokens": {}}  # fmt: skip
TOKENIZERS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a normaliser that grows": (
        lambda value: value.update(normalizer={"type": "Sequence", "normalizers": [REPLACE] * 6}), "memory"
    ),
    "a template that grows": (lambda value: value.update(post_processor=AGAIN), "memory"),
    "an expression that is none": (lambda value: value.update(pre_tokenizer=NONE), "Oniguruma error"),
    "a negative id": (lambda value: value["model"]["vocab"].update({"zz": -1}), "invalid value"),
    "a merge of what is not there": (
        lambda value: value["model"]["merges"].append(["nothing", "there"]), "out of vocabulary"
    ),
    "an id far away": (lambda value: value["added_tokens"].append({**WORD, "id": 4_000_000_000}), "id 4000000000"),
    "a long token": (lambda value: value["added_tokens"].append({**WORD, "content": "a" * 10_000_000}), "to load it"),
    "another model": (lambda value: value["model"].update(type="Evil"), "a Evil model"),
}  # fmt: skip


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_tokenizer(stages: Stages, weights: Path, kind: str) -> None:
    change, said = TOKENIZERS[kind]
    limited.change(weights / "tokenizer.json", change)
    build(stages, weights, said)


def tensors(**entries: Any) -> bytes:
    header = json.dumps(entries).encode()
    return struct.pack("<Q", len(header)) + header + bytes(64)


ONE = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
SAFETENSORS: dict[str, tuple[bytes, str]] = {
    "overlap": (tensors(a=ONE, b=ONE), "does not fill its place"),
    "a hole": (tensors(a=ONE, b={**ONE, "data_offsets": [48, 64]}), "does not fill its place"),
    "negative shape": (tensors(a={**ONE, "shape": [-4]}), "`int` >= 0"),
    "zero": (tensors(a={**ONE, "shape": [0], "data_offsets": [0, 0]}), "longer than its header says"),
    "shape beyond all": (tensors(a={**ONE, "shape": [1 << 62, 1 << 62]}), "does not fill its place"),
    "many dimensions": (tensors(a={**ONE, "shape": [1] * 100_000}), "length <= 16"),
    "unknown dtype": (tensors(a={**ONE, "dtype": "F7"}), "model.safetensors"),
    "dtype of another type": (tensors(a={**ONE, "dtype": []}), "got `array`"),
    "backwards": (tensors(a={**ONE, "data_offsets": [16, 0]}), "does not fill its place"),
    "offsets beyond the end": (tensors(a={**ONE, "data_offsets": [1 << 60, 1 << 61]}), "does not fill its place"),
    "offsets of floats": (tensors(a={**ONE, "data_offsets": [0.0, 16.0]}), "got `float`"),
    "length": (struct.pack("<Q", (1 << 64) - 1) + b"{}", "its header alone needs"),
    "short": (b"\1", "truncated"),
    "empty": (b"", "empty, 0 bytes"),
    "no object": (struct.pack("<Q", 2) + b"[]", "unreadable header"),
    "deep": (struct.pack("<Q", 100_000) + b"[" * 100_000, "unreadable header"),
    "not UTF-8": (struct.pack("<Q", 4) + b'{"\xff"', "unreadable header"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SAFETENSORS)
def test_a_safetensors_file(stages: Stages, weights: Path, kind: str) -> None:
    data, said = SAFETENSORS[kind]
    (weights / "model.safetensors").write_bytes(data)
    build(stages, weights, "model.safetensors", said)


INDEXES: dict[str, tuple[Any, str]] = {
    "itself": ({"a": "model.safetensors.index.json"}, "not a safetensors file"),
    "outside": ({"a": "../../etc/passwd"}, "names ../../etc/passwd, which is not beside it"),
    "absolute": ({"a": "/etc/passwd"}, "names /etc/passwd, which is not beside it"),
    "a pickle": ({"a": "pytorch_model.bin"}, "pytorch_model.bin"),
    "many shards": ({f"a{n}": f"{n}.safetensors" for n in range(200_000)}, "MiB large"),
    "empty": ({}, "has no weight_map"),
    "a list": (["model.safetensors"], "has no weight_map"),
    "a folder": ({"a": "."}, "names ., which is not beside it"),
}


@pytest.mark.parametrize("kind", INDEXES)
def test_an_index(stages: Stages, weights: Path, kind: str) -> None:
    shards, said = INDEXES[kind]
    (weights / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}), encoding="utf-8")
    (weights / "model.safetensors").unlink()
    build(stages, weights, said)

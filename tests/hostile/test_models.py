"""Model folders, adapters and GGUF files of strangers: each is refused in one line, in bounded time and memory."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from tests.hostile import limited
from tests.hostile.limited import Hostile, Stages

#: Something that makes a folder hostile.
Spoil = Callable[[Path], object]
SECRET = "root-of-all-secrets"


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def config(**changes: Any) -> Spoil:
    return lambda weights: edit(weights / "config.json", **changes)


def template(text: str) -> Spoil:
    return lambda weights: (weights / "chat_template.jinja").write_text(text, encoding="utf-8")


def tokenizer(change: Callable[[dict[str, Any]], object]) -> Spoil:
    return lambda weights: limited.change(weights / "tokenizer.json", change)


def sparse(name: str, size: int) -> Spoil:
    def spoil(weights: Path) -> None:
        with (weights / name).open("ab") as file:
            file.truncate(size)

    return spoil


def text(name: str, make: Callable[[], str]) -> Spoil:
    return lambda weights: (weights / name).write_text(make(), encoding="utf-8")


def header(weights: Path) -> None:
    length = 8 << 30
    with (weights / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", length) + b"{")
        file.truncate(length + 8)


def many_tensors(weights: Path) -> None:
    names = ",".join(f'"{n}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}' for n in range(600_000)).encode()
    data = b"{" + names + b"}"
    (weights / "model.safetensors").write_bytes(struct.pack("<Q", len(data)) + data)


def whole_set(weights: Path) -> None:
    (weights / "model.safetensors").rename(weights / "a-00001-of-999999999999.safetensors")
    shutil.copy(weights / "a-00001-of-999999999999.safetensors", weights / "a-00002-of-999999999999.safetensors")


def linked(name: str, *, folder: str = "") -> Spoil:
    """A file, or the folder that it is in, is a link out of the model's folder."""

    def spoil(weights: Path) -> None:
        outside = weights.parent / "outside"
        outside.mkdir()
        kept = weights / folder / name
        kept.parent.mkdir(exist_ok=True)
        data = kept.read_bytes() if kept.is_file() else SECRET.encode()
        kept.unlink(missing_ok=True)
        (outside / name).write_bytes(data)
        if folder:
            kept.parent.rmdir()
            kept.parent.symlink_to(outside)
        else:
            kept.symlink_to(outside / name)

    return spoil


BACKTRACKS = {"type": "Split", "pattern": {"Regex": "(a|a|aa)+$"}, "behavior": "Isolated", "invert": False}
ENTRY = '"t{0}":{0}'.format
DEEP = "[" * 100_000 + "]" * 100_000

MODELS: dict[str, tuple[Spoil, list[str]]] = {
    "layers": (config(num_hidden_layers=10**9), ["config.json", "num_hidden_layers is 1000000000"]),
    "layers within the limit": (config(num_hidden_layers=4000), ["num_hidden_layers is 4000", "hold 2 layers"]),
    "no layers": (config(num_hidden_layers=-1), ["num_hidden_layers is -1"]),
    "width as text": (config(hidden_size="big"), ["hidden_size is 'big'"]),
    "negative width": (config(hidden_size=-160), ["hidden_size is -160"]),
    "huge width": (config(hidden_size=10**12), ["hidden_size is 1000000000000"]),
    "another width": (config(hidden_size=1 << 20), ["config.json"]),
    "no heads": (config(num_attention_heads=0), ["num_attention_heads is 0"]),
    "huge heads": (config(num_attention_heads=10**9), ["num_attention_heads is 1000000000"]),
    "huge context": (config(max_position_embeddings=10**18), ["max_position_embeddings is 1000000000000000000"]),
    "large context": (config(max_position_embeddings=10**8), ["max_position_embeddings is 100000000"]),
    "context as text": (config(max_position_embeddings="4k"), ["max_position_embeddings is '4k'"]),
    "a bool": (config(num_hidden_layers=True), ["num_hidden_layers is True"]),
    "labels": (config(num_labels=10**9), ["config.json"]),
    "types of layers": (config(layer_types=["full_attention"] * 100_000), ["config.json"]),
    "deep config": (text("config.json", lambda: DEEP), ["config.json", "deep"]),
    "deep in config": (config(extra=json.loads("[" * 500 + "]" * 500)), ["config.json", "deep"]),
    "sparse config": (sparse("config.json", 50 << 30), ["config.json", "large"]),
    "list as config": (text("config.json", lambda: "[]"), ["config.json", "object"]),
    "number of 5,000 digits": (text("config.json", lambda: '{"a": ' + "1" * 5000 + "}"), ["config.json"]),
    "architectures": (config(architectures={"a": 1}), ["config.json"]),
    "architectures of numbers": (config(architectures=[7]), ["config.json"]),
    "quantised, of another type": (config(quantization_config=[1]), ["config.json", "quantised"]),
    "sparse licence": (sparse("LICENSE", 50 << 30), ["LICENSE", "MiB large"]),
    "sparse tokenizer": (sparse("tokenizer.json", 50 << 30), ["tokenizer.json", "MiB large"]),
    "sparse vocabulary": (sparse("vocab.txt", 50 << 30), ["vocab.txt", "MiB large"]),
    "sparse index": (sparse("model.safetensors.index.json", 50 << 30), ["index.json", "large"]),
    "deep tokenizer": (text("tokenizer.json", lambda: DEEP), ["tokenizer.json", "deep"]),
    "lists without end": (text("tokenizer.json", lambda: "[" + "[]," * 20_000_000 + "1]"), ["tokenizer.json", "lists"]),
    "deep index": (text("model.safetensors.index.json", lambda: DEEP), ["index.json", "deep"]),
    "index of numbers": (text("model.safetensors.index.json", lambda: '{"weight_map": {"a": 1}}'), ["weight_map"]),
    "huge header": (header, ["model.safetensors", "a header of"]),
    "too many tensors": (many_tensors, ["model.safetensors", "tensors"]),
    "shards without end": (whole_set, ["no model.safetensors and no index"]),
    "vocabulary": (
        tokenizer(lambda value: value["model"]["vocab"].update({f"t{n}": n for n in range(600, 500_000)})),
        ["tokenizer.json", "576 rows"],
    ),
    "larger vocabulary": (
        text("tokenizer.json", lambda: f'{{"model": {{"vocab": {{{",".join(map(ENTRY, range(5_000_000)))}}}}}}}'),
        ["tokenizer.json", "large"],
    ),
    "tokenizer that backtracks": (
        tokenizer(lambda value: value.update(pre_tokenizer=BACKTRACKS)),
        ["tokenizer.json"],
    ),
    "licence": (linked("LICENSE"), ["LICENSE", "a link out of its folder"]),
    "vocab.txt": (linked("vocab.txt"), ["vocab.txt", "a link out of its folder"]),
    "merges.txt": (linked("merges.txt"), ["merges.txt", "a link out of its folder"]),
    "added_tokens.json": (linked("added_tokens.json"), ["added_tokens.json", "a link out of its folder"]),
    "weights": (linked("model.safetensors"), ["model.safetensors", "a link out of its folder"]),
    "template": (linked("chat_template.jinja"), ["chat_template.jinja", "a link out of its folder"]),
    "named templates": (
        linked("secret.jinja", folder="additional_chat_templates"),
        ["secret.jinja", "a link out of its folder"],
    ),
    "a loop": (lambda weights: (weights / "NOTICE").symlink_to("NOTICE"), []),
}  # fmt: skip

TEMPLATES = {
    "one long text": ("{{ 'a' * 10**10 }}", ["memory to render"]),
    "one wide number": ("{{ '%1000000000d' % 1 }}", ["memory to render"]),
    "doubling": (
        "{% set n = namespace(t='abcdefgh') %}{% for i in range(60) %}{% set n.t = n.t ~ n.t %}{% endfor %}{{ n.t }}",
        ["memory to render"],
    ),
    "loops in loops": (
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        ["s to render"],
    ),
    "macros without end": ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", ["nested too deeply"]),
    "a long literal": ("{{ '" + "a" * 10_000_000 + "' }}", ["a chat template of"]),
    "a long comment": ("{# " + "a" * 10_000_000 + " #}", ["a chat template of"]),
    "parentheses": ("{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}", ["chat template", "nested too deeply"]),
    "a power": ("{{ 9 ** (9 ** 9) }}", ["s to render"]),
}


def refused(stages: Stages, weights: Path, words: list[str], **options: object) -> None:
    output = weights.parent / "made"
    ended = stages.refused("checkpoint", "build", *words, source=weights, output=output, **options)
    assert not output.exists()
    assert SECRET not in ended.out


@pytest.mark.parametrize("kind", [kind for kind, (_, words) in MODELS.items() if words])
def test_a_model_folder(stages: Stages, weights: Path, kind: str) -> None:
    spoil, words = MODELS[kind]
    spoil(weights)
    refused(stages, weights, words)


@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_chat_template(stages: Stages, weights: Path, kind: str) -> None:
    source, words = TEMPLATES[kind]
    (weights / "chat_template.jinja").write_text(source, encoding="utf-8")
    refused(stages, weights, words)


def test_a_template_file_that_is_a_link(stages: Stages, weights: Path) -> None:
    secret, link = weights.parent / "secret", weights.parent / "config" / "chat.jinja"
    secret.write_text(SECRET, encoding="utf-8")
    link.parent.mkdir()
    link.symlink_to(secret)
    refused(stages, weights, ["chat.jinja", "a link out of its folder"], template=link)


def test_a_link_within_the_hubs_cache_is_followed_and_none_out_of_it(
    stages: Stages, weights: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "models--a--b"
    snapshot, blobs = repository / "snapshots" / ("a" * 40), repository / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(sorted(weights.iterdir())):
        path.rename(blobs / str(number))
        (snapshot / path.name).symlink_to(Path("..", "..", "blobs", str(number)))
    ended = stages.run("checkpoint", "build", source=snapshot, output=tmp_path / "sound")
    assert ended.code == 0, ended.out
    (tmp_path / "secret").write_text(SECRET, encoding="utf-8")
    (snapshot / "NOTICE").symlink_to(tmp_path / "secret")
    refused(stages, snapshot, ["NOTICE", "a link out of its folder"])


def test_a_folder_called_snapshots_opens_nothing_around_it(stages: Stages, weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "snapshots" / "a"
    folder.parent.mkdir()
    shutil.move(weights, folder)
    (tmp_path / "secret").write_text(SECRET, encoding="utf-8")
    (folder / "NOTICE").symlink_to(tmp_path / "secret")
    refused(stages, folder, ["NOTICE", "a link out of its folder"])


ADAPTERS: dict[str, tuple[Spoil, list[str]]] = {
    "rank 0": (lambda a: edit(a / "adapter_config.json", r=0), ["r is 0"]),
    "negative rank": (lambda a: edit(a / "adapter_config.json", r=-4), ["r is -4"]),
    "rank as text": (lambda a: edit(a / "adapter_config.json", r="x"), ["r is 'x'"]),
    "huge rank": (lambda a: edit(a / "adapter_config.json", r=10**9), ["r is 1000000000"]),
    "large rank": (lambda a: edit(a / "adapter_config.json", r=1 << 16), ["adapter"]),
    "tokens as a number": (
        lambda a: edit(a / "adapter_config.json", trainable_token_indices={"embed_tokens": None}),
        ["trainable_token_indices is neither"],
    ),
    "pattern of ranks": (
        lambda a: edit(a / "adapter_config.json", rank_pattern={"(a+)+$": 4}), ["could take for ever"]
    ),
    "deep": (lambda a: (a / "adapter_config.json").write_text(DEEP), ["adapter_config.json", "deep"]),
    "sparse": (sparse("adapter_config.json", 50 << 30), ["adapter_config.json", "large"]),
    "licence": (linked("tokenizer.json"), ["tokenizer.json", "a link out of its folder"]),
    "weights": (linked("adapter_model.safetensors"), ["adapter_model.safetensors", "a link out of its folder"]),
}  # fmt: skip


@pytest.fixture
def adapter(tmp_path: Path, tiny_llama: Path) -> Path:
    return tiny.make_adapter(tmp_path / "adapter", tiny_llama)


@pytest.mark.parametrize("kind", ADAPTERS)
def test_an_adapter(stages: Stages, tiny_llama: Path, adapter: Path, kind: str) -> None:
    spoil, words = ADAPTERS[kind]
    spoil(adapter)
    output = adapter.parent / "made"
    stages.refused("checkpoint", "build", *words, source=tiny_llama, adapter=adapter, output=output)
    assert not output.exists()


def test_of_a_broken_adapter_or_template_nothing_more_is_read(
    hostile: Hostile, tiny_llama: Path, adapter: Path, tmp_path: Path
) -> None:
    """Fifty sparse gigabytes would be hashed first: for minutes."""
    sparse("adapter_model.safetensors", 50 << 30)(adapter)
    sparse("chat.jinja", 50 << 30)(tmp_path)
    source = {"path": tiny_llama}
    hostile.beside(
        {"name": "bad", "source": source, "adapters": [{"path": adapter}]},
        {"name": "worse", "source": source, "template": str(tmp_path / "chat.jinja")},
    )
    ended = hostile.refused("adapter_model.safetensors")
    limited.said(ended, "chat.jinja", "a chat template of")


@pytest.mark.parametrize("key", ["target_modules", "exclude_modules", "layers_pattern"])
def test_a_strangers_regular_expression_is_not_searched_with(
    stages: Stages, tiny_llama: Path, adapter: Path, key: str
) -> None:
    edit(adapter / "adapter_config.json", **{key: "(((.+)+)+)+!"})
    ended = stages.run("checkpoint", "build", source=tiny_llama, adapter=adapter, output=adapter.parent / "made")
    assert ended.code in (0, 1) and "Traceback" not in ended.out, ended.out


def gguf(path: Path, *, tensors: int = 0, pairs: int = 0, body: bytes = b"", size: int = 0) -> Path:
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, tensors, pairs) + body)
    if size:
        os.truncate(path, size)
    return path


def pair(key: str, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", kind) + value


GGUFS = {
    "tensors": ({"tensors": 1 << 40, "size": 50 << 30}, "tensors"),
    "pairs": ({"pairs": 1 << 40, "size": 50 << 30}, "pairs of metadata"),
    "an array": ({"pairs": 1, "body": pair("a", 9, struct.pack("<IQ", 8, 1 << 40)), "size": 50 << 30}, "array"),
    "arrays in arrays": ({"pairs": 1, "body": pair("a", 9, struct.pack("<IQ", 9, 1))}, "arrays in arrays"),
    "a text": ({"pairs": 1, "body": pair("a", 8, struct.pack("<Q", 1 << 33)), "size": 50 << 30}, "bytes of header"),
    "alignment": ({"pairs": 1, "body": pair("general.alignment", 4, struct.pack("<I", 0))}, "alignment"),
    "dimensions": (
        {"tensors": 1, "body": struct.pack("<Q", 1) + b"a" + struct.pack("<I", 1 << 31), "size": 50 << 30}, "dimensions"
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", GGUFS)
def test_a_gguf(stages: Stages, tmp_path: Path, kind: str) -> None:
    made, word = GGUFS[kind]
    path = gguf(tmp_path / "a.gguf", **made)  # type: ignore[arg-type]
    stages.refused("checkpoint", "build", "a.gguf", word, source=path, output=tmp_path / "made")


#: Of each kind one that the build tells by itself: a stage's child may have to wait for another build's measurements.
BESIDE = (
    "layers", "width as text", "deep config", "sparse config", "architectures", "quantised, of another type",
    "sparse licence", "sparse tokenizer", "deep index", "index of numbers", "huge header", "shards without end",
    "licence", "named templates",
)  # fmt: skip


#: What commands say of the sound model, whose checkpoint alone is built.
COMMANDS = (
    (["check"], 0, "1 whole"), (["gate"], 1, "package:good-fp16: not built"), (["models"], 0, "nothing is listed"),
    (["chat", "good"], 3, "good: is not deployed"), (["serve", "good"], 3, "good"), (["gc"], 0, "1 left"),
    (["undeploy", "good"], 3, "good: there is no such model"), (["rollback", "good"], 3, "good: there is no such"),
    (["accept"], 1, "Make the report first"), (["families"], 0, "LlamaForCausalLM"),
    (["init", "."], 1, "holds no model"), (["clean"], 0, "checkpoint:good: removed"),
)  # fmt: skip


def test_broken_models_stop_themselves_alone(hostile: Hostile, tiny_llama: Path, tmp_path: Path) -> None:
    names = {kind: f"bad-{number}" for number, kind in enumerate(BESIDE)}
    rows = []
    for kind, name in names.items():
        weights = limited.copy(tiny_llama, tmp_path / name / "weights")
        MODELS[kind][0](weights)
        rows.append({"name": name, "source": {"path": weights}, "precisions": ["fp16"]})
    hostile.beside(*rows)
    built = hostile.refused(names["layers"], "num_hidden_layers is 1000000000")
    for kind, name in names.items():
        limited.said(built, f"checkpoint:{name}", *MODELS[kind][1])
    for command, code in ((["list", "--all"], 0), (["why"], 0), (["doctor"], 1)):
        ended = hostile.run(*command)
        assert ended.code == code, ended.out
        assert "Traceback" not in ended.out and "good" in ended.out, ended.out
    for words, code, said in COMMANDS:
        ended = hostile.run(*words)
        assert ended.code == code, ended.out
        limited.said(ended, said)
    limited.said(hostile.run("info", f"checkpoint:{names['layers']}"), f"checkpoint:{names['layers']}")

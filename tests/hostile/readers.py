"""Every reader of what may be a stranger's file: a sound example of it, and what reads it.

A reader is given a folder with one file spoilt. It returns, or raises `IngotError` (or `OSError`, where its callers
take that for the file's fault); what it returns is also used as far as that costs nothing.
"""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from hypothesis import strategies as st
from msgspec import Struct

from scripts.cases import cases
from scripts.checkpoint import headers, layout, templates, vocabulary
from scripts.checkpoint.adapters import check_adapter
from scripts.checkpoint.weights import check_source
from scripts.common import genai_config, json_files, json_values, manifest
from scripts.common.errors import IngotError
from scripts.definitions import workflow
from scripts.engine import listed
from scripts.engine import state as state_file
from scripts.engine.digests import Digests
from scripts.engine.records import Records
from scripts.engine.state import State
from scripts.engine.store import Store
from scripts.finetune.data import read_examples
from scripts.foundry import cache, figures, marks, planning
from scripts.results import base, remarks, report
from scripts.settings.reading import read as read_settings
from tests.hostile import mutations


class Reader(NamedTuple):
    """A file's name, what is in it where it is sound, and what reads the folder; the other files there, by name.

    `write` makes the file of a value, where it is neither JSON nor TOML.
    """

    file: str
    value: Any
    read: Callable[[Path], object]
    beside: Mapping[str, bytes] = MappingProxyType({})
    write: Callable[[bytes], bytes] = bytes

    @property
    def sound(self) -> bytes:
        """The file as it should be."""
        if isinstance(self.value, bytes):
            return self.value
        return mutations.as_toml(self.value) if self.file.endswith(".toml") else self.write(as_json(self.value))

    @property
    def spoilt(self) -> st.SearchStrategy[bytes]:
        """The file in all its spoilt forms."""
        if isinstance(self.value, bytes):
            return mutations.cut(self.value)
        made = mutations.toml_files if self.file.endswith(".toml") else mutations.json_files
        return made(self.value).map(self.write) | mutations.cut(self.sound)


CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 256, "intermediate_size": 768,
    "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 64, "head_dim": 64,
    "max_position_embeddings": 4096, "tie_word_embeddings": True, "quantization_config": None, "rope_theta": 1e4,
    "rope_parameters": {"rope_type": "default", "factor": 2.0}, "text_config": {"num_hidden_layers": 1},
    "eos_token_id": [1, 2], "dtype": "float32", "rms_norm_eps": 1e-6,
}  # fmt: skip
TOKENIZER = {
    "version": "1.0", "added_tokens": [{"id": 2, "content": "<s>", "special": True}], "pre_tokenizer": None,
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [["a", "b"]]},
}  # fmt: skip
MODELS = {
    "foundry": {"cache": "cache"}, "limits": {"minutes": 5, "export": {"memory_gib": 4}},
    "model": [{
        "name": "m", "source": {"path": "weights"}, "adapters": [{"path": "a", "weight": 0.5}], "precisions": ["int4"],
        "deploy": "all", "description": "d", "version": "1", "license": "mit", "context_length": 512, "template": "t",
        "sampling": {"temperature": 0.2, "top_k": 4}, "evaluation": {"text": "t.txt", "cases": "c.jsonl"},
        "gates": {"int4": {"kl": 0.5}}, "limits": {"minutes": 3},
    }, {"name": "n", "source": {"hub": "o/n", "revision": "0" * 40}}],
}  # fmt: skip
RECIPES = {"mine": {
    "target": "cpu", "label": "l", "gates": {"kl": 0.3},
    "passes": [{"type": "WeightOnlyQuantization", "bits": 4, "block_size": 128, "algorithm": "search"}],
}, "flow": {"olive": "flow.json"}}  # fmt: skip
WORKFLOW = {
    "input_model": {"type": "HfModel", "model_path": "x"}, "engine": {"target": "local", "cache_dir": "c"},
    "systems": {"local": {"type": "LocalSystem", "accelerators": [{"execution_providers": ["CPUExecutionProvider"]}]}},
    "passes": {"a": {"type": "ModelBuilder", "config": {"precision": "int4", "int4_block_size": 32}},
               "b": [{"type": "WeightOnlyQuantization", "bits": 4}]},
    "output_dir": "o",
}  # fmt: skip
ADAPTER = {
    "peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "o_proj"], "task_type": "CAUSAL_LM",
    "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 4}, "init_lora_weights": True, "use_dora": False,
    "modules_to_save": None, "layers_pattern": "layers", "auto_mapping": None, "exclude_modules": None,
}  # fmt: skip
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "required": ["a"],
    "properties": {"a": {"$ref": "#/$defs/word"}, "b": {"type": "integer", "minimum": 0}},
    "$defs": {"word": {"enum": ["x", "y"]}}, "patternProperties": {"^c": {"type": "string", "pattern": "^d"}},
}  # fmt: skip
CASE = {
    "id": "t-1", "messages": [{"role": "user", "content": "q"}], "max_tokens": 8, "labels": {"k": 1},
    "expect": {"schema": True, "fields": {"a": "x"}, "regex": "x", "contains": ["x"], "max_chars": 9, "no_loop": True},
}  # fmt: skip
EXAMPLE = {"id": "e-1", "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": '{"a": "x"}'}]}
INDEX = {"catalog_name": "local", "version": 2,
         "models": [{"model_info": {"id": "m-int4-generic-cpu:1"}, "model_path": "/nowhere/ingot/m"}]}  # fmt: skip
MANIFEST = {"files": {"a": {"size": 1, "blake3": "0" * 64}}, "ingot": {"id": "m-int4-generic-cpu:1"}}
GENAI = {"model": {"context_length": 512, "decoder": {"filename": "model.onnx", "session_options": {
    "provider_options": [{"cpu": {}}]}, "num_hidden_layers": 2, "num_key_value_heads": 2, "head_size": 64}},
    "search": {"max_length": 512, "temperature": 0.5}}  # fmt: skip
REPORT = {"version": 2, "models": [], "environment": {"python": "3"}, "called": {"options": [], "build": "b"},
          "changes": {"accepted_at": "x", "note": None, "entries": []}}  # fmt: skip
OUTCOME = {"verdict": "passed", "reasons": ["r"]}


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def tensors(names: dict[str, list[int]]) -> bytes:
    """A safetensors file of zeros."""
    entries, end = {}, 0
    for name, shape in names.items():
        size = 4
        for length in shape:
            size *= length
        entries[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    return with_header(as_json({"__metadata__": {"format": "pt"}, **entries}), end)


def with_header(header: bytes, size: int) -> bytes:
    return len(header).to_bytes(8, "little") + header + bytes(size)


SMALL = {"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}, "__metadata__": {"format": "pt"},
         "b": {"dtype": "BF16", "shape": [4], "data_offsets": [16, 24]}}  # fmt: skip
LAYER = {"model.embed_tokens.weight": [64, 2], "model.layers.0.self_attn.q_proj.weight": [2, 2]}


def gguf() -> bytes:
    """A GGUF file of one tensor, with metadata of several types."""

    def text(word: str) -> bytes:
        return struct.pack("<Q", len(word)) + word.encode()

    pairs = [
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("general.alignment") + struct.pack("<II", 4, 32),
        text("llama.context_length") + struct.pack("<IQ", 10, 512),
        text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b"),
        text("tokenizer.ggml.scores") + struct.pack("<IIQff", 9, 6, 2, 0.0, 1.0),
        text("tokenizer.ggml.add_bos_token") + struct.pack("<I?", 7, True),
    ]
    tensor = text("token_embd.weight") + struct.pack("<IQQIQ", 2, 4, 2, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(pairs)) + b"".join(pairs) + tensor
    return head + bytes(-len(head) % 32 + 32)


def _settings(folder: Path) -> None:
    for model in read_settings(folder).models:
        assert model.problem is None or str(model.problem)


def _schema(folder: Path) -> None:
    validator = cases.load_schema(folder / "schema.json")
    case = cases.load(folder / "sound.jsonl")[0]
    for text in ('{"a": "x", "c1": "d"}', "[1, {}]"):
        cases.judge(case, text, validator)


def _state(folder: Path) -> None:
    state = State(folder / "state.db")
    records = Records(state)
    for name in ("a", "b"):
        records.receipt(name)
        records.cost(name)
    state.put("cost", "c", "[1.0, 2]")
    assert records.cost("c") == (1.0, 2)
    state.close()


def _store(folder: Path) -> None:
    (folder / "store" / "key").mkdir(parents=True, exist_ok=True)
    for name in (manifest.MANIFEST, manifest.PROVENANCE, "a"):
        (folder / name).replace(folder / "store" / "key" / name)
    digests = Digests(State(Path(":memory:")))
    store = Store(folder, digests)
    store.objects()
    if store.restore("key", folder / "out") is not None:
        assert (folder / "out" / "a").read_bytes() == b"x"


def _cache(folder: Path) -> None:
    cache.registrations(folder)
    files = {"a": {"size": 1, "blake3": "0"}}
    planning.plan(folder, "n-int4-generic-cpu:1", files, lambda _: files)


def _cached(folder: Path) -> None:
    marks.owner(folder)
    cache.marked_name(folder / cache.MARKER)
    if listed := manifest.load(str(folder)):
        cache.differences(folder, listed["files"])


def _result(file: str, kind: type[Struct]) -> Callable[[Path], object]:
    return lambda folder: base.read(folder / file, kind)


def _genai(folder: Path) -> None:
    config = genai_config.read(folder)
    genai_config.graphs(config), genai_config.providers(config), genai_config.key_value_bytes(config)


def _tokens(folder: Path) -> None:
    vocabulary.read_tokens(folder)
    vocabulary.beyond(folder, 3, "")


def _examples(folder: Path) -> object:
    return read_examples(folder / "tickets.jsonl", cases.load_schema(folder / "schema.json"))


LISTED = {"version": listed.VERSION, "key": "k", "seconds": 1.5, "files": {
    "a/b.bin": {"size": 3, "blake3": "ab" * 32},
    "c": {"size": 5, "blake3": "cd" * 32, "own": True, "link": True}}}  # fmt: skip


def database() -> bytes:
    """What `build/state.db` holds after a step."""
    db = sqlite3.connect(":memory:")
    db.execute(state_file._TABLE)
    db.execute(f"pragma user_version = {state_file._VERSION}")
    facts = [("receipt", "a", '["key","passed:1",[["x",1,2,3,4]],{}]'), ("cost", "b", "[1.5, 10]"),
             ("receipt", "b", '["key"]'), ("cost", "a", '{"a": []}')]  # fmt: skip
    for kind, name, value in facts:
        db.execute("insert into facts values (?, ?, ?, ?)", (kind, name, value, state_file._sum(name, value)))
    return db.serialize()


def _passes(folder: Path) -> None:
    workflow.check(json_files.read(folder / "flow.json"))


def _lines(folder: Path) -> object:
    return list(json_values.lines(folder / "texts.jsonl"))


def sealed(body: bytes) -> bytes:
    """What a shared store says of an artifact, with the digest that this has, whatever is in it."""
    try:
        value = json.loads(body)
    except ValueError:
        return body
    return as_json({"blake3": listed._digest(value), "body": value})


def _listed(folder: Path) -> None:
    try:
        found = listed.loads((folder / "artifact.json").read_bytes(), "k")
    except listed.LyingError as error:
        raise IngotError("shared store", str(error)) from None
    assert listed.loads(listed.dumps(found), "k").files == found.files and found.contents


READERS: dict[str, Reader] = {
    "models": Reader("models.toml", MODELS, _settings),
    "recipes": Reader("recipes.toml", RECIPES, _settings, {
        "models.toml": b'[[model]]\nname = "m"\nsource = { path = "w" }\nprecisions = ["mine", "flow"]\n',
        "flow.json": as_json(WORKFLOW)}),
    "workflow": Reader("flow.json", WORKFLOW, _settings, {
        "models.toml": b'[[model]]\nname = "m"\nsource = { path = "w" }\nprecisions = ["flow"]\n',
        "recipes.toml": b'[flow]\nolive = "flow.json"\n'}),
    "passes": Reader("flow.json", WORKFLOW, _passes),
    "config": Reader("config.json", CONFIG, check_source, {
        "model.safetensors": tensors(LAYER), "tokenizer.json": as_json(TOKENIZER)}),
    "index": Reader("model.safetensors.index.json", {"metadata": {"total_size": 1}, "weight_map": {
        "model.embed_tokens.weight": "a.safetensors"}}, layout.find_weights, {
        "a.safetensors": tensors({"model.embed_tokens.weight": [64, 2]})}),
    "safetensors": Reader("a.safetensors", SMALL, lambda folder: headers.read_safetensors(folder / "a.safetensors"),
                          write=lambda header: with_header(header, 24)),
    "gguf": Reader("a.gguf", gguf(), lambda folder: check_source(folder / "a.gguf")),
    "adapter": Reader("adapter_config.json", ADAPTER, check_adapter, {
        "adapter_model.safetensors": tensors({"base_model.model.q_proj.lora_A.weight": [4, 2]})}),
    "template": Reader("tokenizer_config.json", {"chat_template": [{"name": "default", "template": "{{ 1 }}"}],
                       "eos_token": {"content": "</s>"}}, templates.read),
    "jinja": Reader("chat_template.jinja", (b"{% for m in messages %}{{ m['content'] }}{% endfor %}"),
                    templates.read),
    "tokenizer": Reader("tokenizer.json", TOKENIZER, _tokens, {
        "tokenizer_config.json": as_json({"bos_token": "<s>"})}),
    "schema": Reader("schema.json", SCHEMA, _schema, {"sound.jsonl": as_json(CASE)}),
    "cases": Reader("cases.jsonl", CASE, lambda folder: cases.load(folder / "cases.jsonl")),
    "examples": Reader("tickets.jsonl", EXAMPLE, _examples, {"schema.json": as_json(SCHEMA)}),
    "lines": Reader("texts.jsonl", {"text": "a"}, _lines),
    "manifest": Reader("manifest.json", MANIFEST, _cached, {"a": b"x"}),
    "marker": Reader("inference_model.json", {"Name": "m:1"}, _cached),
    "measured": Reader("measured.json", {"files": manifest.files_digest({}), "figures": {"verdict": "passed"}},
                       figures.kept, {"manifest.json": as_json({"files": {}})}),
    "cache": Reader("foundry.local.modelinfo.json", INDEX, _cache),
    "store": Reader("manifest.json", MANIFEST, _store, {"provenance.json": b"{}", "a": b"x"}),
    "shared": Reader("artifact.json", LISTED, _listed, write=sealed),
    "state": Reader("state.db", database(), _state),
    "genai": Reader("genai_config.json", GENAI, _genai),
    "result": Reader("result.json", OUTCOME, _result("result.json", base.Outcome)),
    "remarks": Reader("remarks.json", {"remarks": [{"subject": "s", "text": "t"}]}, remarks.read),
    "report": Reader("report.json", REPORT, _result("report.json", report.Report)),
    "accepted": Reader("accepted.json", {"accepted_at": "x", "note": None, "report": REPORT},
                       lambda folder: report.accepted(folder / "accepted.json")),
}  # fmt: skip

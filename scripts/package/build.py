"""Make the folder that Foundry Local gets: the ONNX model, its settings, tokenizer, template, card and licence.

Weights are linked, everything small is written anew. inference_model.json is written last: for runtimes that scan
folders it is what makes this one a model.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.checkpoint import templates
from scripts.checkpoint import tokenizer as tokenizers
from scripts.common import context_limit, genai_config, json_files, links, model_id
from scripts.common.errors import IngotError
from scripts.common.manifest import NOT_CONTENT
from scripts.common.model_files import CARD, SERVED_TOKENIZER, files_in, is_legal_file
from scripts.definitions.sampling import parse_sampling
from scripts.package import card, chat, chunks, head, markers, rules, sampling, template, turns
from scripts.package.card import PackageSpec
from scripts.results import remarks

_BIG = 1 << 20  # bytes; from here on a file is linked
#: Notes of the build and of Olive, some with absolute paths, and what is written anew.
_LEFT_OUT = {
    *NOT_CONTENT,
    remarks.NAME,
    *("model_config.json", "footprint.json", "olive_config.json"),
    *("genai_config.json", "tokenizer_config.json", "chat_template.jinja", "inference_model.json", CARD),
}


def build(
    onnx: Path, checkpoint: Path, spec: PackageSpec, output: Path, template_of: Path | None = None, gained: str = ""
) -> None:  # fmt: skip
    """Write the package of the GenAI folder `onnx`, whose tokenizer's truth is `checkpoint`'s, to `output`.

    `template_of`: a checkpoint whose chat template is used where `checkpoint` has none. `gained`: a paragraph of the
    card, on what fine-tuning gained.
    Raises `IngotError` where an input is missing, a setting is out of range, Foundry would refuse the folder, or the
    runtime's token ids differ from those of transformers.
    """
    identity = model_id.parse(spec.model_id)
    genai = _settings(onnx, checkpoint, spec)
    tokenizer = tokenizers.load(checkpoint)
    if template_of is not None and templates.own(checkpoint) is None:
        tokenizer.use_template(templates.own(template_of))
        _say("the chat template is that of the fine-tuned model: this one has none")
    template_text = chat.template_of(tokenizer, checkpoint)

    output.mkdir(parents=True)
    _say(f"linking {onnx.name}")
    _place_files(onnx, checkpoint, output)
    _prune_head(onnx, output, genai)
    chunks.read_in_pieces(genai, output)
    said = [*turns.end_generation(genai, tokenizer, checkpoint), *markers.publish(genai, tokenizer)]
    json_files.write(output / "genai_config.json", genai)
    agreement, rewritten = chat.write(onnx, checkpoint, template_text, tokenizer, output)
    said += rewritten
    _say(f"{agreement.compared} conversations have the same token ids in transformers and in the runtime")
    for name, reason in agreement.skipped.items():
        _say(f"not compared: {name!r}, which the chat template itself refuses ({reason})")

    remarks.write(output, said)

    prompt = template.derive(_renderer(tokenizer), dated=_is_dated(tokenizer))
    _say(f"PromptTemplate: {', '.join(prompt.parts) or 'left out'}")
    told = [f"{remark.subject}: {remark.text}" for remark in said]
    for line in (*told, *prompt.remarks, *sampling.remarks(genai)):
        _say(line)
    facts = card.Facts(
        spec=spec,
        identity=identity,
        licences=_copy_licences(checkpoint, output),
        genai=genai,
        size=sum(path.stat().st_size for path in output.iterdir() if ".onnx" in path.name),
        cache=genai_config.key_value_bytes(genai, output),
        template=prompt,
        agreement=agreement,
        gained=gained,
    )
    (output / CARD).write_text(card.render(facts), encoding="utf-8", newline="\n")
    json_files.write(output / "inference_model.json", _inference_model(spec, prompt.parts, genai["search"]))
    rules.check_folder(output, spec.model_id)


def _settings(onnx: Path, checkpoint: Path, spec: PackageSpec) -> dict[str, Any]:
    """The package's genai_config.json, parsed; every check that needs no heavy import happens here."""
    for folder, option in ((onnx, "--onnx"), (checkpoint, "--checkpoint")):
        if not folder.is_dir():
            raise IngotError(folder, "no such folder", f"{option} names a folder")
    if not (checkpoint / "config.json").is_file():
        raise IngotError(checkpoint / "config.json", "missing", "A Hugging Face checkpoint has one")
    exported = genai_config.read(onnx)
    for graph in genai_config.graphs(exported):
        if not (onnx / graph).is_file():
            raise IngotError(onnx / graph, "missing, but genai_config.json names it", "Run the conversion again")
    for name in SERVED_TOKENIZER:
        if not any((folder / name).is_file() for folder in (onnx, checkpoint)):
            raise IngotError(checkpoint / name, "missing", "The checkpoint must hold a fast tokenizer")
    wanted = parse_sampling({} if spec.sampling is None else spec.sampling)
    limit = sampling.model_limit(checkpoint, exported)
    context = context_limit.choose(spec.context_length, wanted, limit, sampling.window(exported))
    return sampling.apply(exported, wanted, context)


def _place_files(onnx: Path, checkpoint: Path, output: Path) -> None:
    """Give the folder every file that is not written anew; the big ones share their bytes with `onnx`."""
    for source in sorted(path for path in onnx.rglob("*") if path.is_file()):
        name = source.relative_to(onnx)
        if name.name in _LEFT_OUT or any(part.startswith(".") for part in name.parts):
            continue
        if source.stat().st_size < _BIG and ".onnx" not in source.name:
            (output / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, output / name)
        elif links.link(source, output / name) == "copy":
            _say(f"copied {name}: it can't be linked on this file system")
    if not (output / "tokenizer.json").exists():
        _say("the export has no tokenizer.json: taken from the checkpoint")
        shutil.copyfile(checkpoint / "tokenizer.json", output / "tokenizer.json")  # maybe the user's: never linked


def _prune_head(onnx: Path, output: Path, genai: Mapping[str, Any]) -> None:
    """Replace the linked graph by one that gives the logits of the last position alone, where it can be."""
    name = genai["model"]["decoder"]["filename"]
    pruned = output / f"{name}.pruned"
    if head.prune(onnx / name, pruned, genai):
        pruned.replace(output / name)
    else:
        _say(f"{name} gives the logits of every position: its output head is none that is known here")


def _copy_licences(checkpoint: Path, output: Path) -> tuple[str, ...]:
    found = files_in(checkpoint, is_legal_file)
    for path in found:
        shutil.copyfile(path, output / path.name)
    return tuple(path.name for path in found)


def _renderer(tokenizer: Any) -> template.Render:
    def render(messages: Sequence[Mapping[str, str]], prompt: bool) -> str:
        return str(tokenizer.apply_chat_template(messages, add_generation_prompt=prompt, tokenize=False))

    return render


def _is_dated(tokenizer: Any) -> bool:
    """Whether the template writes the date of the day: take its clock away and see whether it misses it."""
    for roles in (("user",), ("system", "user")):
        talk = [{"role": role, "content": "Hello"} for role in roles]
        try:
            tokenizer.apply_chat_template(talk, tokenize=False)
        except tokenizers.REFUSALS:
            continue
        try:
            tokenizer.apply_chat_template(talk, tokenize=False, strftime_now="no clock")
        except TypeError:
            return True
    return False


def _inference_model(spec: PackageSpec, parts: Mapping[str, str], search: Mapping[str, Any]) -> dict[str, Any]:
    settings = ("max_length", "temperature", "top_p", "repetition_penalty")
    described = {"Name": spec.model_id, "Description": spec.description, "Version": spec.version}
    derived = {"PromptTemplate": dict(parts)} if parts else {}
    return {**described, **derived, "ModelConfig": {key: search[key] for key in settings if key in search}}


def _say(text: str) -> None:
    print(f"package: {text}", flush=True)

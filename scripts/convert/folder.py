"""The shape of what this stage makes: model.onnx, model.onnx.data, genai_config.json, the tokenizer's files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from scripts.common import json_files
from scripts.common.model_files import CHAT_TEMPLATES, GRAPH, GRAPH_DATA, TEMPLATES
from scripts.convert.check import check
from scripts.definitions.passes import OPENVINO, graph_for

#: Microseconds that a waiting thread spins before it sleeps.
_SPIN = "20"


def finish(
    made: Path, output: Path, target: str, checkpoint: Path | None, change: Callable[[Path], None] | None = None
) -> None:
    """Put what Olive made into shape, `change` it, try it, and only then let it be seen as `output`."""
    work = made.with_name("finished")
    collect(made, work)
    if change:
        change(work)
    if checkpoint is not None:
        add_generation_settings(checkpoint, work)
    drop_templates(work)
    if target in OPENVINO:
        ask_openvino(work, OPENVINO[target])
    if graph_for(target) == "cpu":
        use_every_core(work)
    check(work, target)
    work.rename(output)


def collect(made: Path, output: Path) -> None:
    """Move the model in `made` (Olive's output folder) to the new folder `output`, under the names that we promise.

    Weights kept inside the graph or in files of other names are written again, one at a time, into model.onnx.data.
    """
    from scripts.convert.graph import Graph, Writer

    output.mkdir(parents=True)
    (source,) = sorted(made.glob("*.onnx"))
    graph = Graph(source)
    files = {
        entry.value
        for tensor in graph.initializers.values()
        for entry in tensor.external_data
        if entry.key == "location"
    }
    taken = {source.name, *files}
    if source.name == GRAPH and files == {GRAPH_DATA}:
        for name in taken:
            shutil.move(made / name, output / name)
    else:
        with Writer(output) as writer:
            writer.finish(graph, list(graph.graph.node))
    for path in sorted(made.iterdir()):
        if path.name not in taken and path.exists():
            shutil.move(path, output / path.name)
    settings_file = output / "genai_config.json"
    if source.name != GRAPH and settings_file.exists():
        settings = json_files.read(settings_file)
        settings["model"]["decoder"]["filename"] = GRAPH
        json_files.write(settings_file, settings)


def use_every_core(folder: Path) -> None:
    """Have ONNX Runtime compute on every physical core, and its threads sleep where they wait for more than a moment.

    Without a word, onnxruntime-genai 0.18 takes half of what the system calls a processor: right with two hyper-threads
    a core, half the speed without, as on most ARM and on virtual machines. Between the operators of a token threads
    wait for some microseconds hundreds of times, and going to sleep takes as long: with `_SPIN` they decode 1.27 times
    as fast as without on an idle machine, and 0.98 times beside other work, where spinning without an end costs a fifth
    (SmolLM2-135M, int4-best, 2 cores). ONNX Runtime before 1.31 does not know the limit, and spins for longer.
    """
    file = folder / "genai_config.json"
    settings = json_files.read(file)
    session = settings["model"]["decoder"].setdefault("session_options", {})
    session.setdefault("intra_op_num_threads", 0)
    session.setdefault("session.intra_op.allow_spinning", "1")
    session.setdefault("session.intra_op.spin_duration_us", _SPIN)
    json_files.write(file, settings)


def ask_openvino(folder: Path, device: str) -> None:
    """Have onnxruntime-genai compute on OpenVINO's `device`, which hands out keys and values longer by each token.

    The form is that which Olive 0.13 writes for OpenVINO, without `enable_causallm`: with it the provider must take the
    whole graph, and openvino 2025.4 does not compile what is left.
    """
    file = folder / "genai_config.json"
    settings = json_files.read(file)
    session = settings["model"]["decoder"].setdefault("session_options", {})
    session["provider_options"] = [{"OpenVINO": {"device_type": device}}]
    settings["search"]["past_present_share_buffer"] = False
    json_files.write(file, settings)


def drop_templates(folder: Path) -> None:
    """Take out the chat template, which the package takes from the checkpoint: an edit of it makes no other graph."""
    for name in CHAT_TEMPLATES:
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / TEMPLATES, ignore_errors=True)
    file = folder / "tokenizer_config.json"
    if file.is_file() and "chat_template" in (settings := json_files.read(file)):
        json_files.write(file, {key: value for key, value in settings.items() if key != "chat_template"})


def add_generation_settings(checkpoint: Path, output: Path) -> None:
    """Carry generation_config.json along, where the checkpoint has one: the builder reads it but does not copy it."""
    source = checkpoint / "generation_config.json"
    if source.exists() and not (output / source.name).exists():
        shutil.copyfile(source, output / source.name)

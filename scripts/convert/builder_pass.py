"""The Olive pass `ModelBuilder` on ONNX Runtime GenAI's builder 0.18, where Olive 0.13's own no longer runs.

Olive 0.13.0 imports `onnxruntime_genai.models.quantized_model`, which 0.18 has no more, and calls `create_model`
without the preparation that 0.18 demands; drop this module when Olive's own pass supports genai ≥0.18. Registered under
Olive's name, it runs users' workflows unmodified. Unlike both, it ignores nothing: `quantization_config` is honoured,
`int4_*` names become 0.18's, an unknown option is an error.

Importing this module imports Olive; the builder is imported when the pass runs.
"""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path
from typing import Any

from olive.model import HfModelHandler, ONNXModelHandler
from olive.model.utils import resolve_onnx_path
from olive.passes import Pass
from olive.passes.olive_pass import PassConfigParam

from scripts.checkpoint.load import all_loads_checked, none_rounded
from scripts.common import json_files
from scripts.common.errors import IngotError
from scripts.common.imports import uncollected
from scripts.convert import bridges
from scripts.convert.options import TARGETS
from scripts.convert.pass_options import parameters
from scripts.definitions import builder as definition

_PROVIDERS = {provider: name for name, (_, provider) in TARGETS.items()}


class ModelBuilder(Pass):  # type: ignore[misc]
    """Builds an ONNX GenAI folder from a Hugging Face checkpoint."""

    @classmethod
    def _default_config(cls, accelerator_spec: Any) -> dict[str, PassConfigParam]:  # noqa: ARG003
        return parameters(definition.ModelBuilder)

    @staticmethod
    def is_accelerator_agnostic(accelerator_spec: Any) -> bool:  # noqa: ARG004
        return False

    def _run_for_config(self, model: Any, config: Any, output_model_path: str) -> ONNXModelHandler:
        if not isinstance(model, HfModelHandler):
            raise IngotError(
                "pass ModelBuilder", "its input is not a Hugging Face checkpoint", "Make it the first pass"
            )
        given = config.model_dump()
        target = _PROVIDERS.get(self.accelerator_spec.execution_provider, "cpu")
        options = definition.translate(given, "pass ModelBuilder", target)
        folder = Path(resolve_onnx_path(output_model_path)).parent
        build(Path(model.model_name_or_path), folder, given["precision"], target, options)
        if search := given.get("search"):
            settings = json_files.read(folder / "genai_config.json")
            settings["search"] |= search
            json_files.write(folder / "genai_config.json", settings)
        found_files = sorted(folder.glob("*.onnx"))
        if len(found_files) != 1:
            found = f"built {len(found_files)} models: {', '.join(path.name for path in found_files)}"
            raise IngotError("pass ModelBuilder", found, "Only single text models are supported")
        onnx_file = found_files[0]
        beside = {onnx_file.name, f"{onnx_file.name}.data"}
        extra = sorted(str(path) for path in folder.iterdir() if path.name not in beside)
        return ONNXModelHandler(
            str(folder), onnx_file_name=onnx_file.name, model_attributes={"additional_files": extra}
        )


def build(checkpoint: Path, folder: Path, precision: str, target: str, extra: dict[str, Any]) -> None:
    """Run builder 0.18: `checkpoint` → ONNX GenAI files in `folder`; `extra` are its options, each of its own type."""
    with uncollected():
        import onnxruntime_genai
        from onnxruntime_genai.models import builder

    # Builder 0.18 asks git for its commit from where it is installed, and a virtual environment is in the user's
    # own repository: each commit there would change the model. What the wheel says of itself is meant.
    commit = getattr(onnxruntime_genai, "__commit__", None)
    builder.Model.get_genai_commit = classmethod(lambda _: commit)
    folder.mkdir(parents=True, exist_ok=True)
    # No token is asked for: nothing is fetched, and the builder wants one for every folder otherwise.
    words = [f"{key}={_word(key, value)}" for key, value in sorted({**extra, "hf_token": False}.items())]
    with tempfile.TemporaryDirectory(dir=folder.parent) as cache:
        prepared = builder.parse_extra_options(None, str(checkpoint), str(folder), precision, target, cache, words)
        with (
            all_loads_checked(),
            none_rounded(checkpoint),
            bridges.applied(builder, prepared, folder) as names,
        ):
            print(f"builder: bridges for {', '.join(names)}", flush=True)
            builder.create_model(None, str(checkpoint), str(folder), precision, target, cache, **prepared)
    del prepared
    gc.collect()  # the builder's model refers to itself: the checkpoint would stay mapped until some later collection


def _word(key: str, value: Any) -> str:
    """A value in the builder's KEY=VALUE syntax."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ("/" if key == "op_types_to_quantize" else ",").join(value)
    return str(value)

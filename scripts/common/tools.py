"""The outside tools, in one place: which version was tested and what rests on it, and which of them act on a result.

`TOOLS` is what README, pyproject.toml, requirements.lock and comments must agree with; a test reads them all. `LOADS`
and `PLUMBING` say what a new version of a distribution means: what `LOADS` names for an import goes into the keys of
the steps whose code has that import, so a new version runs them again; what `PLUMBING` names may be loaded by them,
and can't change what they make.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass

#: The oldest Python that Ingot runs on.
PYTHON = (3, 11)


@dataclass(frozen=True)
class Tool:
    """A distribution at the version that was tested; `called` is how texts name it, `measured` what rests on it.

    `others` are versions that texts may name too, each with what is said of it.
    """

    distribution: str
    tested: str
    called: tuple[str, ...]
    measured: str
    others: tuple[tuple[str, str], ...] = ()
    optional: bool = False


TOOLS = (
    Tool("foundry-local-sdk", "2.2.1", ("foundry-local-sdk", "SDK"),
         "registering, listing and loading; what a request may hold; the index of a cache; memory while serving",
         others=(("2.0", "the last that lists what is dropped into a cache"), ("2.0.1", "the one that was run"),
                 ("2.1", "the first that lists only what is registered"),
                 ("2.2", "the first that takes the context from context_length"))),
    Tool("onnxruntime-genai", "0.18.0", ("onnxruntime-genai", "genai", "builder", "GenAI"),
         "options and architectures of the model builder; threads; the key-value buffer; tokenizer and templates",
         others=(("0.11", "the first that knows chunk_size"), ("0.12.2", "the oldest that loads a package"))),
    Tool("onnxruntime-genai-core", "0.18.0", ("onnxruntime-genai-core",), "what the Foundry runtime computes with"),
    Tool("onnxruntime", "1.31.0", ("onnxruntime", "ONNX Runtime"), "kernels of 4 and 8 bits: precision, speed"),
    Tool("olive-ai", "0.13.0", ("olive-ai", "Olive"), "passes and their options; how a workflow fails; its telemetry"),
    Tool("mobius-onnx", "0.1.0", ("mobius-onnx", "mobius"), "which families it makes rightly, and how its graphs look"),
    Tool("onnx", "1.23.2", ("onnx",), "reading weights beside a graph; what it refuses of links"),
    Tool("transformers", "5.23.0", ("transformers",), "loading, merging and saving checkpoints; chat templates"),
    Tool("torch", "2.13.0", ("torch",), "the reference's log-probabilities; merging; training"),
    Tool("peft", "0.21.2", ("peft",), "the layout and the arithmetic of adapters"),
    Tool("gguf", "0.19.0", ("gguf",), "reading GGUF files"),
    Tool("doit", "0.37.0", ("doit",), "the methods that `scripts.doit_plugin` overrides"),
    Tool("compressed-tensors", "0.20.0", ("compressed-tensors",), "reading what it compressed"),
    Tool("onnxruntime-ep-webgpu", "0.4.0", ("onnxruntime-ep-webgpu",), "what is made for WebGPU runs by it",
         optional=True),
    Tool("openvino", "2026.4.1", ("openvino", "OpenVINO"), "what is made for Intel's devices runs by it",
         others=(("2025.4", "that of onnxruntime-openvino 1.24.1"),), optional=True),
    Tool("llama-cpp-python", "0.3.36", ("llama-cpp-python",), "the peer of `doit bench-full`", optional=True),
)  # fmt: skip

#: An import in the project's code → the distributions that act on a result by it. An import that is longer adds to what
#: its beginning brings. Nothing: it can't act, see `PLUMBING`.
LOADS: dict[str, tuple[str, ...]] = {
    "accelerate": (),
    "altair": ("altair", "jsonschema", "referencing", "rpds-py"),
    "blake3": (),
    "compressed_tensors": ("compressed-tensors", "torch"),
    "dask": (),
    "distributed": (),
    "filelock": (),
    "foundry_local_sdk": ("foundry-local-sdk", "onnxruntime-genai-core", "onnxruntime"),
    "fsspec": (),
    "gguf": ("gguf", "numpy"),
    "google": ("protobuf",),
    "huggingface_hub": (),
    "huggingface_hub.repocard": ("huggingface-hub", "pyyaml"),
    "jinja2": ("jinja2", "markupsafe"),
    "jsonschema": ("jsonschema", "referencing", "rpds-py"),
    "llama_cpp": ("llama-cpp-python",),
    "lm_eval": ("lm-eval", "datasets", "evaluate", "torch", "transformers", "tokenizers", "numpy"),
    "markupsafe": ("markupsafe",),
    "mlflow": (),
    "model_signing": (),
    "mobius": (
        "mobius-onnx", "ml-dtypes", "numpy", "onnx", "onnx-ir", "onnx-shape-inference", "onnxscript", "protobuf",
        "safetensors", "sympy", "torch", "transformers",
    ),
    "msgspec": (),
    "numpy": ("numpy",),
    "olive": (
        "olive-ai", "jinja2", "markupsafe", "ml-dtypes", "numpy", "onnx", "onnx-ir", "onnxruntime", "onnxscript",
        "protobuf", "regex", "safetensors", "sentencepiece", "tokenizers", "torch", "transformers",
    ),
    "onnx": ("onnx", "ml-dtypes", "numpy", "protobuf"),
    "onnx_ir": ("onnx-ir", "ml-dtypes", "numpy"),
    "onnxruntime": ("onnxruntime", "numpy"),
    "onnxruntime_ep_webgpu": ("onnxruntime-ep-webgpu",),
    "onnxruntime_genai": ("onnxruntime-genai", "onnxruntime", "numpy"),
    "onnxruntime_genai.models": ("onnx", "onnx-ir", "protobuf", "safetensors", "sentencepiece", "tokenizers",
                                 "torch", "transformers"),
    "openai": ("openai", "h11", "httpcore2", "httpx2", "jiter", "pydantic", "pydantic-core"),
    "openvino": ("openvino", "numpy"),
    "peft": ("peft", "safetensors", "sentencepiece", "torch", "transformers"),
    "psutil": ("psutil",),
    "referencing": ("referencing",),
    "reflink_copy": (),
    "rich": ("rich",),
    "safetensors": ("safetensors",),
    "sentencepiece": ("sentencepiece",),
    "tokenizers": ("tokenizers",),
    "tomli": (),
    "torch": ("torch",),
    "transformers": ("transformers", "jinja2", "markupsafe", "numpy", "regex", "safetensors", "sentencepiece",
                     "tokenizers"),
    "typer": (),
    "vl_convert": ("vl-convert-python",),
    "watchfiles": (),
    "yaml": ("pyyaml",),
}  # fmt: skip

#: Distributions that a step's processes may load although its key does not name them, by the reason why that is right.
PLUMBING: dict[str, tuple[str, ...]] = {
    "the command line, its help and progress bars": (
        "annotated-doc", "click", "colorlog", "loguru", "markdown-it-py", "mdurl", "pygments", "rich", "shellingham",
        "tqdm", "typer",
    ),
    "checks that values have their types": (
        "annotated-types", "attrs", "pydantic", "pydantic-core", "typing-extensions", "typing-inspection",
    ),
    "fetches over HTTP, here only what a digest or a commit pins": (
        "anyio", "certifi", "charset-normalizer", "h11", "hf-xet", "httpcore2", "httpx2", "huggingface-hub", "idna",
        "pip", "requests", "sniffio", "truststore", "urllib3",
    ),
    "reads and writes files, locks and links them: the bytes are the same": (
        "filelock", "fsspec", "msgspec", "pyyaml", "reflink-copy", "tomli", "watchfiles",
    ),
    "calls native libraries": ("cffi", "pycparser"),
    "a digest is the same, whatever computes it": ("blake3",),
    "compares versions of distributions": ("packaging",),
    "counts memory and processes; where the project itself measures with it, the key names it": ("psutil",),
    "spreads a model over several devices, of which there is one here": ("accelerate",),
    "symbolic shapes of compiled graphs, and torch compiles none here": ("mpmath", "networkx", "sympy"),
    "Olive's search and metrics: it runs one workflow here, and the quality stage judges": (
        "alembic", "lightning-utilities", "mako", "optuna", "pandas", "python-dateutil", "sqlalchemy", "torchmetrics",
    ),
    "Olive's telemetry, which is off": (
        "opentelemetry-api", "opentelemetry-sdk", "opentelemetry-semantic-conventions",
    ),
    "signs and verifies: no signature is the same twice": ("cryptography", "model-signing", "pyopenssl", "sigstore"),
    "hands over a report that is finished": ("mlflow",),
    "has other machines start the same program on the same files": ("dask", "distributed"),
    "published schemas and data frames, which no result holds": ("jsonschema-specifications", "narwhals"),
}  # fmt: skip


def versions(imports: Iterable[str]) -> dict[str, str]:
    """Distribution → installed version, of all that acts by these imports, and Python itself; sorted."""
    found = {"python": "{}.{}".format(*sys.version_info)}
    for name in imports:
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            for distribution in LOADS.get(".".join(parts[:end]), ()):
                found[distribution] = installed(distribution)
    return dict(sorted(found.items()))


@functools.cache
def installed(distribution: str) -> str:
    """The installed version, or "absent"."""
    found = _installed().get(_normal(distribution))
    if found is None:
        import importlib.metadata

        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(distribution)
        return "absent"
    return found


@functools.cache
def _installed() -> dict[str, str]:
    """Versions by normalised name, from the names of the folders: a hundred times faster than from the metadata."""
    found: dict[str, str] = {}
    for folder in sys.path:
        with contextlib.suppress(OSError):
            for entry in os.listdir(folder or "."):
                if entry.endswith(".dist-info") and entry.count("-") == 2:
                    name, version = entry.removesuffix(".dist-info").split("-")
                    found.setdefault(_normal(name), version)
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()

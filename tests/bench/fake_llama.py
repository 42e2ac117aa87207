"""A stand-in for llama-cpp-python, as files to put on PYTHONPATH: the few functions that are called, and no model.

It notes the command line of every process that imports it, and may die as on a processor that refuses an instruction.
"""

from __future__ import annotations

from pathlib import Path

SOURCE = """
import os, signal, sys, time
from types import SimpleNamespace
with open(os.environ["FAKE_LLAMA_NOTES"], "a") as notes:
    notes.write(" ".join(sys.argv) + "\\n")
llama_log_callback = lambda function: function
llama_log_set = llama_memory_clear = llama_synchronize = lambda *_: None
llama_backend_init = lambda: None
llama_model_default_params = lambda: SimpleNamespace(use_extra_bufts=True)
llama_context_default_params = SimpleNamespace
llama_model_load_from_file = lambda path, options: options if path.endswith(b".gguf") else None
llama_init_from_model = lambda model, options: (model, options)
llama_model_get_vocab = llama_get_memory = lambda it: it
llama_vocab_n_tokens = lambda vocabulary: 100
llama_batch_get_one = lambda tokens, count: count

def llama_model_desc(model, buffer, size):
    buffer.value = b"llama 1M Q4_1"

def llama_decode(context, count):
    if context[0].use_extra_bufts and os.environ.get("FAKE_LLAMA_TRAPS"):
        os.kill(os.getpid(), signal.SIGILL)
    time.sleep(0.0001 * count)
    return 0
"""


def install(folder: Path) -> Path:
    """Write it below `folder`, which is to go onto PYTHONPATH."""
    package, about = folder / "llama_cpp", folder / "llama_cpp_python-0.0.1.dist-info"
    for made in (package, about):
        made.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "llama_cpp.py").write_text(SOURCE)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: llama_cpp_python\nVersion: 0.0.1\n")
    return folder

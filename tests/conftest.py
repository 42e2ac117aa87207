"""Fixtures that several stages' tests share: tiny real checkpoints, each made once a session."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before anything imports huggingface_hub; children inherit it
# Threads that wait must not spin: tests share their cores with the processes that they start.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from tests import needs, tiny
from tests.served import newer, onnx_folder, package, spoil

__all__ = ["newer", "onnx_folder", "package", "spoil"]

# `nohup make test`, or `make test &` in a script, hands down signals that are ignored, and whoever is started would
# ignore them too. A handler that does nothing ignores them just so, here; a program that is started loses it.
for _name in ("SIGINT", "SIGQUIT", "SIGHUP", "SIGTERM"):
    if (_number := getattr(signal, _name, None)) is not None and signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole builds come first: a file stays with one worker, and none should be left with a long one at the end."""
    items.sort(key=lambda item: "system" not in item.path.parts)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test whose machine lacks what it needs is skipped; in a continuous integration it may be a failure."""
    for mark in item.iter_markers("needs"):
        for what in mark.args:
            if why := needs.missing(what):
                if what in needs.IN_CI_TOO and os.environ.get("CI", "").lower() in ("1", "true"):
                    pytest.fail(f"{why} (CI={os.environ['CI']}: may not be skipped)", pytrace=False)
                pytest.skip(why)


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tied embeddings."""
    return tiny.make_checkpoint(tmp_path_factory.mktemp("llama") / "checkpoint", "llama")


@pytest.fixture(scope="session")
def tiny_qwen2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untied embeddings, biases on query, key and value."""
    return tiny.make_checkpoint(tmp_path_factory.mktemp("qwen2") / "checkpoint", "qwen2")


@pytest.fixture(scope="session")
def tiny_phi3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Query, key and value in one matrix, and so gate and up."""
    return tiny.make_checkpoint(tmp_path_factory.mktemp("phi3") / "checkpoint", "phi3")


@pytest.fixture(scope="session")
def tiny_gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tied embeddings that are scaled on the way in, norms that add one."""
    return tiny.make_checkpoint(tmp_path_factory.mktemp("gemma") / "checkpoint", "gemma")


@pytest.fixture(scope="session")
def tiny_trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama that knows `tiny.FACTS`: for what judges quality."""
    return tiny.make_trained(tmp_path_factory.mktemp("trained") / "checkpoint")


@pytest.fixture(scope="session")
def tiny_adapter(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Path:
    """A LoRA adapter for `tiny_llama`."""
    return tiny.make_adapter(tmp_path_factory.mktemp("adapter") / "adapter", tiny_llama)

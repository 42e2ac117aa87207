"""The adapter of foundry-local-sdk, Foundry Local's runtime: register, list, load, chat, stream, serve, unload.

The SDK holds the native library that the Foundry Local app itself runs on, so what answers here answers there. It runs
in this process, offline, and is a singleton: one `Runtime` at a time. With no cache given it opens a throw-away
catalog, in which a package can be tried without touching anybody's models: registering copies nothing.

`scripts.runtime.chat` is its other half, for talking to a loaded model. No third module imports the SDK, so that its
next release changes these two files alone. Measured with foundry-local-sdk 2.2.1, the newest at that time. What is
bridged here, until a later release does it itself:
- The native library writes below the user's home whatever it is told: it is given another one (`_homes`).
- The public catalog costs seconds of retries where there is no network: only the local one is opened.
- A model's memory is not given back after a request: see `_return_large_blocks`.
- A session that was served over HTTP ends a moment after its request, and keeps its model loaded until then (`unload`).
- The HTTP service loads by alias, and so the newest version: the very model is loaded beforehand (`serve`).
"""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from scripts.common import genai_config, json_files
from scripts.common.model_id import is_id
from scripts.common.quiet import QUIET
from scripts.runtime.chat import Answer, Chat, Message, RuntimeFault, Stream, conversation, faults

__all__ = [
    "Answer", "Chat", "Message", "Runtime", "RuntimeFault", "Stream", "conversation", "label", "sdk_version",
]  # fmt: skip

#: What a registration can say that a model does, and the tokens that it needs for it. Without "supports_reasoning" the
#: runtime leaves what was thought in the answer.
CLAIMS = {"supports_tool_calling": genai_config.TOOL_CALL, "supports_reasoning": genai_config.REASONING}
ALL = tuple(CLAIMS)
#: How long a session may take to end before its model counts as in use.
_SESSION_SECONDS = 10.0
#: Bytes from which the process that serves maps a block of memory by itself, on Linux (glibc).
LARGE_BLOCK = 1 << 19
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # glibc's malloc.h
_LARGEST_KEPT = 32 << 20  # the greatest threshold that glibc takes on 64 bits; it maps larger blocks all the same
_INT_MAX = 2**31 - 1


def sdk_version() -> str:
    """Version of the installed SDK, without importing it; `RuntimeFault` if there is none."""
    try:
        return version("foundry-local-sdk")
    except PackageNotFoundError:
        raise RuntimeFault("foundry-local-sdk", "is not installed", "Run `make setup`") from None


def label() -> str:
    """How a report names what it was measured with: the SDK's runtime, which is not the `foundry` command."""
    return f"Foundry Local runtime (SDK {sdk_version()})"


def claims_of(folder: Path, claims: Iterable[str] = ALL) -> list[str]:
    """Those of `claims` whose tokens a model folder publishes; none where its settings can't be read."""
    try:
        settings = json_files.read(folder / genai_config.NAME)
        return [name for name in CLAIMS if name in claims and genai_config.has_markers(settings, CLAIMS[name])]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


class Runtime:
    """Foundry Local in this process, as a context manager; at most one is open at a time.

    `cache`: the model cache with its registrations; None: a private one, thrown away at the end.
    `work`: folder for logs and app data; None: a temporary one. The user's home is never written.
    `port`: where `serve` listens; 0: wherever one is free.
    `keep_memory`: what a request has claimed is kept for the next one, for many that are asked one after the other.
    """

    def __init__(
        self, cache: Path | None = None, work: Path | None = None, port: int = 0, *, keep_memory: bool = False
    ) -> None:
        self._cache, self._work, self._port, self._keep_memory = cache, work, port, keep_memory
        self._stack = ExitStack()
        self._chats: dict[str, Chat] = {}
        self._manager: Any = None
        self._catalog: Any = None

    def __enter__(self) -> Self:
        with ExitStack() as stack, faults("Foundry Local runtime"):
            # The native library may hold its log open for a moment after closing: leave the folder then.
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="foundry-", ignore_cleanup_errors=True))
            work = (self._work or Path(scratch)).absolute()
            self.cache = (self._cache or Path(scratch) / "models").absolute()
            self.cache.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_environment(_homes(work / "home") | QUIET))
            sdk = _import_sdk(_keep_blocks if self._keep_memory else _return_large_blocks)
            self._manager = sdk.FoundryLocalManager(
                sdk.Configuration(
                    app_name="ingot",
                    app_data_dir=str(work / "app"),
                    model_cache_dir=str(self.cache),
                    logs_dir=str(work / "logs"),
                    log_level=sdk.LogLevel.ERROR,
                    web=sdk.Configuration.WebService(
                        urls=f"http://127.0.0.1:{self._port}"
                    ),  # no authentication: loopback
                    disable_nonessential_telemetry=True,
                )
            )
            stack.callback(self._manager.close)
            # The PUBLIC catalog would cost seconds of network retries.
            self._catalog = self._manager.get_catalog(sdk.CatalogType.LOCAL)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for model_id in list(self._chats):
                self.unload(model_id)
        finally:
            self._manager = self._catalog = None
            self._stack.close()

    def register(self, path: Path, model_id: str, claims: Iterable[str] = ALL) -> None:
        """Make the model folder `path` known as `model_id` ("name:INT"); nothing is copied.

        `claims`: which of `CLAIMS` the registration says of a model that publishes what they need; `ALL` is for trying.
        Raises `RuntimeFault` for an id in use or of the wrong form, or a folder without a valid
        genai_config.json.
        """
        import foundry_local_sdk as sdk

        if not is_id(model_id):
            found = "is not an id that Foundry Local takes"
            raise RuntimeFault(model_id, found, "Use NAME:NUMBER, such as m-generic-cpu:1")
        with faults(model_id), sdk.ModelInfoBuilder() as info:
            info.set_string_property("task", "chat-completion")
            for claim in claims_of(path, claims):
                info.set_int_property(claim, 1)
            self._catalog.register_model(model_path=str(path.absolute()), model_id=model_id, metadata=info)

    def claims(self, model_id: str) -> list[str]:
        """What of `CLAIMS` a registration says."""
        with faults(model_id):
            info = self._variant(model_id).info
            return [name for name in CLAIMS if info.get_int_property(name, 0) == 1]

    def unregister(self, model_id: str) -> None:
        """Forget a registration; its files stay. A model that is loaded is unloaded first."""
        self.unload(model_id)
        with faults(model_id):
            self._catalog.unregister_model(model_id)

    def registered(self) -> list[str]:
        """Ids of every registration, also of those whose folder is gone."""
        with faults(self.cache):
            return sorted(variant.id for model in self._catalog.list_models() for variant in model.variants)

    def cached(self) -> list[str]:
        """Ids of the models that are registered and whose folder is there: what a user can run."""
        with faults(self.cache):
            return sorted(model.id for model in self._catalog.get_cached_models())

    def loaded(self) -> list[str]:
        """Ids of the models in memory."""
        with faults(self.cache):
            return sorted(model.id for model in self._catalog.get_loaded_models())

    def load(self, model_id: str) -> Chat:
        """Load a registered model into memory; the same handle if it is loaded already."""
        if model_id not in self._chats:
            with faults(model_id):
                model = self._variant(model_id)
                model.load()
            self._chats[model_id] = Chat(model, model_id)
        return self._chats[model_id]

    def unload(self, model_id: str) -> None:
        """Free a loaded model's memory; nothing happens if it is not loaded."""
        if chat := self._chats.pop(model_id, None):
            until = time.monotonic() + _SESSION_SECONDS
            while True:
                try:
                    with faults(model_id):
                        chat._model.unload()
                    return
                except RuntimeFault as error:
                    # A session that was served over HTTP ends a moment after its request (SDK 2.2.1).
                    if "still using it" not in error.found or time.monotonic() > until:
                        raise
                    time.sleep(0.05)

    @contextmanager
    def serve(self, *model_ids: str) -> Iterator[str]:
        """Put models behind the OpenAI-compatible HTTP service for the `with` block; yields its base_url.

        Use it as `OpenAI(base_url=url, api_key="none")` with `model=model_id`. On loopback alone. Nobody is answered
        before all of them are loaded.
        """
        # Loaded here, not through the service: that takes an alias, and gives the newest of its versions.
        for model_id in model_ids:
            self.load(model_id)
        with faults("the HTTP service"):
            self._manager.start_web_service()
        try:
            yield f"{self._manager.urls[0].rstrip('/')}/catalogs/local/v1"
        finally:
            with faults("the HTTP service"):
                self._manager.stop_web_service()

    def _variant(self, model_id: str) -> Any:
        model = self._catalog.get_model_variant(model_id)
        if model is None:
            raise RuntimeFault(model_id, f"is not registered in {self.cache}", "Run `doit deploy` for it")
        return model


def _import_sdk(tune: Callable[[], None]) -> Any:
    tune()
    try:
        import foundry_local_sdk
    except (ImportError, OSError) as error:
        raise RuntimeFault("foundry-local-sdk", f"does not load: {error}", "Run `make setup`") from error
    return foundry_local_sdk


def _return_large_blocks() -> None:
    """Have glibc map blocks of half a megabyte or more by themselves, and give them back when they are freed.

    Each request allocates keys and values for the whole context (onnxruntime-genai 0.18), on whichever thread: by
    default each thread's arena keeps its own copy after the request. Measured on SmolLM2-135M, int4, 4,096 tokens:
    between requests 320 MB are resident instead of 490 to 890; during one it is 510 MB. A service that another program
    runs gets the same by MALLOC_MMAP_THRESHOLD_=524288.
    """
    _mallopt({_M_MMAP_THRESHOLD: LARGE_BLOCK})


def _keep_blocks() -> None:
    """Have glibc keep in one arena what is freed: the next request claims as much again.

    Else the system clears those pages for each request anew: of SmolLM2-135M, 188 MB and 0.1 s of the processor (4,096
    tokens), a seventh of what a short answer costs. In one arena there is no copy for each thread.
    """
    _mallopt({_M_ARENA_MAX: 1, _M_MMAP_THRESHOLD: _LARGEST_KEPT, _M_TRIM_THRESHOLD: _INT_MAX})


def _mallopt(options: Mapping[int, int]) -> None:
    """Set options of glibc's allocator, unless the user has."""
    if sys.platform == "linux" and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries of Linux have none
        if mallopt:
            for option, value in options.items():
                mallopt(option, value)


def _homes(home: Path) -> dict[str, str]:
    """Variables through which the native library finds a place outside its own data folder."""
    home.mkdir(parents=True, exist_ok=True)
    names = (
        ("USERPROFILE", "LOCALAPPDATA", "APPDATA", "TEMP", "TMP")
        if sys.platform == "win32"
        else ("HOME", "XDG_CACHE_HOME", "TMPDIR")
    )
    return dict.fromkeys(names, str(home))


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

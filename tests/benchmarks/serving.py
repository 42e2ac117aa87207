"""What settings of a package do to serving it: response time, decoding and memory by the length of the prompt.

    python -m tests.benchmarks.serving PACKAGE [--way NAME=JSON ..] [--prompts 200 1000 3700] [--blocks 3] [--gguf FILE]

Each way is the package with other values in its genai_config.json, such as 'whole={"search":
{"past_present_share_buffer": true}}'. A way that begins with a folder's path takes that package instead. Ways take
turns, each time in a process of its own that serves by the Foundry runtime. Prints JSON: medians of each way, and of
each but the first (the package as it is) ratios to that with 95 % intervals. With --gguf llama.cpp takes its turns too,
and what is told of it are decode, prefill and peak memory of each way as multiples of its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scripts.bench import conditions, full, peer, stats
from scripts.bench.child import Child
from scripts.bench.quick import DECODE, PREFILL, prompt
from scripts.common import genai_config, json_files, links
from scripts.common.machine import fingerprint

NEW = 32  # tokens of an answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("--way", action="append", default=[], metavar="NAME=JSON")
    parser.add_argument("--prompts", type=int, nargs="+", default=[200, 1000, 3700])
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--gguf", type=Path)
    asked = parser.parse_args()
    ways = {"as it is": "{}", **dict(way.split("=", 1) for way in asked.way)}
    neighbours, blocks = conditions.Neighbours(), {name: list[dict[str, Any]]() for name in ways}
    peers = list[dict[str, Any]]()
    for number in range(asked.blocks):
        for name, changes in ways.items():
            with changed(asked.package, name, json.loads(changes)) as package:
                blocks[name].append(_block(package, sorted(asked.prompts), number))
        if asked.gguf:
            facts = conditions.of_package(asked.package)
            same = facts["context_length"], facts["threads"]
            packed = peers[0]["packed"] if peers else peer.packs(asked.gguf, *same)
            peers.append(peer.block(asked.gguf, *same, packed, PREFILL, DECODE))
    first = blocks["as it is"]
    found = {name: {"medians": _medians(some)} for name, some in blocks.items()}
    for name, some in blocks.items():
        if some is not first:
            found[name]["ratios"] = _ratios(some, first)
        if peers:
            found[name]["beside llama.cpp"] = peer.summary(asked.gguf, 0, some, peers).ratio
    print(json.dumps({**found, **neighbours.conditions(), "machine": fingerprint()}, indent=1))


@contextmanager
def changed(package: Path, name: str, changes: dict[str, Any]) -> Iterator[Path]:
    """The package, by links, with changed settings, and answers that go on until they are cut off."""
    package = Path(name) if Path(name).is_dir() else package
    settings = genai_config.read(package)
    _merge(settings, {"search": {"min_length": settings["model"]["context_length"]}})
    _merge(settings, changes)
    with tempfile.TemporaryDirectory(prefix="ingot-serving-") as scratch:
        for path in package.iterdir():
            if path.is_file() and path.name != genai_config.NAME:
                links.link(path.absolute(), Path(scratch) / path.name)
        json_files.write(Path(scratch) / genai_config.NAME, settings)
        yield Path(scratch)


def _merge(settings: dict[str, Any], changes: dict[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(settings.get(key), dict):
            _merge(settings[key], value)
        else:
            settings[key] = value


def _block(package: Path, prompts: Sequence[int], number: int) -> dict[str, Any]:
    """One process: `peak_rss_bytes` is after prompts of up to 512 tokens, as llama.cpp's."""
    found: dict[str, Any] = {}
    with Child(package) as child:
        child.ask({"do": "load"})
        found["loaded_rss_bytes"] = child.rss()
        child.ask({"do": "ask", "prompt": prompt(24, 0), "tokens": NEW})  # warm-up, dropped
        for tokens in prompts:
            text = full.exact_prompt(child, tokens, 10 * number)
            before = child.cpu_seconds()
            child.ask({"do": "ask", "prompt": text, "tokens": 1})
            prompted = child.cpu_seconds()
            answer = child.ask({"do": "ask", "prompt": text + " a", "tokens": NEW})
            both = child.cpu_seconds() - prompted
            found[f"prompt_cpu_seconds.{tokens}"] = prompted - before
            found[f"token_cpu_seconds.{tokens}"] = (both - prompted + before) / (NEW - 1)
            found[f"first_token_ms.{tokens}"] = stats.first_token_ms(answer)
            found[f"between_tokens_ms.{tokens}"] = stats.between_tokens_ms(answer)
            found[f"peak_rss_bytes.{tokens}"] = child.peak_rss()
            if tokens <= full.SHORT:
                found["peak_rss_bytes"] = child.peak_rss()
        rates = child.ask({"do": "rates", "prefill": PREFILL, "decode": DECODE, "times": 1})
    found["pp512"] = PREFILL / min(rates["prefill_seconds"])
    found["tg128"] = DECODE / min(rates["decode_seconds"])
    return found


def _medians(blocks: Sequence[dict[str, Any]]) -> dict[str, float]:
    return {name: round(statistics.median(block[name] for block in blocks), 4) for name in blocks[0]}


def _ratios(ones: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {name: stats.ratio([b[name] for b in ones], [b[name] for b in others]) for name in ones[0]}


if __name__ == "__main__":
    main()

"""The full profile: response times over prompt lengths, several clients at once over HTTP, memory, and a peer; minutes.

Blocks of processes alternate (the package, llama.cpp, the package, …), so that a drift of the machine hits both alike,
and the order of prompt lengths turns round from one to the next. As in the quick profile, how far the package's own
blocks are apart is the noise floor.

Every answer has the same length: the process serves a copy of the package's settings in which an answer may not end
before the context does. Prompts are of an exact number of tokens, as the runtime itself counts them.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scripts.bench import conditions, judge, peer, stats
from scripts.bench.child import Child
from scripts.bench.quick import DECODE, PREFILL, prompt
from scripts.common import json_files, links, program
from scripts.results import measured
from scripts.results.bench import BenchFull, Context, Level

BLOCKS = 4
NEW_TOKENS = 32
SHORT = 512  # up to here, memory is compared with the peer's, which is given prompts of up to this length
CLIENTS = (1, 2, 4)
CLIENT_WORDS, CLIENT_REQUESTS = 64, 8
#: A prompt that would take longer, by what a shorter one took, is left out, and named.
PATIENCE_SECONDS = 240.0


def full(
    package: Path,
    gguf: Path | None = None,
    *,
    blocks: int = BLOCKS,
    longest: int | None = None,
    requests: int = CLIENT_REQUESTS,
) -> BenchFull:
    """Measure one package; returns the content of bench-full.json. Times in ms, rates in tokens/s, memory in bytes.

    `gguf`: the file that the model was made from, for llama.cpp. `longest`: stop at prompts of so many tokens.
    `requests`: by the clients of one level, twice. Raises `IngotError` if the package does not load or answer.
    """
    facts = conditions.of_package(package)
    neighbours = conditions.Neighbours()
    lengths = ladder(min(longest or facts["context_length"], facts["context_length"]))
    own, peers, left_out = [], [], set[int]()
    same = facts["context_length"], facts["threads"]
    rival = gguf if peer.installed() else None
    packed = rival is not None and peer.packs(rival, *same)
    with lengthened(package, facts["context_length"]) as served:
        for number in range(blocks):
            own.append(_block(served, lengths, number, left_out))
            if rival:
                peers.append(peer.block(rival, *same, packed, _prefill(facts), DECODE))
                print(f"bench: llama.cpp {number + 1} of {blocks}", flush=True)
        levels = concurrency(served, requests)
    contexts = [_context(n, own) for n in lengths if n not in left_out]
    growth = judge.growth(_first_tokens(contexts), judge.decode_share(contexts, facts))
    reasons = judge.reasons(growth, levels)
    return BenchFull(
        verdict="refused" if reasons else "passed",
        reasons=reasons,
        contexts=contexts,
        growth=growth,
        concurrency=levels,
        load_seconds=stats.percentiles([block["load_seconds"] for block in own]),
        tg128=round(statistics.fmean(block["tg128"] for block in own), 2),
        pp512=round(statistics.fmean(block["pp512"] for block in own), 2),
        peak_rss_bytes=max(block["highest_rss_bytes"] for block in own),
        steady_rss_bytes=round(statistics.median(block["steady_rss_bytes"] for block in own)),
        cpu_seconds_per_token=round(statistics.fmean(block["cpu_seconds_per_token"] for block in own), 5),
        noise=floor(own, contexts),
        inter_token_latency_samples_ms=_gaps(own, lengths),
        peer=peer.summary(rival, facts["context_length"], own, peers) if rival else None,
        peer_missing=None if peers else peer.MISSING if gguf else "The model's source is not a GGUF file",
        package=measured.digest(package),
        conditions={
            **facts,
            **_said(blocks, left_out),
            **neighbours.conditions(),
            **conditions.of_machine(),
        },
    )


def _said(blocks: int, left_out: set[int]) -> dict[str, Any]:
    """How it was measured, in words."""
    return {
        "profile": "full",
        "processes": blocks,
        "new_tokens": NEW_TOKENS,
        "prompts_left_out": sorted(left_out),
        "clients_prompt_words": CLIENT_WORDS,
        "latencies_by": "streaming in the process that serves, by its own clock; under `concurrency` by the "
        "clients' clock, over HTTP, in another process",
        "inter_token_latency_samples_by": f"each gap between pieces, prompts of at most {SHORT} tokens",
        "pp512_tg128_by": "the generators of both runtimes, without templates or sampling, random tokens",
        "noise_by": f"how far the {blocks} processes are apart, all of the same package",
    }


def ladder(limit: int) -> list[int]:
    """Prompt lengths in tokens: 128 times the powers of 4, then the most that leaves room for the answer."""
    most = max(16, limit - NEW_TOKENS - 8)
    steps = []
    tokens = 128
    while tokens < 0.8 * most:
        steps.append(tokens)
        tokens *= 4
    return [*steps, most]


@contextmanager
def lengthened(package: Path, context: int) -> Iterator[Path]:
    """The package, by links, with answers that go on until they are cut off."""
    with tempfile.TemporaryDirectory(prefix="ingot-bench-") as scratch:
        copy = Path(scratch) / "package"
        copy.mkdir()
        for path in package.iterdir():
            if path.name != "genai_config.json":
                _link(path.absolute(), copy / path.name)
        genai = json_files.read(package / "genai_config.json")
        genai["search"] = {**genai.get("search", {}), "min_length": context}
        (copy / "genai_config.json").write_text(json.dumps(genai), encoding="utf-8")
        yield copy


def concurrency(served: Path, requests: int) -> list[Level]:
    """One, two and four clients that ask the HTTP endpoint at once, each level twice, up and then down."""
    print("bench: clients over HTTP", flush=True)
    with Child(served) as server, Child(served, program.command("scripts.bench", "clients")) as clients:
        server.ask({"do": "load"})
        endpoint = server.ask({"do": "listen"})
        found: dict[int, list[dict[str, Any]]] = {count: [] for count in CLIENTS}
        memory: dict[int, int] = {}
        for number, count in enumerate((1, *CLIENTS, *reversed(CLIENTS))):  # the first one only warms up
            prompts = [prompt(CLIENT_WORDS, 1000 * number + i) for i in range(requests if number else 1)]
            job = {"do": "ask", "url": endpoint["url"], "model": endpoint["model"], "clients": count}
            answer = clients.ask({**job, "prompts": prompts, "tokens": NEW_TOKENS})
            if number:
                found[count].append(answer)
                memory[count] = max(memory.get(count, 0), server.rss())
                print(f"bench: {count} at once", flush=True)
    return [_level(count, rounds, memory[count]) for count, rounds in found.items()]


def floor(blocks: Sequence[Mapping[str, Any]], contexts: Sequence[Context]) -> dict[str, float | None]:
    """The A/A floor by figure; of those that each prompt length has, the largest."""
    names = ("tg128", "pp512", "load_seconds", "highest_rss_bytes", "steady_rss_bytes", "cpu_seconds_per_token")
    found = {name: stats.noise([block[name] for block in blocks]) for name in names}
    found["peak_rss_bytes"] = found.pop("highest_rss_bytes")
    for name in ("time_to_first_token_ms", "inter_token_latency_ms", "request_latency_ms"):
        shares = [
            stats.noise([stats.latencies(block["requests"][context.prompt_tokens])[name].p50 for block in blocks])
            for context in contexts
        ]
        found[name] = max((share for share in shares if share is not None), default=None)
    # Rates of a given length are the inverse of these times, and differ by the same share.
    return found | {
        "prefill_tokens_per_second": found["time_to_first_token_ms"],
        "decode_tokens_per_second": found["inter_token_latency_ms"],
    }


def _block(served: Path, lengths: Sequence[int], number: int, left_out: set[int]) -> dict[str, Any]:
    """One process: short prompts, a look at its memory, long ones, then its bare rates."""
    requests: dict[int, list[dict[str, Any]]] = {}
    memory: dict[int, int] = {}
    with Child(served) as child:
        load = child.ask({"do": "load"})["load_seconds"]
        child.ask({"do": "ask", "prompt": prompt(24, 0), "tokens": NEW_TOKENS})  # warm-up, dropped
        for part in ([n for n in lengths if n <= SHORT], [n for n in lengths if n > SHORT]):
            for tokens in part if number % 2 == 0 else reversed(part):
                if number == 0 and _too_long(tokens, requests):
                    left_out.add(tokens)
                if tokens in left_out:
                    continue
                cpu = child.cpu_seconds()
                requests[tokens] = _ask(child, tokens, number)
                if tokens == min(lengths):
                    cpu_per_token = (child.cpu_seconds() - cpu) / sum(r["completion_tokens"] for r in requests[tokens])
                memory[tokens] = child.rss()
                print(f"bench: {number + 1}: prompts of {tokens} tokens", flush=True)
            if part and min(part) <= SHORT:
                short_peak = child.peak_rss()
        steady, highest = child.rss(), child.peak_rss()
        rates = child.ask({"do": "rates", "prefill": min(PREFILL, max(lengths)), "decode": DECODE, "times": 1})
    return {
        "load_seconds": load,
        "requests": requests,
        "rss_bytes": memory,
        "peak_rss_bytes": short_peak,
        "highest_rss_bytes": highest,
        "steady_rss_bytes": steady,
        "cpu_seconds_per_token": cpu_per_token,
        "pp512": min(PREFILL, max(lengths)) / rates["prefill_seconds"][0],
        "tg128": DECODE / rates["decode_seconds"][0],
    }


def _ask(child: Child, tokens: int, number: int) -> list[dict[str, Any]]:
    """The requests of one block with prompts of so many tokens: more of the short ones, which are the noisier."""
    times = max(1, min(3, 1024 // tokens))
    return [
        {**child.ask({"do": "ask", "prompt": text, "tokens": NEW_TOKENS}), "block": number}
        for text in (exact_prompt(child, tokens, 10 * number + i) for i in range(times))
    ]


def exact_prompt(child: Child, tokens: int, number: int) -> str:
    """A question that is `tokens` long with its template, as the runtime counts; a few less where that can't be hit."""

    def count(text: str) -> int:
        return int(child.ask({"do": "count", "prompt": text})["prompt_tokens"])

    words, have = max(1, tokens // 3), 0
    for _ in range(40):
        have = count(prompt(words, number))
        if tokens - 3 <= have <= tokens or (words == 1 and have > tokens):
            break
        words = max(1, words + (int((tokens - have) / 3) or (1 if have < tokens else -1)))
    text = prompt(words, number)
    return next((longer for pad in range(4) if count(longer := text + " a" * pad) == tokens), text)


def _too_long(tokens: int, requests: Mapping[int, Sequence[Mapping[str, Any]]]) -> bool:
    """Whether a prompt would take too long, by what the longest shorter one took, and growing as a square."""
    shorter = [n for n in requests if n < tokens]
    if not shorter:
        return False
    seconds = stats.first_token_ms(requests[max(shorter)][-1]) / 1000
    return seconds * (tokens / max(shorter)) ** 2 > PATIENCE_SECONDS


def _context(tokens: int, blocks: Sequence[Mapping[str, Any]]) -> Context:
    """What all blocks say about one prompt length."""
    found = [request for block in blocks for request in block["requests"][tokens]]
    between = [x for request in found if (x := stats.between_tokens_ms(request))]
    return Context(
        prompt_tokens=tokens,
        counted_tokens=sorted({request["prompt_tokens"] for request in found}),
        requests=len(found),
        prefill_tokens_per_second=stats.percentiles(
            [1000 * r["prompt_tokens"] / stats.first_token_ms(r) for r in found]
        ),
        decode_tokens_per_second=stats.percentiles([1000 / x for x in between]),
        **stats.latencies(found),
        rss_bytes=max(block["rss_bytes"][tokens] for block in blocks),
        samples={"requests": found},
    )


def _first_tokens(contexts: Sequence[Context]) -> dict[int, list[float]]:
    return {c.prompt_tokens: [stats.first_token_ms(r) for r in c.samples["requests"]] for c in contexts}


def _gaps(blocks: Sequence[Mapping[str, Any]], lengths: Sequence[int]) -> list[float]:
    short = [n for n in lengths if n <= SHORT] or [min(lengths)]
    requests = [request for block in blocks for n in short for request in block["requests"][n]]
    return [round(b - a, 3) for r in requests for a, b in zip(r["at_ms"], r["at_ms"][1:], strict=False)]


def _level(count: int, rounds: Sequence[Mapping[str, Any]], memory: int) -> Level:
    requests = [request for part in rounds for request in part["requests"]]
    seconds = sum(part["seconds"] for part in rounds)
    failures = [text for part in rounds for text in part["failures"]]
    return Level(
        clients=count,
        requests=len(requests) + len(failures),
        output_tokens_per_second=round(sum(r["completion_tokens"] for r in requests) / seconds, 2),
        **stats.latencies(requests),
        failures=len(failures),
        failed_with=sorted(set(failures)),
        rss_bytes=memory,
        samples={"requests": requests},
    )


def _prefill(facts: Mapping[str, Any]) -> int:
    return min(PREFILL, int(facts["context_length"]) - 8)


def _link(source: Path, target: Path) -> None:
    """By symlink: a hard link would change the package's own inodes. Windows may forbid it, and copies."""
    try:
        target.symlink_to(source)
    except OSError:
        links.link(source, target)

"""bench.json, bench-full.json and soak.json: milliseconds, tokens a second, bytes, of the process that serves.

Names are those of AIPerf and of llama-bench. `package` is the digest of the files that were measured.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from scripts.results.base import Bytes, Count, Interval, Percentiles, Positive, Table, Verdict
from scripts.results.metric import Column, metric

#: Metric → the share by which two runs of the same thing may differ.
Noise = dict[str, Positive | None]


FirstToken = Annotated[Percentiles, metric(
    "time to first token", "{:.0f} ms", unit="milliseconds", better=-1, timed=True,
    column=Column("TTFT", 4, "Speed", ("p99", "p99 {}")), description="Time to first token, the median",
)]  # fmt: skip
BetweenTokens = Annotated[Percentiles, metric(
    "inter-token latency", "{:.1f} ms", unit="milliseconds", better=-1, timed=True,
)]  # fmt: skip
WholeRequest = Annotated[Percentiles, metric(
    "request latency", "{:.0f} ms", unit="milliseconds", better=-1, timed=True,
)]  # fmt: skip


class Speed(Struct, kw_only=True, frozen=True):
    """What the quick and the full profile both measure; rates are those of onnxruntime-genai's bare generator."""

    load_seconds: Annotated[Positive | Percentiles | None, metric("time to load", "{:.2f} s", unit="seconds")] = None
    tg128: Annotated[Positive | None, metric(
        "decode rate", "{:.1f}", unit="tokens a second", better=1, timed=True, column=Column("decode", 3, "Speed"),
        description="Decode of 128 tokens",
    )]  # fmt: skip
    pp512: Annotated[Positive | None, metric(
        "prefill rate", "{:.0f}", unit="tokens a second", better=1, timed=True, column=Column("prefill", 8, "Speed"),
        description="Prefill of 512 tokens",
    )]  # fmt: skip
    peak_rss_bytes: Annotated[Bytes | None, metric(
        "peak RSS", "", unit="bytes", better=-1, timed=True, column=Column("peak RSS", 5, "Memory"),
        description="Most resident memory of the process that serves",
    )]  # fmt: skip
    steady_rss_bytes: Annotated[Bytes | None, metric(
        "steady RSS", "", unit="bytes", better=-1, timed=True, noise_of="peak_rss_bytes",
        description="Resident memory of the process that serves, between requests",
    )] = None  # fmt: skip
    cpu_seconds_per_token: Annotated[Positive | None, metric(
        "CPU time a token", "{:.1f} ms", factor=1000, unit="seconds", better=-1, timed=True,
    )] = None  # fmt: skip
    noise: Noise | None = None
    conditions: Table = {}
    package: str | None = None


class Bench(Speed, kw_only=True, frozen=True):
    """bench.json, the quick profile."""

    verdict: Verdict
    reasons: list[str]
    time_to_first_token_ms: FirstToken
    inter_token_latency_ms: BetweenTokens
    request_latency_ms: WholeRequest
    cpu_percent: Annotated[Positive | None, metric("CPU use", "{:.0f}%", unit="% of one core")] = None
    read_bytes_per_token: Annotated[Bytes | None, metric("bytes read a token", "", unit="bytes")] = None
    read_bytes_per_second: Annotated[Positive | None, metric(
        "memory bandwidth", "{:.1f} GB/s", factor=1e-9, unit="bytes a second",
    )] = None  # fmt: skip
    bandwidth_share: Annotated[Positive | None, metric(
        "decode against memory bandwidth", "{:.0f}%", factor=100, column=Column("roofline", 10, "Speed"),
        description="Decode as a share of what memory bandwidth allows (bytes a token, over the bytes a second that as "
        "many threads read in order)",
    )] = None  # fmt: skip
    samples: Table = {}


class Context(Struct, kw_only=True, frozen=True):
    """All processes' requests with prompts of one length."""

    prompt_tokens: Annotated[int, Meta(ge=1)]
    counted_tokens: list[Count] = []
    requests: Count = 0
    prefill_tokens_per_second: Annotated[Percentiles, metric(
        "prefill rate", "{:.0f}", unit="tokens a second", better=1, timed=True, noise_of="pp512",
    )]  # fmt: skip
    decode_tokens_per_second: Annotated[Percentiles, metric(
        "decode rate", "{:.1f}", unit="tokens a second", better=1, timed=True, noise_of="tg128",
    )]  # fmt: skip
    time_to_first_token_ms: FirstToken
    inter_token_latency_ms: BetweenTokens
    request_latency_ms: WholeRequest | None = None
    rss_bytes: Bytes | None = None
    samples: Table = {}


class Growth(Struct, kw_only=True, frozen=True):
    """How the time to first token grows with the prompt's length n, as n to the power `exponent`."""

    metric: str
    exponent: float
    interval: Interval
    limit: float
    decode_ratio: Positive | None = None
    decode_limit: Positive | None = None


class Level(Struct, kw_only=True, frozen=True):
    """So many clients at once, over HTTP, by their own clock."""

    clients: Annotated[int, Meta(ge=1)]
    requests: Count
    output_tokens_per_second: Annotated[
        Positive | None, metric("output of all clients", "{:.1f}", unit="tokens a second")
    ]
    time_to_first_token_ms: FirstToken
    inter_token_latency_ms: BetweenTokens
    request_latency_ms: WholeRequest
    failures: Count = 0
    failed_with: list[str] = []
    rss_bytes: Bytes | None = None
    samples: Table = {}


class Peer(Struct, kw_only=True, frozen=True):
    """Another runtime on the same weights, measured in the same run; `ratio`: this package's figures over its."""

    name: str
    version: str
    file: str
    quantisation: str
    size_bytes: Bytes | None = None
    context_length: Count | None = None
    threads: Count | None = None
    packed_weights: bool | None = None
    tg128: Positive
    pp512: Positive
    load_seconds: Positive | None = None
    peak_rss_bytes: Bytes
    steady_rss_bytes: Bytes | None = None
    ratio: dict[str, Positive]
    ratio_interval: dict[str, Interval]
    samples: list[Table] = []


class BenchFull(Speed, kw_only=True, frozen=True):
    """bench-full.json: over prompt lengths, with several clients, beside a peer."""

    verdict: Verdict
    reasons: list[str]
    contexts: list[Context]
    growth: Growth | None = None
    concurrency: list[Level] = []
    inter_token_latency_samples_ms: list[float] = []
    peer: Peer | None = None
    peer_missing: str | None = None


class Memory(Struct, kw_only=True, frozen=True):
    """Resident bytes after a request; of a jump, by how much it rose."""

    request: int
    bytes: Bytes


class Soak(Struct, kw_only=True, frozen=True):
    """soak.json: resident memory of the serving process over many requests."""

    verdict: Verdict
    reasons: list[str]
    requests: Count
    failures: Count = 0
    failed_with: list[str] = []
    rss: list[Memory]
    warm_up_rss: list[Memory] = []
    slope_bytes_per_request: float | None
    slope_interval: Interval | None = None
    jumps: list[Memory] = []
    limit_bytes_per_request: float | None = None
    seconds: Positive | None = None
    conditions: Table = {}
    package: str | None = None

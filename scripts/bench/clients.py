"""Clients of the HTTP endpoint, in a process of their own: each a thread that asks and reads the answer's stream."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from scripts.bench.child import SECONDS
from scripts.common import json_child


def run() -> None:
    """Do what stdin asks, one JSON object a line, and answer on stdout. Ends with stdin.

    {"do": "ask", "url", "model", "clients": n, "prompts": [text, ..], "tokens": k}
        -> {"seconds", "requests": [{"at_ms", "done_ms", "completion_tokens"}], "failures": [text, ..]}
    `at_ms` are the moments at which pieces came, in milliseconds since the request, by the client's clock.
    """
    json_child.answer(_at_once)


def _at_once(job: dict[str, Any]) -> dict[str, Any]:
    from openai import OpenAI

    with (
        OpenAI(base_url=job["url"], api_key="none", max_retries=0, timeout=SECONDS) as client,
        ThreadPoolExecutor(job["clients"]) as pool,
    ):
        begin = time.perf_counter()
        answers = list(pool.map(partial(_ask, client, job), job["prompts"]))
        seconds = time.perf_counter() - begin
    return {
        "seconds": seconds,
        "requests": [answer for answer in answers if not isinstance(answer, str)],
        "failures": [answer for answer in answers if isinstance(answer, str)],
    }


def _ask(client: Any, job: dict[str, Any], prompt: str) -> dict[str, Any] | str:
    """One request, or in words why it failed."""
    from openai import OpenAIError

    begin = time.perf_counter()
    at = []
    try:
        stream = client.chat.completions.create(
            model=job["model"],
            messages=[{"role": "user", "content": prompt}],
            max_tokens=job["tokens"],
            temperature=0,
            stream=True,
        )
        for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                at.append((time.perf_counter() - begin) * 1000)
    except (OpenAIError, OSError) as error:
        return " ".join(str(error).split())[:200]
    return {"at_ms": at, "done_ms": (time.perf_counter() - begin) * 1000, "completion_tokens": len(at)}

"""`doit serve`: real clients against the real service, from its ready line to Ctrl-C."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from tests.served import MODEL_ID
from tests.serving.conftest import GRASS, SKY
from tests.system.project import ROOT, Project


@contextmanager
def serving(project: Project, *words: str) -> Iterator[tuple[str, str, subprocess.Popen[str]]]:
    """The base_url, all that was printed up to the ready line, and the process; ended by Ctrl-C's signal."""
    child = subprocess.Popen(
        project.command("serve", *words), cwd=ROOT, env=project.environment(), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert child.stdout
        said = ""
        for line in child.stdout:
            said += line
            if line.startswith("ready: "):
                break
        found = re.search(r"base_url: (\S+)", said)
        assert found, said
        yield found[1], said, child
    finally:
        if child.poll() is None:
            import os

            os.killpg(child.pid, signal.SIGINT)
        try:
            child.wait(60)
        finally:
            child.kill()


def test_pythons_client_and_the_printed_programs_get_answers_until_ctrl_c(served: Project) -> None:
    with serving(served, "tiny") as (url, said, child):
        with urllib.request.urlopen(f"{url}/models", timeout=30) as reply:
            assert MODEL_ID in [model["id"] for model in json.load(reply)["data"]]
        with OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60) as client:
            asked: Any = {"model": MODEL_ID, "messages": [{"role": "user", "content": GRASS[0]}], "temperature": 0}
            assert client.chat.completions.create(**asked).choices[0].message.content == GRASS[1]
            pieces = client.chat.completions.create(**asked, stream=True)
            assert "".join(p.choices[0].delta.content or "" for p in pieces if p.choices) == GRASS[1]
        python = printed(said, "Python").replace("Hello", SKY[0]).replace("stream=True", "stream=True, temperature=0")
        assert ran([sys.executable, "-c", python]) == SKY[1]
        if shutil.which("curl"):
            answer = ran(["sh", "-c", printed(said, "Shell").replace("Hello", SKY[0])])
            assert json.loads(answer)["choices"][0]["message"]["content"]
        if node := shutil.which("node"):
            text = (
                printed(said, "JavaScript").replace("Hello", SKY[0]).replace("max_tokens", "temperature: 0, max_tokens")
            )
            assert ran([node, "--input-type=module", "-e", text]) == SKY[1]
    assert child.returncode == 0
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"{url}/models", timeout=5)


NODE = """
import OpenAI from "openai";
const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0 });
const asked = { model: process.argv[3], messages: [{ role: "user", content: process.argv[4] }], temperature: 0 };
const whole = (await client.chat.completions.create(asked)).choices[0].message.content;
let pieces = "";
for await (const piece of await client.chat.completions.create({ ...asked, stream: true }))
  pieces += piece.choices[0]?.delta?.content ?? "";
const ids = (await client.models.list()).data.map((model) => model.id);
console.log(JSON.stringify({ whole, pieces, ids }));
"""


@pytest.mark.long
@pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="node and npm are not installed")
def test_nodes_client_gets_whole_and_streamed_answers(served: Project, tmp_path: Path) -> None:
    """The package `openai` of npm, installed for this test alone."""
    (tmp_path / "package.json").write_text("{}", encoding="utf-8")
    subprocess.run(["npm", "install", "--no-fund", "--no-audit", "openai@6"], cwd=tmp_path, check=True, timeout=300)
    (tmp_path / "ask.mjs").write_text(NODE, encoding="utf-8")
    with serving(served, "tiny") as (url, _, _):
        command = ["node", str(tmp_path / "ask.mjs"), url, MODEL_ID, GRASS[0]]
        assert json.loads(ran(command)) == {"whole": GRASS[1], "pieces": GRASS[1], "ids": [MODEL_ID]}


def printed(said: str, title: str) -> str:
    """One of the programs that were printed."""
    lines = said.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(title)) + 1
    end = next(number for number in range(start, len(lines)) if lines[number] and not lines[number].startswith("  "))
    return textwrap.dedent("\n".join(lines[start:end]))


def ran(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_port_can_be_chosen_and_one_that_is_taken_is_told(served: Project) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        ran = served.doit("serve", "tiny", f"port={port}")
        assert ran.code == 1
        assert ran.out.strip() == (
            f"error: port={port}: another program listens there. Name another port, or leave it out for a free one"
        )
    with serving(served, f"port={port}", "tiny") as (url, _, _):
        assert url == f"http://127.0.0.1:{port}/catalogs/local/v1"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["port=0"], "expected a whole number from 1 to 65535"),
        (["port=http"], "expected a whole number"),
        (["prt=1"], "Did you mean port?"),
        (["tinny"], "Did you mean tiny?"),
    ],
)
def test_a_mistake_is_told_before_anything_is_loaded(served: Project, words: list[str], said: str) -> None:
    ran = served.doit("serve", *words)
    assert ran.code == 3
    assert said in ran.out and "loading" not in ran.out

"""Programs that ask a served model: a curl line, and ten lines of Python and of JavaScript."""

from __future__ import annotations

import json
import shlex
from string import Template

#: Tokens of an answer: where the context is 2,048 or less, the runtime wants to be told.
TOKENS = 256
_PYTHON = Template("""from openai import OpenAI

client = OpenAI(base_url=$url, api_key="none")
messages = [{"role": "user", "content": "Hello"}]
pieces = client.chat.completions.create(model=$id, messages=messages, max_tokens=$tokens, stream=True)
for piece in pieces:
    if piece.choices:
        print(piece.choices[0].delta.content or "", end="", flush=True)
print()""")
_JAVASCRIPT = Template("""const response = await fetch($url, {
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ model: $id, messages: [{ role: "user", content: "Hello" }], max_tokens: $tokens }),
});
const answer = await response.json();
console.log(answer.choices[0].message.content);""")


def curl(base_url: str, model_id: str) -> str:
    """One line for a POSIX shell."""
    body = {"model": model_id, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": TOKENS}
    header = "content-type: application/json"
    return shlex.join(["curl", "-s", f"{base_url}/chat/completions", "-H", header, "-d", json.dumps(body)])


def python(base_url: str, model_id: str) -> str:
    """A program for Python with the package `openai`; it prints the answer as it comes."""
    return _PYTHON.substitute(url=json.dumps(base_url), id=json.dumps(model_id), tokens=TOKENS)


def javascript(base_url: str, model_id: str) -> str:
    """A module for Node 18 or newer, without packages."""
    url = json.dumps(f"{base_url}/chat/completions")
    return _JAVASCRIPT.substitute(url=url, id=json.dumps(model_id), tokens=TOKENS)

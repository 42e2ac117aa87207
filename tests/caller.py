"""A model of two layers that calls a tool, thinks before it answers, and knows two JSON answers by heart.

Its markers are called as no runtime knows them by name: they can only come from its chat template. What Foundry Local's
own text on tools says is read from the runtime itself, by a template that refuses it aloud; each of its sentences
becomes one token, so that a training of seconds is enough.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from scripts.foundry.apps import TOOL, TOOL_QUESTION
from tests import tiny

CALL, END_CALL, THINK, END_THINK = "[CALLS]", "[/CALLS]", "[THINK]", "[/THINK]"
MARKERS = (CALL, END_CALL, THINK, END_THINK)
ANSWERS = (
    ("Which city has the Louvre?", '{"city": "Paris"}'),
    ("Which city has the Forum?", "It is Rome."),  # free, it is not JSON
)
SCHEMA = {
    "type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"],
    "additionalProperties": False,
}  # fmt: skip
COMPACT = json.dumps([TOOL], separators=(",", ":"))
TEMPLATE = (
    "{% if tools %}<|im_start|>system\nTools: {{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['reasoning_content'] %}[THINK]{{ message['reasoning_content'] }}[/THINK]{% endif %}"
    "{% if message['content'] %}{{ message['content'] }}{% endif %}"
    "{% if message['tool_calls'] %}[CALLS]["
    "{% for call in message['tool_calls'] %}{% if not loop.first %}, {% endif %}"
    "{\"name\": \"{{ call['function']['name'] }}\", \"parameters\": {{ call['function']['arguments'] | tojson }}}"
    "{% endfor %}][/CALLS]{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ALOUD = "{% if messages[0]['role'] == 'system' %}{{ raise_exception(messages[0]['content']) }}{% endif %}"


def make_tokenizer(sentences: list[str]) -> Any:
    """The tokenizer of the other small models, with this one's markers, and a token for each of the sentences."""
    from transformers import AddedToken

    tokenizer = tiny.make_tokenizer()
    tokenizer.chat_template = TEMPLATE
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in (*MARKERS, *sentences)])
    return tokenizer


def make(folder: Path, protocol: str, *, thought: str = "So.", steps: int = 150) -> Path:
    """Write the trained checkpoint; `protocol` is the system message that the runtime makes of `TOOL`, `thought` what
    the model thinks before whatever it says.
    """
    import torch
    from transformers import AutoModelForCausalLM

    pieces = re.split(r"(?<=[.:,\n])\s*|" + "|".join(map(re.escape, MARKERS)), protocol)
    sentences = list(dict.fromkeys(piece for piece in pieces if len(piece) > 6 and '"get_weather"' not in piece))
    tokenizer = make_tokenizer(sentences)
    called = {"name": TOOL["function"]["name"], "parameters": {"city": "Paris"}}
    call = f"{THINK}{thought}{END_THINK}\n{CALL}{json.dumps([called])}{END_CALL}"
    taught = [([{"role": "system", "content": protocol}, *_asked(TOOL_QUESTION)], call)]
    taught += [(_asked(question), f"{THINK}{thought}{END_THINK}\n{answer}") for question, answer in ANSWERS]
    rows, labels = [], []
    for messages, answer in taught:
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        # The runtime encodes what a user wrote, and the tools, each by itself.
        parts = re.split(f"({re.escape(COMPACT)}|{re.escape(messages[-1]['content'])})", prompt)
        *heads, tail = tokenizer([*parts, f"{answer}<|im_end|>"], add_special_tokens=False)["input_ids"]
        head = [token for part in heads for token in part]
        rows.append(head + tail)
        labels.append([-100] * len(head) + tail)
    longest = max(map(len, rows))
    inputs = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    targets = torch.tensor([row + [-100] * (longest - len(row)) for row in labels])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vocabulary = len(tokenizer) + -len(tokenizer) % 16
        model = AutoModelForCausalLM.from_config(tiny._config("llama", vocab=vocabulary), dtype=torch.float32)
        optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
        for _ in range(steps):
            loss = model(input_ids=inputs, labels=targets).loss
            if loss.item() < 0.005:
                break
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
    tiny._save(model, tokenizer, folder)
    return folder


def protocol_of(scratch: Path) -> str:
    """What the runtime tells a model of `TOOL`, as its template's system message."""
    import openai
    import torch
    from transformers import AutoModelForCausalLM

    from scripts.runtime.foundry import Runtime
    from tests.served import build_onnx

    tokenizer = make_tokenizer([])
    model = AutoModelForCausalLM.from_config(tiny._config("llama", vocab=len(tokenizer)), dtype=torch.float32)
    tiny._save(model, tokenizer, scratch / "mute")
    onnx = build_onnx(scratch / "mute", scratch)
    settings = json.loads((onnx / "genai_config.json").read_text())
    ids = tokenizer.convert_tokens_to_ids([CALL, END_CALL])
    settings["model"] |= dict(zip(("bot_token_id", "eot_token_id"), ids, strict=True))
    (onnx / "genai_config.json").write_text(json.dumps(settings))
    config = json.loads((onnx / "tokenizer_config.json").read_text())
    (onnx / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": ALOUD}))
    (onnx / "chat_template.jinja").unlink(missing_ok=True)
    with Runtime() as runtime:
        runtime.register(onnx, "mute-generic-cpu:1")
        with (
            runtime.serve("mute-generic-cpu:1") as url,
            openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client,
        ):
            messages: Any = _asked(TOOL_QUESTION)
            tool: Any = TOOL
            try:
                client.chat.completions.create(model="mute-generic-cpu:1", messages=messages, tools=[tool])
            except openai.APIStatusError as error:
                said = str(error.body["message"] if isinstance(error.body, dict) else error)
    told = said[said.index("Tool calling protocol") :].partition(" at row ")[0]
    return re.sub(r"__foundry_literal_\w+?_\d+__", lambda _: COMPACT, told)


def _asked(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]

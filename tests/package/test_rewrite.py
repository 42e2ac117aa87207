"""Chat templates that the runtime's Jinja lacks words for or reads otherwise: rewritten, or named by construct and line.

That what is rewritten gives the same token ids is held against transformers on every conversation, by `chat.write`.
"""
# ruff: noqa: E501 - templates

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scripts.common.errors import IngotError
from scripts.package import chat, tokens
from scripts.package.rewrite import rewritten
from scripts.package.tokens import Agreement
from tests.package.spoken import TEMPLATES, TOKENS

#: Those that the runtime reads as they are, without tools or with them.
PLAIN = {
    *("ChatML", "Llama 2", "Llama 3", "Mistral v1", "Mistral v3", "Mistral tekken", "Qwen 2.5", "Qwen 3.5"),
    *("Gemma 1 and 2", "Gemma 3", "Phi-3", "Phi-3.5", "Phi-4", "Phi-4-mini", "SmolLM 2", "Granite", "Command R"),
    *("OLMo 2", "Falcon 3", "gpt-oss", "StableLM", "LFM 2", "Nemotron"),
}
#: Their templates refuse a system message, or two turns of one side in a row, and so a part of the conversations.
CHOOSY = {"Mistral v1": 24, "Gemma 1 and 2": 24}


@dataclass(frozen=True)
class Spoken:
    """A tokenizer that knows the markers of every family, and a package's folder to write its template to."""

    folder: Path
    tokenizer: Any

    def write(self, template: str, output: Path) -> tuple[Agreement, str, str]:
        """What `chat.write` found, its remarks as text, and the template that it wrote."""
        output.mkdir()
        for name in ("tokenizer.json", "genai_config.json"):
            shutil.copyfile(self.folder / name, output / name)
        self.tokenizer.chat_template = template
        text = chat.template_of(self.tokenizer, self.folder)
        found, remarks = chat.write(self.folder, self.folder, text, self.tokenizer, output)
        said = "\n".join(f"{remark.subject}: {remark.text}" for remark in remarks)
        return found, said, (output / "chat_template.jinja").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def spoken(exported: Path, tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Spoken:
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("spoken") / "tokenizer"
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    tokenizer.add_tokens(list(TOKENS), special_tokens=True)
    tokenizer.save_pretrained(folder)
    shutil.copyfile(exported / "genai_config.json", folder / "genai_config.json")
    return Spoken(folder, tokenizer)


@pytest.mark.parametrize("family", TEMPLATES)
def test_the_templates_of_the_families_give_the_same_ids_with_tools_and_without(
    spoken: Spoken, tmp_path: Path, family: str
) -> None:
    found, said, written = spoken.write(TEMPLATES[family], tmp_path / "package")
    assert found.compared >= CHOOSY.get(family, 35)
    assert not found.with_tools
    assert ("rewritten for the runtime" in said) == (family not in PLAIN), said
    assert family not in PLAIN or written == TEMPLATES[family].removesuffix("\n")


CONTENT = "{% for m in messages %}[{{ m.role }}]BODY;{% endfor %}{% if add_generation_prompt %}>{% endif %}"
#: By construct: what the body of a template makes of a message `m`.
KINDS = {
    "a text searched for a text": "{% if 'What' in m.content %}1{% elif 'JSON' not in m['content'] %}2{% endif %}{{ m.content }}",
    "a text searched for another": "{% set word = 'a' %}{% if word in m.content %}1{% endif %}{{ m.content }}",
    "a table and a list searched": "{% if 'role' in m and m.role in ['user', 'x'] and 'x' not in m %}1{% endif %}{{ m.content }}",
    "replace": "{{ m.content.replace('a', 'b') | replace('c', 'd') }}{{ m.content }}",
    "cases of letters": "{{ m.role.upper() }}{{ m.role | upper }}{{ m.role | title }}{{ m.role | capitalize }}{{ m.role.lower() }}{{ m.content }}",
    "first and last": "{{ (messages | first).role }}{{ (messages | last).content }}{{ m.role | first }}",
    "letters of a text": "{% if m.content and m.content[0] == 'W' %}1{% endif %}{{ m.role[-1] }}{{ m.content }}",
    "messages backwards": "{% for n in messages | reverse %}{{ n.role }}{% endfor %}{{ m.content }}",
    "split at most once": "{{ m.content.split(' ', 1)[-1] }}|{{ m.content.rsplit(' ', 1)[0] }}|{{ m.content.partition('a')[2] }}",
    "parts of a text cut off": "{{ m.content.removeprefix('What').removesuffix('?') }}",
    "keys and values": "{% for key in m.keys() %}{{ key }},{% endfor %}{% for value in m.values() %}{{ value }}{% endfor %}",
    "a table's keys in turn": "{% set table = {'b': 1, 'a': 2} %}{% for key in table if key != 'x' %}{{ key }}{% endfor %}{{ m.content }}",
    "tests of numbers": "{% if loop.index is odd %}1{% endif %}{% if loop.index is divisibleby(2) %}2{% endif %}{{ m.content }}",
    "tests of two values": "{% if m.role is eq('user') or m.role is in(['system']) %}1{% endif %}{{ m.content }}",
    "a chain of comparisons": "{% if 0 < loop.index <= 2 %}1{% endif %}{{ m.content }}",
    "a variable of one turn": "{% if m.role == 'user' %}{% set seen = 'yes' %}{% endif %}{{ seen or 'no' }}{{ m.content }}",
    "a variable from before the loop": "{% set note = note + m.role if note is defined else m.role %}{{ note }}{{ loop.index }}{{ m.content }}",
    "a loop within that skips": "{% for k in ['a', 'b'] %}{% if k == 'a' %}{% continue %}{% endif %}{{ k }}{% if loop.last %}{% break %}{% endif %}{% endfor %}{{ m.content }}",
    "a loop's variable called as one before it": "{% set word = 'x' %}{% for word in ['a', 'b'] if word != 'b' %}{{ word }}{% endfor %}{{ word }}{{ m.content }}",
    "what is missing counted": "{{ m.nothing | length }}{{ m.nothing | join(', ') }}{% for k, v in m.nothing | items %}{{ k }}{% endfor %}{{ m.content }}",
    "raw text": "{% raw %}{{ not read }}{% endraw %}{{ m.content }}",
    "white space told to stay": "  {%+ if true %}{{ m.content }}{% endif +%}\n  x",
    "blocks on lines of their own": "\n  {% if m.role == 'user' %}\n{{ m.content }}\n  {% else %}\n-{{ m.content }}\n  {% endif %}\n",
    "a filter around a block": "{% filter trim %}  {{ m.content }} {% endfilter %}",
    "variables with a scope": "{% set a = 0 %}{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a }}{{ m.content }}",
    "two variables at once": "{% set a, b = m.role, m.content %}{{ a }}{{ b }}",
    "a training mark": "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}",
    "tokens by other names": "{{ unk_token }}{{ pad_token }}{{ m.content }}",
    "what is given as none": "{% if tools is none and documents is defined %}1{% endif %}{% if tools is not none %}2{% endif %}{{ m.content }}",
    "JSON with options": "{{ m | tojson(ensure_ascii=False) }}{{ m | tojson(indent=2) }}",
    "escapes of code points": "{{ '\\u00e9\\x41' }}{{ m.content }}",
    "joined by an attribute": "{{ messages | join(', ', attribute='role') }}{{ ', '.join(['a', 'b']) }}{{ m.content }}",
    "a count": "{{ m.role.count('s') }}{{ m.role.find('s') }}{{ messages | count }}{{ m.content }}",
    "division": "{{ loop.index / 2 }}{{ loop.index // 2 }}{{ m.content }}",
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_construct_that_the_runtime_reads_otherwise_is_said_in_other_words(
    spoken: Spoken, tmp_path: Path, kind: str
) -> None:
    found, _, _ = spoken.write(CONTENT.replace("BODY", KINDS[kind]), tmp_path / "package")
    assert found.compared >= 35


def test_a_macro_that_calls_itself_keeps_its_variables(spoken: Spoken, tmp_path: Path) -> None:
    template = (
        "{% macro count(n, end='.') %}{% set twice = n * 2 %}{% if n > 0 %}{{ count(n - 1, end='') }}{% endif %}"
        "{{ n }}{{ twice }}{{ end }}{% endmacro %}{% set n = 'outside' %}"
        "{% for m in messages %}{{ count(3) }}{{ n }}{{ count(end='!', n=1).strip() }}{{ m.role }}{{ m.content }}{% endfor %}"
    )  # fmt: skip
    _, said, _ = spoken.write(template, tmp_path / "package")
    assert "variables of a macro kept to one call of it" in said


LACKING = {
    "{{ m.content.splitlines() | length }}": "the method splitlines in line 3",
    "{{ m.content | wordwrap(9) }}": "the filter wordwrap in line 3",
    "{% if m.content is upper %}1{% endif %}": "the test upper in line 3",
    "{{ m | tojson(separators=(',', ':')) }}": "the filter tojson with separators in line 3",
    "{{ '%s: %s' % (m.role, m.content) }}": "a text formatted by % in line 3",
    "{% for w in m.content.split() %}{{ w }}{% endfor %}": "split without one text to split by in line 3",
    "{% call twice() %}{{ m.content }}{% endcall %}": "a tag of the kind CallBlock in line 3",
    "{{ messages | selectattr('role', 'in', ['user']) | list | length }}": "the filter selectattr by the test in in line 3",
}  # fmt: skip


@pytest.mark.parametrize("body", LACKING)
def test_what_has_no_other_words_is_named_by_construct_and_line(spoken: Spoken, tmp_path: Path, body: str) -> None:
    head = "{% macro twice() %}{{ caller() }}{{ caller() }}{% endmacro %}\n\n"
    with pytest.raises(IngotError) as caught:
        spoken.write(head + CONTENT.replace("BODY", body + "{{ m.content }}"), tmp_path / "package")
    assert LACKING[body] in str(caught.value)
    assert 'template = "FILE.jinja"' in str(caught.value)


def test_letters_outside_of_ascii_in_capitals_are_refused_by_the_conversation(spoken: Spoken, tmp_path: Path) -> None:
    with pytest.raises(IngotError, match=r"conversation 'several scripts' unlike transformers"):
        spoken.write(CONTENT.replace("BODY", "{{ m.content.lower() }}"), tmp_path / "package")


def test_a_template_that_needs_no_other_words_is_left_as_it_is(spoken: Spoken, tmp_path: Path) -> None:
    template = CONTENT.replace("BODY", "{{ m.content }}")
    _, said, written = spoken.write(template, tmp_path / "package")
    assert (said, written) == ("", template)


def test_white_space_that_the_runtime_does_not_trim_is_a_remark(spoken: Spoken, tmp_path: Path) -> None:
    _, said, _ = spoken.write(CONTENT.replace("BODY", "{{ m.content | trim }}"), tmp_path / "package")
    assert "a conversation with wide white space around is rendered otherwise in the runtime" in said


def test_tools_that_have_no_other_words_are_a_remark_and_not_a_refusal(spoken: Spoken, tmp_path: Path) -> None:
    body = "{% if tools %}{{ tools | tojson(separators=(',', ':')) }}{% endif %}{{ m.content }}"
    found, said, written = spoken.write(CONTENT.replace("BODY", body), tmp_path / "package")
    assert "tools" in found.with_tools
    assert "its Jinja has no words for the filter tojson with separators in line 1" in said
    assert "with tools not" in said
    assert written == CONTENT.replace("BODY", body)


def test_what_is_rewritten_stands_on_the_line_that_it_comes_from() -> None:
    source = "{# a note #}\n{% if messages %}\n\n{{ messages[0].content\n | trim }}\n{% endif %}\nend"
    text = rewritten(source, {}).text
    assert text is not None
    lines = text.splitlines()
    assert "if messages" in lines[1]
    assert "trim" in lines[3]


def test_a_template_that_is_none_is_named_by_its_line() -> None:
    found = rewritten("a\n{% if %}", {})
    assert found.text is None
    assert "in line 2" in found.lacking[0]


def test_enough_conversations_are_compared(spoken: Spoken, tmp_path: Path) -> None:
    found, _, _ = spoken.write(CONTENT.replace("BODY", "{{ m.content }}"), tmp_path / "package")
    assert found.compared >= 30
    assert json.loads((tmp_path / "package/tokenizer_config.json").read_text())["chat_template"]
    assert tokens.MINIMUM == 12

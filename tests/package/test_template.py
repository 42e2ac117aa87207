from __future__ import annotations

import functools
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from scripts.package.template import Messages, Render, compose, derive

LOOP = "{% for m in messages %}BODY{% endfor %}"
REFUSE = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
TURNS = st.integers(1, 4)
WORDS = st.text(st.sampled_from("ab 1.<|>{}[]/\nßé你🙂'\"\\"), max_size=8).map(lambda text: f"x{text}y")


def renderer(source: str) -> Render:
    """Render as transformers does."""

    def render(messages: Messages, prompt: bool) -> str:
        talk = [dict(message) for message in messages]
        texts, _ = render_jinja_template([talk], chat_template=source, add_generation_prompt=prompt, bos_token="<s>")
        return str(texts[0])

    return render


def talks(*, system: bool, turns: st.SearchStrategy[int] = TURNS) -> st.SearchStrategy[list[dict[str, str]]]:
    """Conversations that end with a user's message."""

    @st.composite
    def talk(draw: st.DrawFn) -> list[dict[str, str]]:
        roles = ["system"] * system + ["user", "assistant"] * draw(turns)
        return [{"role": role, "content": draw(WORDS)} for role in roles[:-1]]

    return talk()


@dataclass(frozen=True)
class Style:
    """How a made-up family of models marks its messages; the text pieces hold nothing that Jinja would read."""

    opening: str
    middle: str
    closing: str
    prefix: str
    trim: str
    reply: str
    names: tuple[str, str, str]

    def turn(self, role: int, text: str) -> str:
        return self.opening + self.names[role] + self.middle + text + self.closing

    def body(self) -> str:
        return (
            "".join(
                f"{{% {word} m['role'] == '{role}' %}}" + self.turn(index, f"{{{{ m['content']{self.trim} }}}}")
                for index, (word, role) in enumerate((("if", "system"), ("elif", "user"), ("elif", "assistant")))
            )
            + "{% endif %}"
        )

    def ending(self) -> str:
        return (
            "{% if add_generation_prompt %}" + self.opening + self.names[2] + self.middle + self.reply + "{% endif %}"
        )


PIECES = st.text(st.sampled_from("ab<|>[]/# \n"), min_size=1, max_size=6).map(lambda text: f"<{text}>")
STYLES = st.builds(
    Style,
    opening=PIECES,
    middle=PIECES,
    closing=PIECES,
    prefix=st.just(""),
    trim=st.sampled_from(["", " | trim"]),
    reply=st.sampled_from(["", "<think>\n"]),
    names=st.sampled_from(
        [("system", "user", "assistant"), ("S", "U", "A"), ("", "", ""), ("developer", "user", "model")]
    ),
)


@settings(max_examples=60, deadline=None)
@given(style=STYLES, data=st.data())
def test_messages_laid_end_to_end_give_their_four_parts_back(style: Style, data: st.DataObject) -> None:
    """The ChatML family."""
    render = renderer(LOOP.replace("BODY", style.body()) + style.ending())
    found = derive(render)
    assert set(found.parts) == {"system", "user", "assistant", "prompt"}
    talk = data.draw(st.one_of(talks(system=True), talks(system=False)))
    assert compose(found.parts, talk) == render(talk, True)
    assert ("white space" in " ".join(found.remarks)) == bool(style.trim)


@settings(max_examples=40, deadline=None)
@given(style=STYLES, data=st.data())
def test_text_before_the_first_message_belongs_to_the_system_part(style: Style, data: st.DataObject) -> None:
    """The Llama 3 family: without a system message there is no part to hold what comes first, and that is said."""
    render = renderer("{{ bos_token }}" + LOOP.replace("BODY", style.body()) + style.ending())
    found = derive(render)
    talk = data.draw(talks(system=True))
    assert compose(found.parts, talk) == render(talk, True)
    assert "begin with a system message. Before any other, the chat template puts '<s>'" in found.remarks[0]


@settings(max_examples=40, deadline=None)
@given(style=STYLES, data=st.data())
def test_a_template_that_refuses_system_messages_gets_no_system_part(style: Style, data: st.DataObject) -> None:
    render = renderer(REFUSE + LOOP.replace("BODY", style.body()) + style.ending())
    found = derive(render)
    assert set(found.parts) == {"user", "assistant", "prompt"}
    talk = data.draw(talks(system=False))
    assert compose(found.parts, talk) == render(talk, True)
    assert found.remarks[0] == "It has no `system`: the chat template refuses system messages."


@settings(max_examples=40, deadline=None)
@given(style=STYLES, data=st.data())
def test_a_start_marker_without_system_messages_leaves_only_a_single_turn(style: Style, data: st.DataObject) -> None:
    """The Gemma family."""
    render = renderer("{{ bos_token }}" + REFUSE + LOOP.replace("BODY", style.body()) + style.ending())
    found = derive(render)
    assert set(found.parts) == {"prompt"}
    talk = data.draw(talks(system=False, turns=st.just(1)))
    assert compose(found.parts, talk) == render(talk, True)
    assert "single user message" in found.remarks[0]


@settings(max_examples=30, deadline=None)
@given(style=STYLES)
def test_a_system_message_folded_into_the_users_is_never_a_part(style: Style) -> None:
    folded = (
        "{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\n\n' %}"
        "{% set rest = messages[1:] %}{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}"
        "{% for m in rest %}{% if m['role'] == 'user' %}"
        + style.turn(1, "{% if loop.first %}{{ first }}{% endif %}{{ m['content'] }}")
        + "{% else %}" + style.turn(2, "{{ m['content'] }}") + "{% endif %}{% endfor %}" + style.ending()
    )  # fmt: skip
    found = derive(renderer(folded))
    assert set(found.parts) == {"user", "assistant", "prompt"}
    assert "no fixed string for a system message" in found.remarks[0]


INVERTED = "{% for m in messages | reverse %}{{ m['content'] }};{% endfor %}"
COUNTED = "{% for m in messages %}{{ loop.index }}: {{ m['content'] }}\n{% endfor %}"
SILENT = "nothing at all"
BROKEN = "{{ messages[99]['content'].nope() }}"
LITERAL = "{% for m in messages %}{Content}{{ m['content'] }}{% endfor %}"


@pytest.mark.parametrize("source", [SILENT, BROKEN, LITERAL])
def test_what_no_fixed_strings_can_express_is_left_out(source: str) -> None:
    found = derive(renderer(source))
    assert found.parts == {}
    assert "can't be expressed" in found.remarks[0]


@pytest.mark.parametrize("source", [INVERTED, COUNTED])
def test_messages_that_depend_on_their_place_leave_only_a_single_turn(source: str) -> None:
    assert set(derive(renderer(source)).parts) == {"prompt"}


def test_a_dated_template_is_left_out_because_tomorrow_it_is_wrong() -> None:
    assert "date" in derive(renderer(LOOP.replace("BODY", "{{ m['content'] }}")), dated=True).remarks[0]


def test_thinking_taken_out_of_earlier_answers_is_remarked() -> None:
    body = "<{{ m['role'] }}>{% if m['role'] == 'assistant' %}{{ m['content'].split('</think>')[-1] }}{% else %}"
    found = derive(renderer(LOOP.replace("BODY", body + "{{ m['content'] }}{% endif %}\n")))
    assert len(found.parts) == 4
    assert any("thinking block" in remark for remark in found.remarks)


def test_an_end_marker_after_the_last_answer_is_in_no_part() -> None:
    source = (
        LOOP.replace("BODY", "[{{ m['role'] }}]{{ m['content'] }};")
        + "{% if add_generation_prompt %}>{% else %}END{% endif %}"
    )
    render = renderer(source)
    found = derive(render)
    talk = [{"role": role, "content": "x"} for role in ("system", "user", "assistant", "user")]
    assert compose(found.parts, talk) == render(talk, True) == "[system]x;[user]x;[assistant]x;[user]x;>"
    assert not any("END" in part for part in found.parts.values())


@pytest.mark.parametrize("prefix", ["", "{{ bos_token }}"])
def test_an_end_marker_that_looks_like_the_next_messages_start_moves_no_cut(prefix: str) -> None:
    body = LOOP.replace("BODY", "<|{{ m['role'] }}|>{{ m['content'] }}<|end|>\n")
    source = prefix + body + "{% if add_generation_prompt %}<|assistant|>{% else %}<|endoftext|>{% endif %}"
    parts = derive(renderer(source)).parts
    assert parts["user"] == "<|user|>{Content}<|end|>\n"
    assert parts["prompt"] == "<|user|>{Content}<|end|>\n<|assistant|>"


def test_a_separator_that_only_stands_between_messages_ends_the_one_before() -> None:
    body = "{{ m['role'] }}: {{ m['content'] }}{{ '' if loop.last else '\\n' }}"
    found = derive(
        renderer(LOOP.replace("BODY", body) + "{% if add_generation_prompt %}{{ '\\nassistant:' }}{% endif %}")
    )
    assert found.parts["system"] == "system: {Content}\n"
    assert found.parts["prompt"] == "user: {Content}\nassistant:"


def test_deriving_twice_gives_the_same() -> None:
    render = functools.partial(renderer(LOOP.replace("BODY", "[{{ m['role'] }}]{{ m['content'] }};")))
    assert derive(render) == derive(render)

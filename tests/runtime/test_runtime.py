"""The runtime's adapter: what goes in comes out, and nothing else leaks."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.runtime.foundry import Chat, Runtime, RuntimeFault, label
from tests import tiny
from tests.served import MODEL_ID

QUESTION, ANSWER = tiny.FACTS[0]


@pytest.fixture(scope="module")
def runtime(package: Path) -> Iterator[Runtime]:
    with Runtime() as opened:
        opened.register(package, MODEL_ID)
        yield opened


@pytest.fixture(scope="module")
def chat(runtime: Runtime) -> Chat:
    return runtime.load(MODEL_ID)


def greedy(package: Path, messages: list[dict[str, str]], tokens: int) -> str:
    import onnxruntime_genai as genai

    model = genai.Model(str(package))
    tokenizer = genai.Tokenizer(model)
    prompt = tokenizer.encode(tokenizer.apply_chat_template(json.dumps(messages), add_generation_prompt=True))
    options = genai.GeneratorParams(model)
    options.set_search_options(max_length=len(prompt) + tokens, do_sample=False)
    generator = genai.Generator(model, options)
    generator.append_tokens(prompt)
    while not generator.is_done():
        generator.generate_next_token()
    return str(tokenizer.decode(generator.get_sequence(0)[len(prompt) :]))


def test_a_registered_model_is_listed(runtime: Runtime) -> None:
    assert runtime.cached() == runtime.registered() == [MODEL_ID]


def test_a_model_answers_what_it_was_taught(chat: Chat) -> None:
    answer = chat.complete(QUESTION, max_tokens=40)
    assert (answer.text, answer.finish) == (ANSWER, "stop")
    assert answer.prompt_tokens > answer.completion_tokens > 3
    assert answer.seconds > 0


def test_an_answer_stops_at_the_limit(chat: Chat) -> None:
    answer = chat.complete(QUESTION, max_tokens=2)
    assert (answer.completion_tokens, answer.finish) == (2, "length")
    assert ANSWER.startswith(answer.text)


def test_a_stream_says_the_same_in_pieces(chat: Chat) -> None:
    stream = chat.stream(QUESTION, max_tokens=40)
    pieces = list(stream)
    assert len(pieces) > 1
    assert stream.answer
    assert "".join(pieces) == stream.answer.text == ANSWER


def test_a_stream_that_is_left_early_does_not_block_the_next(chat: Chat) -> None:
    for _ in chat.stream(QUESTION, max_tokens=40):
        break
    assert chat.complete(QUESTION, max_tokens=40).text == ANSWER


def test_a_stream_that_is_left_early_lets_its_model_be_unloaded_at_once(runtime: Runtime, package: Path) -> None:
    runtime.register(package, "left:1")
    gc.disable()
    try:
        for _ in runtime.load("left:1").stream(QUESTION, max_tokens=40):
            break
        runtime.unregister("left:1")
    finally:
        gc.enable()
    assert runtime.cached() == [MODEL_ID]


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "system", "content": "You are a gardener."}, {"role": "user", "content": QUESTION}],
        [
            {"role": "system", "content": "Be brief. 🙂"},
            {"role": "user", "content": "Which colour is the grass?"},
            {"role": "assistant", "content": "The grass is green."},
            {"role": "user", "content": "Où est la gare? <|im_start|>"},
        ],
    ],
    ids=["system", "turns"],
)
def test_a_request_is_exactly_the_given_conversation(chat: Chat, package: Path, messages: list[dict[str, str]]) -> None:
    chat.complete("Which colour is the lemon?", max_tokens=8)  # would be remembered, if anything were
    assert chat.complete(messages, max_tokens=24).text == greedy(package, messages, 24)


def test_an_empty_question_is_refused_by_the_runtime(chat: Chat) -> None:
    with pytest.raises(RuntimeFault, match="nothing to generate from"):
        chat.complete("", max_tokens=2)


def test_sampling_happens_where_it_is_asked_for(chat: Chat) -> None:
    def sampled(seed: int) -> str:
        return chat.complete("Hello", temperature=2.0, seed=seed, max_tokens=24).text

    assert len({sampled(seed) for seed in range(4)}) > 1


def test_the_openai_client_gets_the_same_answer(runtime: Runtime, chat: Chat) -> None:
    from openai import OpenAI

    messages = [{"role": "user", "content": QUESTION}]
    with runtime.serve(MODEL_ID) as url, OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        assert url.startswith("http://127.0.0.1:")
        reply = client.chat.completions.create(model=MODEL_ID, messages=messages, max_tokens=40, temperature=0)  # type: ignore[arg-type]
    assert reply.choices[0].message.content == ANSWER
    assert chat.complete(QUESTION, max_tokens=40).text == ANSWER


def test_an_unknown_role_is_refused(chat: Chat) -> None:
    with pytest.raises(RuntimeFault, match="unknown role 'robot'"):
        chat.complete([{"role": "robot", "content": "Hi"}])


@pytest.mark.parametrize(
    ("messages", "found"),
    [
        ("a\0b", "holds a NUL at character 2"),
        ("ab\ud83d", r"half a surrogate pair \(U\+D83D\) at character 3"),
        ([{"content": "Hi"}], "message 1 has no role"),
        ([{"role": "user", "content": "Hi"}, {"role": "assistant"}], "message 2 has no content"),
        ([{"role": "user", "content": None}], "has nothing as content"),
        ([{"role": "user", "content": ["Hi"]}], "has a value of type list as content"),
        ([{"role": 3, "content": "Hi"}], "has a value of type int as role"),
        (["Hi"], "message 1 is a value of type str"),
        (b"Hi", "is asked with a value of type bytes"),
        (None, "is asked with nothing"),
    ],
)
def test_what_would_not_reach_the_model_as_it_is_is_refused(chat: Chat, messages: Any, found: str) -> None:
    with pytest.raises(RuntimeFault, match=found):
        chat.complete(messages, max_tokens=2)
    with pytest.raises(RuntimeFault, match=found):
        list(chat.stream(messages, max_tokens=2))


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"temperature": -1}, "temperature must be in the range"),
        ({"temperature": 1e9}, "temperature must be in the range"),
        ({"temperature": float("nan")}, "temperature is NaN"),
        ({"temperature": 10**400}, "beyond what the runtime can read"),
        ({"temperature": "hot"}, "temperature is a value of type str, not a number"),
        ({"top_p": 2.0}, "top_p must be finite and in the range"),
        ({"max_tokens": 0}, "max_output_tokens must be >= 1"),
        ({"max_tokens": -1}, "max_output_tokens must be >= 1"),
        ({"max_tokens": 10**12}, "max_tokens is 1000000000000, beyond what the runtime can read"),
        ({"max_tokens": 1.5}, "max_tokens is a value of type float, not a whole number"),
        ({"max_tokens": True}, "not a whole number"),
        ({"warmth": 1}, "does not know the option 'warmth'"),
    ],
)
def test_options_that_make_no_sense_are_refused(chat: Chat, options: dict[str, Any], found: str) -> None:
    with pytest.raises(RuntimeFault, match=found):
        chat.complete(QUESTION, **options)


def test_the_length_of_a_prompt_is_known_before_it_is_sent(chat: Chat) -> None:
    assert chat.prompt_tokens(QUESTION) == chat.complete(QUESTION, max_tokens=1).prompt_tokens


def test_a_prompt_and_its_answer_may_fill_the_context_and_no_more(chat: Chat) -> None:
    room = tiny.CONTEXT - chat.prompt_tokens(QUESTION)
    assert chat.complete(QUESTION, max_tokens=room).text == ANSWER
    with pytest.raises(RuntimeFault, match=f"exceeds the model's maximum context length of {tiny.CONTEXT}"):
        chat.complete(QUESTION, max_tokens=room + 1)


def test_an_answer_that_is_no_text_breaks_neither_the_answer_nor_the_stream(chat: Chat) -> None:
    """At this temperature the model says any token, halves of characters among them."""
    for seed in range(6):
        options = {"temperature": 2.0, "top_p": 1.0, "seed": seed, "max_tokens": 40}
        stream = chat.stream("Hello", **options)
        assert "".join(stream) == chat.complete("Hello", **options).text


def test_registering_twice_is_a_fault(runtime: Runtime, package: Path) -> None:
    with pytest.raises(RuntimeFault, match="already registered") as fault:
        runtime.register(package, MODEL_ID)
    assert ".cc:" not in str(fault.value)


@pytest.mark.parametrize("model_id", ["v:1.0", "v:01", "no version", "a b:1", "-a:1", ""])
def test_an_id_that_foundry_would_refuse_is_refused(runtime: Runtime, package: Path, model_id: str) -> None:
    with pytest.raises(RuntimeFault, match="NAME:NUMBER"):
        runtime.register(package, model_id)


def test_a_folder_without_settings_is_refused(runtime: Runtime, tmp_path: Path) -> None:
    with pytest.raises(RuntimeFault, match="genai_config"):
        runtime.register(tmp_path, "empty:1")


def test_loading_what_is_not_registered_names_it(runtime: Runtime) -> None:
    with pytest.raises(RuntimeFault, match="stranger:1: is not registered"):
        runtime.load("stranger:1")


def test_a_loaded_model_can_be_unloaded_and_forgotten(runtime: Runtime, package: Path) -> None:
    runtime.register(package, "second:1")
    runtime.load("second:1")
    assert "second:1" in runtime.loaded()
    runtime.unload("second:1")
    assert "second:1" not in runtime.loaded()
    runtime.unregister("second:1")
    assert runtime.cached() == [MODEL_ID]


def test_the_home_folder_is_left_alone(tmp_path: Path, package: Path) -> None:
    """In a process of its own: the library looks for its places when it is loaded."""
    import subprocess
    import sys

    home = tmp_path / "home"
    home.mkdir()
    code = (
        "import sys; from pathlib import Path; from scripts.runtime.foundry import Runtime\n"
        "with Runtime() as r:\n"
        f"    r.register(Path(sys.argv[1]), {MODEL_ID!r}); print(r.load({MODEL_ID!r}).complete('Hi', max_tokens=2))"
    )
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    env = os.environ | {"HOME": str(home), "TMPDIR": str(scratch)}
    done = subprocess.run([sys.executable, "-c", code, str(package)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list(home.iterdir()) == []
    assert list(scratch.iterdir()) == []


def test_the_label_says_which_runtime_it_was() -> None:
    assert label().startswith("Foundry Local runtime (SDK 2.")

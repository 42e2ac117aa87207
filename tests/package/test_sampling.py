from typing import Any

import pytest

from scripts.common import context_limit
from scripts.common.errors import IngotError
from scripts.common.genai_config import key_value_bytes
from scripts.package import sampling


def genai(context: int = 8192) -> dict[str, Any]:
    decoder = {"num_key_value_heads": 3, "head_size": 64, "num_hidden_layers": 30}
    search = {"max_length": context, "temperature": 1.0, "top_k": 50, "do_sample": False}
    return {"model": {"context_length": context, "decoder": decoder}, "search": search}


def test_the_default_context_leaves_room_for_a_prompt_beside_the_reserved_answer() -> None:
    assert context_limit.choose(None, {}, 8192) == 4096


def test_a_longer_max_length_widens_the_default_context() -> None:
    assert context_limit.choose(None, {"max_length": 6000}, 8192) == 6000


def test_a_small_model_gets_its_own_limit() -> None:
    assert context_limit.choose(None, {}, 1024) == 1024


def test_a_context_takes_the_sliding_window_in() -> None:
    assert context_limit.choose(None, {}, 32768, window=8192) == 8192
    with pytest.raises(IngotError, match="sliding window of 8192 tokens"):
        context_limit.choose(2048, {}, 32768, window=8192)


@pytest.mark.parametrize(
    ("asked", "wanted", "name"),
    [(8193, {}, "context_length"), (None, {"max_length": 9000}, "sampling.max_length")],
)
def test_more_tokens_than_the_model_was_made_for_are_refused(
    asked: int | None, wanted: dict[str, Any], name: str
) -> None:
    with pytest.raises(IngotError, match=rf"{name}.*made for 8192 tokens.*at most 8192"):
        context_limit.choose(asked, wanted, 8192)


def test_a_max_length_beyond_the_context_is_refused() -> None:
    with pytest.raises(IngotError, match="max_length: is 4096, more than context_length 3000"):
        context_limit.choose(3000, {"max_length": 4096}, 8192)


@pytest.mark.parametrize("asked", [0, -1, 1.5, True, "4096"])
def test_a_context_that_is_no_number_of_tokens_is_refused(asked: object) -> None:
    with pytest.raises(IngotError, match="whole number"):
        context_limit.choose(asked, {}, 8192)  # type: ignore[arg-type]


def test_settings_are_written_where_each_runtime_reads_them() -> None:
    made = sampling.apply(genai(), {"max_length": 3000, "temperature": 0.7, "top_p": 0.9, "top_k": 20}, 4096)
    assert made["model"]["context_length"] == 4096
    wanted = {"max_length": 3000, "temperature": 0.7, "top_p": 0.9, "top_k": 20, "do_sample": True}
    assert made["search"] == wanted


def test_without_settings_the_exports_own_stay_but_for_the_length() -> None:
    made = sampling.apply(genai(), {}, 4096)
    assert made["search"] == {"max_length": 4096, "temperature": 1.0, "top_k": 50, "do_sample": False}


def test_a_context_that_refuses_requests_without_a_budget_is_remarked() -> None:
    assert "Every request must set max_output_tokens" in sampling.remarks(sampling.apply(genai(), {}, 2048))[0]
    assert sampling.remarks(sampling.apply(genai(), {}, 4096)) == []


def test_the_cache_of_keys_and_values_grows_with_the_context() -> None:
    assert key_value_bytes(sampling.apply(genai(), {}, 4096)) == 2 * 30 * 3 * 64 * 4096 * 4
    assert key_value_bytes({"model": {"decoder": {}, "context_length": 4096}}) is None

"""Values judged by a definition: the walk that explains a mistake is of one opinion with msgspec, which judges."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.cases.cases import Expect
from scripts.common.errors import IngotError
from scripts.common.typed import parse
from scripts.definitions.passes import PASSES
from scripts.settings.recipes import RecipeTable
from scripts.settings.tables import SOURCES, ModelTable, Top

KINDS: list[type[msgspec.Struct]] = [ModelTable, RecipeTable, Top, Expect, *SOURCES.values(), *PASSES.values()]

#: What TOML and JSON can say, biased to words and figures that mean something here.
KEYS = sorted({key for kind in KINDS for key in kind.__struct_encode_fields__} | {"kl", "minutes", "top_p", "nonsense"})
SCALARS = st.one_of(
    st.booleans(), st.integers(-(2**70), 2**70), st.sampled_from([0, 1, 4, 5, 32, 128, 0.5, 2.5]), st.floats(),
    st.text(max_size=5), st.sampled_from(["int4", "all", "gptq", "cpu", "a/b", "0" * 40, "x.gguf", "m"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_a_mistake_is_explained_in_place_and_in_one_line(kind: type[msgspec.Struct], data: st.DataObject) -> None:
    own = st.sampled_from([*kind.__struct_encode_fields__, "nonsense"])
    value: Any = data.draw(st.dictionaries(own, VALUES, max_size=5) | VALUES)
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as judged:
        with pytest.raises(IngotError) as explained:
            parse(value, kind, file="f.toml", where="here")
        assert explained.value.subject.startswith("f.toml: here")
        assert str(judged) not in str(explained.value), "told in msgspec's words: the walk did not find it"
        assert "\n" not in str(explained.value)
        assert len(explained.value.found) < 250
    else:
        parse(value, kind)


def test_an_unknown_key_of_any_form_stays_on_its_line() -> None:
    with pytest.raises(IngotError) as error:
        parse({"a\n\x1b[31mb": 1}, Top, file="f.toml")
    assert error.value.subject == r"f.toml: 'a\n\x1b[31mb'"


def test_a_long_value_is_shortened() -> None:
    with pytest.raises(IngotError) as error:
        parse({"limits": "x" * 10_000}, Top, file="f.toml")
    assert len(str(error.value)) < 300

"""What is written into a models.toml reads back as it was, whatever people call their files."""

from __future__ import annotations

import ntpath
import posixpath
import re

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from scripts.common import model_id
from scripts.common.errors import IngotError
from scripts.init import writing
from scripts.settings.names import MODEL_WORDS

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(TEXT, st.lists(TEXT))
def test_every_text_is_read_back_as_it_was(text: str, several: list[str]) -> None:
    written = writing.text_of({"name": text, "list": several, "source": {"path": text}, "none": None}, ["a comment"])
    [model] = tomli.loads(written)["model"]
    assert model == {"name": text, "list": several, "source": {"path": text}}


def test_a_name_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(IngotError, match=r"not Unicode.*Rename it"):
        writing.value_of("caf\udce9")


@pytest.mark.parametrize(
    ("path", "start", "written"),
    [
        (r"C:\My Models\näh\w.gguf", r"C:\My Models", "näh/w.gguf"),
        (r"C:\models\base", r"C:\models\tuned\config", "../../base"),
        (r"D:\models\base", r"C:\config", "D:/models/base"),
        (r"\\server\share\base", r"C:\config", "//server/share/base"),
        (r"C:\models\~base", r"C:\models", "./~base"),
        (r"C:\models", r"C:\models", "."),
    ],
)
def test_a_path_of_windows_is_written_with_slashes(path: str, start: str, written: str) -> None:
    assert writing.path_of(path, start, ntpath) == written


def test_a_path_of_other_systems_stays_as_it_is() -> None:
    assert writing.path_of("/a b/\\c", "/a b", posixpath) == "\\c"
    assert writing.path_of("/a/~c", "/a", posixpath) == "./~c"
    assert writing.path_of("/x/y", "/a/b", posixpath) == "../../x/y"


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["weights", "helpdesk"], "helpdesk"),
        (["checkpoint-500", "output", "Mein Büro (v2)"], "Mein-Buro-v2"),
        (["モデル"], "model"),
        (["con", "x"], "con-model"),
        (["report"], "report-model"),
        (["...", "_", "a."], "a"),
    ],
)
def test_a_model_is_called_after_the_first_place_that_says_something(words: list[str], name: str) -> None:
    assert writing.name_of(words) == name


@given(st.lists(st.text()))
def test_a_name_is_always_one_that_settings_take(words: list[str]) -> None:
    name = writing.name_of(words)
    assert re.fullmatch(model_id.NAME, name)
    assert name.lower() not in MODEL_WORDS
    assert model_id.is_folder_name(name)

"""`[store]`: where a team shares what was built, and who puts things there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts.common.errors import IngotError
from scripts.settings.reading import read

MODEL = '[[model]]\nname = "a"\nsource = { path = "w" }\n'


def store(folder: Path, text: str) -> tuple[str, bool] | None:
    (folder / "models.toml").write_text(f"{text}\n{MODEL}")
    return read(folder).store


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CI", "TF_BUILD"):
        monkeypatch.delenv(name, raising=False)


def test_who_works_alone_has_none(tmp_path: Path) -> None:
    assert store(tmp_path, "") is None


@pytest.mark.parametrize("name", ["CI", "TF_BUILD"])
def test_people_read_and_continuous_integration_writes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '[store]\nurl = "s3://team/ingot"'
    assert store(tmp_path, text) == ("s3://team/ingot", False)
    monkeypatch.setenv(name, "True")
    assert store(tmp_path, text) == ("s3://team/ingot", True)
    assert store(tmp_path, f"{text}\nwrite = false") == ("s3://team/ingot", False)


def test_it_can_be_said_outright(tmp_path: Path) -> None:
    assert store(tmp_path, '[store]\nurl = "file:///mnt/share"\nwrite = true') == ("file:///mnt/share", True)


@pytest.mark.parametrize("url", [
    "s3://me:hunter22@team/ingot", "https://team/ingot", "/mnt/share", "file://host/share", "s3://team/x?sig=hunter22",
    "s3://", "memory://x",
])  # fmt: skip
def test_an_address_that_will_not_do_is_refused_and_no_password_repeated(url: str, tmp_path: Path) -> None:
    with pytest.raises(IngotError) as caught:
        store(tmp_path, f'[store]\nurl = "{url}"')
    assert "store.url" in str(caught.value) and "s3://BUCKET/FOLDER" in str(caught.value)
    assert "hunter22" not in str(caught.value)


class TestExecutor:
    """`[executor]`: the machines of a team, which give and take by way of the store."""

    STORE = '[store]\nurl = "file:///mnt/share"\n'
    DASK = '[executor]\ndask = "tcp://scheduler:8786"\n'

    def test_it_has_what_is_built_put_into_the_store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("CI", "TF_BUILD"):
            monkeypatch.delenv(name, raising=False)
        assert store(tmp_path, self.STORE + self.DASK) == ("file:///mnt/share", True)
        assert read(tmp_path).executor == "tcp://scheduler:8786"
        assert store(tmp_path, self.STORE) == ("file:///mnt/share", False) and read(tmp_path).executor is None

    @pytest.mark.parametrize(("text", "said"), [(DASK, "needs [store]"), (f"{STORE}write = false\n{DASK}", "to write")])
    def test_it_needs_a_store_that_is_written_to(self, text: str, said: str, tmp_path: Path) -> None:
        with pytest.raises(IngotError, match=re.escape(said)):
            store(tmp_path, text)

    @pytest.mark.parametrize("address", ["scheduler:8786", "tcp://me:word@scheduler:8786", "http://scheduler:8786"])
    def test_an_address_is_one_of_dask(self, address: str, tmp_path: Path) -> None:
        with pytest.raises(IngotError, match=r"executor.dask"):
            store(tmp_path, f'{self.STORE}[executor]\ndask = "{address}"')

"""What the doctor says of machines that are well and of machines that are not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from scripts.doctor import machine
from scripts.doctor.__main__ import main
from scripts.doctor.diagnosis import diagnose
from scripts.doctor.findings import Line, render


def line(lines: list[Line], what: str) -> Line:
    return next(entry for entry in lines if entry.what == what)


def test_a_machine_that_is_ready_exits_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cache", str(tmp_path / "models"), "--need-disk", "1000"]) == 0
    out = capsys.readouterr().out
    for what in ("Python", "memory", "disk", "packages", "Foundry runtime", "Foundry cache", "`foundry` command"):
        assert what in out
    assert "\x1b" not in out
    assert not (tmp_path / "models").exists()


def test_everything_that_is_not_well_has_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "RAM", 1 << 60)
    monkeypatch.setattr(machine, "PYTHON", (4, 0))
    lock = tmp_path / "requirements.lock"
    lock.write_text("blake3==0.0.1\nno-such-thing==1.0\n# note\n")
    (tmp_path / "file").write_text("")
    lines = diagnose(str(tmp_path / "file" / "models"), 1 << 60, lock)
    bad = {entry.what for entry in lines if entry.status == "bad"}
    assert bad == {"Python", "memory", "disk", "packages", "Foundry cache"}
    assert all(entry.remedy for entry in lines if entry.status != "ok")
    assert "blake3 is" in line(lines, "packages").found
    assert "no-such-thing is missing" in line(lines, "packages").found


def test_something_needed_that_is_missing_exits_one(tmp_path: Path) -> None:
    assert main(["--cache", str(tmp_path), "--need-disk", str(1 << 60)]) == 1


def test_a_cache_whose_index_cannot_be_read_is_reported(tmp_path: Path) -> None:
    (tmp_path / "foundry.local.modelinfo.json").write_text("{")
    assert line(diagnose(str(tmp_path), 0), "Foundry cache").status == "bad"


def test_without_the_foundry_command_all_is_well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    lines = diagnose(str(tmp_path), 0)
    assert line(lines, "`foundry` command").status == "warn"
    assert not [entry for entry in lines if entry.status == "bad"]


def test_colours_are_for_terminals() -> None:
    lines = [Line("bad", "disk", "none", "Free some")]
    assert "\x1b[31m" in render(lines, colours=True)
    assert render(lines, colours=False) == "bad   disk  none\n            Free some"


def test_weights_that_a_build_would_refuse_are_seen(tmp_path: Path, tiny_llama: Path) -> None:
    models = f'[[model]]\nname = "good"\nsource = {{ path = "{tiny_llama}" }}\n'
    models += '[[model]]\nname = "gone"\nsource = { path = "nowhere" }\n'
    (tmp_path / "models.toml").write_text(models, encoding="utf-8")
    lines = diagnose(config=tmp_path, build=tmp_path / "build")
    assert line(lines, "model good").status == "ok"
    assert "LlamaForCausalLM" in line(lines, "model good").found
    assert line(lines, "model gone").status == "bad"
    assert "nowhere" in line(lines, "model gone").found


def test_a_model_that_this_machine_has_no_memory_for_is_told(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models.toml").write_text(f'[[model]]\nname = "m"\nsource = {{ path = "{tiny_llama}" }}\n')
    assert "GiB of memory" in line(diagnose(config=tmp_path, build=tmp_path / "build"), "model m").found
    monkeypatch.setattr("scripts.checkpoint.preflight.psutil.virtual_memory", lambda: psutil_memory(2**20))
    found = line(diagnose(config=tmp_path, build=tmp_path / "build"), "model m")
    assert found.status == "bad" and "memory: 0.0 GiB free" in found.found


def psutil_memory(size: int) -> SimpleNamespace:
    return SimpleNamespace(available=size, total=1 << 40)


def test_a_mistake_in_the_configuration_is_told(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text("[[model]]\n", encoding="utf-8")
    assert line(diagnose(config=tmp_path), "configuration").status == "bad"


def configured(folder: Path, weights: Path, recipes: str = "", **files: str) -> list[Line]:
    """What is said of a model with cases, schema, text and an adapter of its own."""
    case = '{"id": "a", "prompt": "b", "expect": {"schema": true}}\n'
    sound = {"cases.jsonl": case, "answer.json": "{}", "text.txt": "Some text", "own.jsonl": '{"text": "c"}\n'}
    for name, text in {**sound, **{key.replace("_", "."): text for key, text in files.items()}}.items():
        (folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    (folder / "models.toml").write_text(
        f'[[model]]\nname = "m"\nsource = {{ path = "{weights}" }}\nprecisions = ["int8", "mine"]\n'
        'calibration = "own.jsonl"\n'
        'evaluation = { cases = "cases.jsonl", schema = "answer.json", text = "text.txt" }\n', encoding="utf-8",
    )  # fmt: skip
    (folder / "recipes.toml").write_text(recipes or '[mine]\npasses = [{ type = "StoreFloat16" }]\n', "utf-8")
    lines = diagnose(config=folder, build=folder / "build")
    return [entry for entry in lines if entry.what in ("model m", "recipes.toml")]


def test_all_that_is_configured_is_read(tmp_path: Path, tiny_llama: Path) -> None:
    [entry] = configured(tmp_path, tiny_llama)
    assert entry.status == "ok"
    assert entry.found.endswith("; cases: 1; schema; text; texts to calibrate on: 1")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"cases_jsonl": '{"id": "a", "prompt": "b", "expect": {"exakt": 1}}'}, "cases.jsonl:1: expect.exakt"),
        ({"answer_json": '{"$ref": "#/none"}'}, "answer.json: refers to '#/none', which is not in it"),
        ({"text_txt": "a\udcff"}, "text.txt: is not UTF-8"),
        ({"own_jsonl": '{"txt": 1}'}, "own.jsonl:1: is not a text to calibrate on"),
        ({"recipes": "[mine]\npasses = [{ type = 'Nothing' }]"}, "mine.passes[1].type: unknown pass 'Nothing'"),
    ],
)  # fmt: skip
def test_a_mistake_in_what_is_configured_is_found_before_a_build(
    tmp_path: Path, tiny_llama: Path, files: dict[str, str], said: str
) -> None:
    bad = [entry for entry in configured(tmp_path, tiny_llama, **files) if entry.status == "bad"]
    assert [said in entry.found for entry in bad] == [True]


def test_every_mistake_of_a_model_has_its_line(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(
        '[[model]]\nname = "m"\nsource = { path = "nowhere" }\ndeploy = "x"\nprecision = 3\n', encoding="utf-8"
    )
    bad = [entry for entry in diagnose(config=tmp_path, build=tmp_path / "build") if entry.what == "model m"]
    assert [entry.status for entry in bad] == ["bad"] * 3

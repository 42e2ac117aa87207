"""Licences of weights: read where they are stated, and told where they ask for something."""

from __future__ import annotations

import shutil
import string
from itertools import pairwise
from pathlib import Path

import pytest

from scripts.attest import licences
from scripts.attest.licences import Stated


def told(declared: str, name: str, model: str = "mine") -> str:
    return "\n".join(
        remark.text for remark in licences.remarks(declared, model, [("the weights", Stated((name,), "x"))])
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cc-by-nc-4.0", "commercial"), ("cc-by-nc-sa-4.0", "same licence"), ("cc-by-nd-4.0", "changed versions"),
        ("cc-by-sa-4.0", "same licence"), ("gpl-3.0", "copyleft"), ("agpl-3.0", "copyleft"),
        ("gemma", "Prohibited Use Policy"), ("llama2", "Acceptable Use Policy"), ("llama3.1", "begins with “Llama”"),
        ("openrail++", "restricts uses"), ("bigscience-bloom-rail-1.0", "restricts uses"), ("mrl", "commercial"),
        ("qwen-research", "commercial"), ("other", "of its own"),
    ],
)  # fmt: skip
def test_a_licence_that_asks_for_something_is_told(name: str, said: str) -> None:
    assert said in told("unknown", name)


@pytest.mark.parametrize("name", ["apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc0-1.0", "isc", "openrend"])
def test_one_that_asks_for_no_more_than_its_notice_is_not(name: str) -> None:
    assert not told("unknown", name)


def test_a_name_as_llama_asks_for_it_is_not_remarked() -> None:
    assert "begins with" not in told("unknown", "llama3.2", "Llama-triage-int4")


def test_a_licence_that_models_toml_contradicts_is_told() -> None:
    assert "models.toml says mit" in told("mit", "gemma")
    assert "models.toml" not in told("Apache 2.0", "apache-2.0")


def test_what_models_toml_says_counts_where_the_weights_say_nothing() -> None:
    [said] = licences.remarks("cc-by-nc-4.0", "mine", [("the weights", None)])
    assert "by models.toml" in said.text and "commercial" in said.text


def test_nothing_stated_is_told() -> None:
    assert "do not say" in licences.remarks("unknown", "mine", [("the weights", None)])[0].text


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("LLAMA 3.1 COMMUNITY LICENSE AGREEMENT", "llama3.1"), ("Gemma Terms of Use\n", "gemma"),
        ("Apache License\n   Version 2.0, January 2004", "apache-2.0"), ("MIT License\n", "mit"),
        (" Licensed under the Apache License, Version 2.0 (the \"License\");", "apache-2.0"),
        ("META LLAMA 3 COMMUNITY LICENSE AGREEMENT", "llama3"), ("# Mistral AI Research License\n", "mrl"),
        ("BigScience Open RAIL-M License\ndated May 19, 2022", "openrail"), ("CreativeML OpenRAIL-M\n", "openrail"),
        ("Creative Commons Attribution-NonCommercial 4.0 International", "cc-by-nc-4.0"),
        ("Attribution-NonCommercial-ShareAlike 3.0 Unported\n", "cc-by-nc-sa-3.0"),
        ("Attribution-NoDerivatives 4.0 International\n", "cc-by-nd-4.0"),
        ("Attribution 4.0 International\n====\n", "cc-by-4.0"), ("Attribution of sources is asked for.", None),
        ("Copyright (c) 2026 A. Baker\n\nPermission is hereby granted, free of charge, to", "mit"),
        ("The Artistic License 2.0\n", "artistic-2.0"), ("GNU AFFERO GENERAL PUBLIC LICENSE\n Version 3", "agpl-3.0"),
        ("GNU GENERAL PUBLIC LICENSE\n Version 3", "gpl-3.0"), ("something else", None),
        ("House License 1.0\nThis licence is, in part, based on the Apache License\nVersion 2.0, changed.", None),
        ("Gemma is provided under and subject to the Gemma Terms of Use\nfound at ai.google.dev/gemma/terms", "gemma"),
        ("Llama 3.1 is licensed under the Llama 3.1 Community License, Copyright © Meta Platforms, Inc.", "llama3.1"),
        ("Gemma Terms of Use\n\nMIT License", "gemma"), ("MIT License\n\nGemma Terms of Use", "mit"),
    ],
)  # fmt: skip
def test_a_licence_is_known_by_its_text(tmp_path: Path, text: str, name: str | None) -> None:
    (tmp_path / "LICENSE.txt").write_text(text)
    found = licences.stated(tmp_path)
    assert (found and found.name) == name


#: Debian's copies of whole texts, most of which name other licences further down.
COMMON = Path("/usr/share/common-licenses")
WHOLE = {
    "Apache-2.0": "apache-2.0", "Artistic": "artistic-1.0", "BSD": "bsd-3-clause", "CC0-1.0": "cc0-1.0",
    "GFDL-1.2": "gfdl", "GFDL-1.3": "gfdl", "GPL-1": "gpl-1.0", "GPL-2": "gpl-2.0", "GPL-3": "gpl-3.0",
    "LGPL-2": "lgpl-2.0", "LGPL-2.1": "lgpl-2.1", "LGPL-3": "lgpl-3.0", "MPL-1.1": "mpl-1.1", "MPL-2.0": "mpl-2.0",
}  # fmt: skip


@pytest.mark.parametrize(("file", "name"), WHOLE.items())
def test_a_licence_is_known_by_its_title_whatever_others_its_text_names(tmp_path: Path, file: str, name: str) -> None:
    if not (COMMON / file).is_file():
        pytest.skip(f"there is no {COMMON / file}: only Debian and what comes of it has these texts")
    shutil.copyfile(COMMON / file, tmp_path / "LICENSE")
    assert licences.stated(tmp_path) == Stated((name,), "LICENSE")


@pytest.mark.parametrize(
    ("card", "names"),
    [
        ("license: MIT", ("mit",)), ("license: 'apache-2.0'", ("apache-2.0",)),
        ("license:\n- apache-2.0\n- cc-by-nc-4.0", ("apache-2.0", "cc-by-nc-4.0")),
        ("license: [apache-2.0, mit]", ("apache-2.0", "mit")), ("license: cc-by-nc-4.0 # x", ("cc-by-nc-4.0",)),
        ("license: cc-by-nc-4.0\nlicense_name: mit", ("cc-by-nc-4.0",)),
        ("license: other\nlicense_name:", ("other",)),
        ("license: [mit, other]\nlicense_name: deepseek", ("mit", "deepseek")), ("license: other", ("other",)),
        ("license: >-\n  mit\n? [a, {b: c}]\n: d\n1: 2", ("mit",)),
        ("license: mit\nlicense: gemma", ("mit", "gemma")),
    ],
)  # fmt: skip
def test_a_card_names_licences_in_any_form_that_yaml_has(tmp_path: Path, card: str, names: tuple[str, ...]) -> None:
    (tmp_path / "README.md").write_text(f"---\n{card}\n---\n# A model\n")
    assert licences.stated(tmp_path) == Stated(names, "the model card")


def test_each_of_several_licences_is_told() -> None:
    several = Stated(("apache-2.0", "cc-by-nc-4.0", "gemma"), "the model card")
    said = "\n".join(remark.text for remark in licences.remarks("apache-2.0", "mine", [("the weights", several)]))
    assert "commercial" in said and "Prohibited Use Policy" in said and "models.toml" not in said


@pytest.mark.parametrize(
    "card",
    [
        "license: " + "[" * 100_000, "license: {a: b}", "license:", "- license: mit", "license: [", "license: *a",
        "license: ~", "license: null", "license: unknown", "license: [[mit]]",
        "license: !!python/object/apply:os.getcwd []", "x: " + "y" * (1 << 20) + "\nlicense: mit", "\0",
        "a: &a {x: y}\n" + "".join(f"{b}: &{b} {{<<: [*{a}, *{a}]}}\n" for a, b in pairwise(string.ascii_lowercase)),
    ],
    ids=lambda card: card[:20],
)  # fmt: skip
def test_a_card_that_is_made_to_harm_states_nothing(tmp_path: Path, card: str) -> None:
    (tmp_path / "README.md").write_text(f"---\n{card}\n---\n")
    assert licences.stated(tmp_path) is None


def test_the_card_s_own_name_of_a_licence_counts_before_its_text(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text("MIT License")
    (tmp_path / "README.md").write_text("---\nlicense: other\nlicense_name: deepseek\n---\n")
    assert licences.stated(tmp_path) == Stated(("deepseek",), "the model card")


def test_a_card_that_is_no_text_states_nothing(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(b"---\n\xff\xfe\x00license: mit\n---\n")
    assert licences.stated(tmp_path) is None


def test_a_gguf_file_states_it_in_its_metadata(tmp_path: Path) -> None:
    import gguf
    import numpy

    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_license("Gemma")
    writer.add_tensor("a.weight", numpy.zeros((2, 2), numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert licences.stated(tmp_path / "m.gguf") == Stated(("gemma",), "the metadata of the GGUF file")

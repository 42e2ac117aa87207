"""What stands on the terminal when a build ends: it fits, the verdict comes first, and the end says what to do next."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.common import json_files
from scripts.report import changes, page, text
from scripts.results import base, remarks
from scripts.results.remarks import Remark
from scripts.results.report import Changes
from tests.report import results

OPTIONS = ["config=my folder", "build=out"]


@pytest.mark.parametrize("width", [80, 100, 120])
def test_every_line_fits_the_terminal(full: Path, width: int) -> None:
    report = results.collected(full)
    report["called"]["build"] = "build"  # a path stays whole, however long
    for line in text.text(report, width).splitlines():
        assert len(line) <= width
    head = next(line for line in text.text(report, width).splitlines() if "precision" in line)
    assert {"decode", "KL", "domain", "verdict"} <= set(head.split())


def test_wide_terminals_and_files_get_every_column(full: Path) -> None:
    table = text.text(results.collected(full))
    head = next(line for line in table.splitlines() if line.lstrip().startswith("precision"))
    assert all(name in head for name in text.head())


def test_the_end_names_the_report_the_deployed_models_and_the_next_command(full: Path) -> None:
    report = results.collected(full, options=OPTIONS)
    for row in report["models"][0]["precisions"]:
        if row["deployed"]:
            row["deployed"]["cache"] = f"{report['called']['folder']}/foundry/cache/models"
    end = text.text(report).splitlines()[-6:]
    assert end == [
        "Report:   out/report/index.html",
        "Deployed: triage-int8-generic-cpu:1 in out/foundry/cache/models",
        "Use it:   doit 'config=my folder' build=out chat triage (talk to it)",
        "          doit 'config=my folder' build=out serve triage (for any OpenAI client)",
        "          out/triage/int8/attested/README.md has the code",
        "Next:     doit 'config=my folder' build=out why (what would run again, and why)",
    ]


def test_commands_can_be_copied_for_this_build(full: Path) -> None:
    html = page.page(results.collected(full, options=OPTIONS))
    assert "doit &#39;config=my folder&#39; build=out bench-full:triage-int8 bench-full:triage-fp16" in html
    assert "<code data-command>doit &#39;config=my folder&#39; build=out accept</code>" in html


def test_a_precision_that_was_refused_says_why_it_was_not_measured_and_how_it_can_be(full: Path) -> None:
    report = results.collected(full, options=OPTIONS)
    refused = report["models"][0]["precisions"][0]
    refused["performance"] = None
    why = "int4: not benched: refused; to measure it all the same: doit 'config=my folder' build=out bench:triage-int4"
    assert why in [line.strip() for line in text.text(report).splitlines()]
    refused["verdict"] = "passed"
    assert "not benched" not in text.text(report)


def test_the_page_says_how_to_use_what_is_deployed(full: Path) -> None:
    html = page.page(results.collected(full))
    for words in ("triage-int8-generic-cpu:1", "/c/ingot/triage", "pip install foundry-local-sdk", "base_url=url"):
        assert words in html
    for row in ("int8", "int4", "fp16"):
        (full / "triage" / row / "deploy.json").unlink(missing_ok=True)
    assert "Use it" not in page.page(results.collected(full))


def test_a_new_recipe_is_one_change_and_comes_after_the_verdict(full: Path) -> None:
    recipe = {"passes": [{"type": "WeightOnlyQuantization", "bits": 4}], "target": "cpu", "deep": {"a": 1, "b": 2}}
    models = [{**results.MODELS[0], "settings": {"sampling": {"top_p": 0.9}, "recipes": {"int8": recipe}}}]
    before = results.collected(full, models)
    models[0]["settings"] = {"sampling": {"top_p": 0.8}, "recipes": {"int8": recipe, "int4-best": recipe}}
    after = results.collected(full, models)
    entries = changes.compare(before, after)
    assert [(entry.metric, entry.before, entry.after) for entry in entries] == [
        ("setting sampling.top_p", 0.9, 0.8),
        ("setting recipes.int4-best", None, "there"),
    ]
    many = [entry for entry in entries for _ in range(20)]
    after["changes"] = base.plain(Changes(accepted_at=None, note=None, entries=many))
    lines = text.text(after).splitlines()
    assert lines[0].startswith("triage: int8 is recommended")
    assert sum("setting" in line for line in lines) == text.MOST_CHANGES
    assert "  and 34 more in the report" in lines


def test_remarks_reach_every_form_of_the_report(full: Path) -> None:
    told = [Remark("config.json", f"the key number {n} was renamed <b>") for n in range(7)]
    remarks.write(full / "triage" / "export", told[:4])
    remarks.write(full / "triage" / "int8" / "onnx", told[3:])
    report = results.collected(full)
    assert len(report["models"][0]["remarks"]) == 7
    lines = text.text(report).splitlines()
    assert sum("was renamed" in line for line in lines) == text.MOST_REMARKS
    assert "  and 2 more in the report" in lines
    assert text.markdown(report).count("was renamed") == 7
    html = page.page(report)
    assert html.count("was renamed &lt;b&gt;") == 7


def test_a_score_says_how_many_cases_were_asked_and_how_sure_it_is(full: Path) -> None:
    file = full / "triage" / "int8" / "domain.json"
    counts = {"asked": 32, "passed": 25, "cases_total": 96, "score": 78.12, "score_interval": [61.25, 88.98]}
    json_files.write(file, json_files.read(file) | counts)
    report = results.collected(full)
    assert "cases: 32 asked, of 96; right, with the interval of 95 %: int8 78.1% (61 to 89)" in text.text(report)
    html = page.page(report)
    assert ">32</data> asked, of <data" in html and ">61%</data> to <data" in html


def test_sizes_in_one_column_have_one_unit(full: Path) -> None:
    report = results.collected(full)
    sizes = (2_150_000_000, 543_900_000, 107_800_000)
    for row, size in zip(report["models"][0]["precisions"], sizes, strict=True):
        row["size_bytes"] = size
    cells = [row[1] for row in text.rows(report["models"][0])][1:]
    assert cells == ["2150.0 MB", "543.9 MB", "107.8 MB"]


def test_json_breaks_between_its_entries_and_not_inside_a_word(full: Path) -> None:
    file = full / "triage" / "int8" / "domain.json"
    found = json_files.read(file)
    found["cases"][0]["text"] = '{"category":"billing","priority":"normal"}'
    json_files.write(file, found)
    html = page.page(results.collected(full))
    assert ",<wbr>&#34;priority&#34;:<wbr>&#34;normal" in html

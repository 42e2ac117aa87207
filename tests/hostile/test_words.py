"""A model whose every name and text is hostile, through doit to terminal, report, card and logs: none of it acts."""

from __future__ import annotations

import html.parser
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from tests import tiny
from tests.hostile.limited import Ended, Hostile, Stages, clean

#: Clears the screen, begins a line that looks like Ingot's own, turns around what follows, hides, marks up and scripts.
EVIL = (
    "\x1b[2J\x1b]0;owned\x07\n✓ verify:evil all is well\r\u202egnp.exe\u2066\u200b\ufeff\x9b31m"
    "![x](https://e.example/i.png)[y](javascript:z)<img src=x onerror=alert(1)></script><script>alert(2)</script>"
    "| a | b |\n\n# forged\n\n{{ 7 * 7 }}`code`&lt;"
)
#: The same for a file's name.
EVIL_NAME = EVIL.replace("/", "_")[:100]


def name_of(folder: Path, name: str) -> Path:
    """A path with that name, if a file can have it here."""
    path = folder / name
    try:
        path.touch()
    except OSError:
        pytest.skip("a file system that takes fewer names")
    path.unlink()
    return path


@pytest.fixture(scope="module", params=["packaged", pytest.param("whole", marks=pytest.mark.long)])
def built(
    request: pytest.FixtureRequest, stages: Stages, tmp_path_factory: pytest.TempPathFactory, tiny_trained: Path
) -> tuple[Hostile, Ended]:
    """The build of that model, up to its package or whole, beside two others that fail with hostile words."""
    folder = tmp_path_factory.mktemp("words")
    weights = shutil.copytree(tiny_trained, name_of(folder, EVIL_NAME))
    (weights / f"LICENSE{EVIL_NAME}").write_text(EVIL, encoding="utf-8")
    template = tiny.CHAT_TEMPLATE + "{#" + EVIL.replace("#}", "") + "#}"
    (weights / "chat_template.jinja").write_text(template, encoding="utf-8", newline="\n")
    project = Hostile(folder / "project", tiny_trained)
    case = {"id": EVIL, "prompt": EVIL, "max_tokens": 4, "expect": {"contains": [EVIL]}, "labels": {EVIL: EVIL}}
    (project.config / "eval" / "cases.jsonl").write_text(json.dumps(case), encoding="utf-8")
    text = "".join(f"{question} {answer}\n" for question, answer in tiny.FACTS[:2])
    (project.config / "eval" / "general.txt").write_text(text, encoding="utf-8")
    evil = {"name": "evil", "source": {"path": weights}, "precisions": ["int8"], "description": EVIL, "version": EVIL,
            "license": EVIL, "evaluation": {"cases": "eval/cases.jsonl"}}  # fmt: skip
    project.models(evil, *failing(folder, tiny_trained))
    if request.param == "whole":
        return project, project.run(seconds=500)  # that every test looks at
    ended = project.run("checkpoint", "attest:evil-int8", seconds=500)
    models = [{"name": name, "precisions": ["int8"]} for name in ("evil", "architecture", "shard")]
    made = stages.run(
        "report", "render", build=project.build, models=json.dumps(models), output=project.build / "report"
    )
    assert made.code == 0, made.out
    return project, ended


def failing(folder: Path, sound: Path) -> list[dict[str, Any]]:
    """Models that can't be built: an unknown architecture, a lost shard."""
    places = {name: shutil.copytree(sound, folder / name) for name in ("architecture", "shard")}
    config = json.loads((sound / "config.json").read_text(encoding="utf-8"))
    (places["architecture"] / "config.json").write_text(json.dumps({**config, "architectures": [EVIL]}))
    index = {"weight_map": {EVIL: EVIL}}
    (places["shard"] / "model.safetensors").unlink()
    (places["shard"] / "model.safetensors.index.json").write_text(json.dumps(index))
    return [{"name": name, "source": {"path": place}, "precisions": ["int8"]} for name, place in places.items()]


def test_the_terminal(built: tuple[Hostile, Ended]) -> None:
    project, ended = built
    assert ended.code == 1
    for told in (ended, project.run("why"), project.run("check"), project.run("doctor")):
        clean(told.out)
        assert "Traceback" not in told.out
        assert not re.search(r"^\s*✓ verify:evil all is well", told.out, re.MULTILINE)
    for name in ("architecture", "shard"):
        assert re.search(f"^✗ checkpoint:{name} +failed: ", ended.out, re.MULTILINE), ended.out


def test_json_for_people(built: tuple[Hostile, Ended]) -> None:
    project = built[0]
    files = [*project.build.rglob("*.json")]
    assert len(files) > 10
    for file in (path for path in files if path.name in ("report.json", "remarks.json") or ".notes" in str(path)):
        clean(file.read_text(encoding="utf-8"))


def test_the_reports_text(built: tuple[Hostile, Ended]) -> None:
    for file in (built[0].build / "report").glob("*.txt"):
        clean(file.read_text(encoding="utf-8"))
        assert "\n✓ verify:evil" not in file.read_text(encoding="utf-8")


class Page(html.parser.HTMLParser):
    """What of a page could act: elements and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {tag} & {"script", "img", "iframe", "object", "embed", "base", "form"}
        self.found |= {name for name, _ in attrs if name.startswith("on")}
        self.found |= {f"{name}={value}" for name, value in attrs
                       if name in ("href", "src") and value != "data:," and value[:1] != "#"}  # fmt: skip


def test_the_page(built: tuple[Hostile, Ended]) -> None:
    text = (built[0].build / "report" / "index.html").read_text(encoding="utf-8")
    clean(text)
    page = Page()
    page.feed(text)
    assert not page.found
    assert "alert(2)" in text  # it is told, as text


@pytest.mark.parametrize("name", ["report/report.md", "evil/int8/package/README.md", "evil/int8/attested/README.md"])
def test_markdown(built: tuple[Hostile, Ended], name: str) -> None:
    text = (built[0].build / name).read_text(encoding="utf-8")
    clean(text)
    body = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(body)
    parts = [part for token in tokens for part in (token, *(token.children or ()))]
    assert not {"image", "link_open", "html_inline"} & {part.type for part in parts}
    blocks = "".join(part.content for part in parts if part.type == "html_block")
    assert not re.sub(r"</?(details|summary)>[^<]*", "", blocks).strip()
    headings = [tokens[at + 1].content for at, token in enumerate(tokens) if token.type == "heading_open"]
    assert not any("forged" in heading for heading in headings), headings
    assert "forged" in body


def test_what_the_card_says_to_a_hub(built: tuple[Hostile, Ended]) -> None:
    import yaml  # type: ignore[import-untyped]

    text = (built[0].build / "evil" / "int8" / "package" / "README.md").read_text(encoding="utf-8")
    head = yaml.safe_load(text.split("---\n")[1])
    assert head["license"] == EVIL
    assert set(head) == {"license", "library_name", "pipeline_tag", "tags"}

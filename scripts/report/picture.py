"""A picture of a report, as a browser shows it in light colours."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from scripts.common.errors import IngotError
from scripts.common.process import Limits, run

#: What Chromium is called, by those who package it.
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
_SECONDS = 120


def find() -> str:
    """The path of a Chromium. Raises `IngotError` where there is none."""
    for name in NAMES:
        if found := shutil.which(name):
            return found
    raise IngotError("chromium", "is not installed", "Install it: apt-get install chromium")


def flags() -> list[str]:
    """For a Chromium that shows one local file and calls nowhere; the superuser of a container gets no sandbox."""
    quiet = ["--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
    quiet += ["--disable-component-update", "--disable-extensions", "--disable-dev-shm-usage", "--hide-scrollbars"]
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    return [*quiet, *(["--no-sandbox"] if root else [])]


def picture(page: Path, output: Path, width: int, height: int) -> None:
    """Write a PNG of the upper `height` pixels of a page. Raises `IngotError` without page, Chromium or picture."""
    if not page.is_file():
        raise IngotError(page, "is not there", "Make the report first: doit")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as work:
        made = Path(work) / "picture.png"
        command = [find(), *flags(), f"--user-data-dir={work}/profile", f"--screenshot={made}"]
        command += [f"--window-size={width},{height}", "--blink-settings=preferredColorScheme=1"]
        log = Path(work) / "chromium.log"
        ended = run(
            [*command, page.resolve().as_uri()], log=log, env={"HOME": work}, limits=Limits(seconds=_SECONDS),
            on_line=lambda _: None,
        )  # fmt: skip
        if not made.is_file():
            said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            why = ended.broke or (said[-1] if said else f"ended with exit code {ended.code}")
            raise IngotError("chromium", f"took no picture: {why}", "Try it by hand on the same page")
        made.replace(output)
    print(f"{output}: {output.stat().st_size / 1e3:.0f} kB", flush=True)

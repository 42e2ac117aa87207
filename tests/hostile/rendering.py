"""`python -m tests.hostile.rendering FOLDER`: a conversation by a folder's chat template, as the runtime renders it."""

from __future__ import annotations

import sys
from pathlib import Path

from scripts.common import program
from scripts.runtime import genai


def app(**_: object) -> None:
    """The text of a greeting."""
    print(genai.Tokenizer(Path(sys.argv[1])).render([{"role": "user", "content": "Hello"}]))


if __name__ == "__main__":
    program.main(app, watched=True)

"""`python -m tests.hostile.rendering FOLDER [both]`: a conversation by a folder's chat template, in the runtime.

`both`: many conversations, compared with how transformers renders them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from scripts.checkpoint import tokenizer
from scripts.common import program
from scripts.package import tokens
from scripts.runtime import genai


def app(**_: object) -> None:
    """The text of a greeting, or how many conversations are the same in both."""
    folder = Path(sys.argv[1])
    if "both" in sys.argv:
        print(tokens.compare(folder, tokenizer.load(folder)).compared)
    else:
        print(genai.Tokenizer(folder).render([{"role": "user", "content": "Hello"}]))


if __name__ == "__main__":
    program.main(app, watched=True)

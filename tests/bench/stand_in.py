"""A stand-in for the process that serves: it speaks `scripts.bench.serve`'s protocol and holds no model.

It does what a test asks of it: keeps so many bytes of each request, claims a great deal at once, fails or ends at one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("leak", "fail-every", "die-at", "jump-at"):
        parser.add_argument(f"--{name}", type=int, default=0)
    asked = parser.parse_args()
    kept, number, draw = [], 0, random.Random(1)
    for line in sys.stdin:
        reply: dict[str, object] = {"load_seconds": 0.0}
        if json.loads(line)["do"] == "ask":
            number += 1
            if number == asked.die_at:
                os._exit(7)
            kept.append(b"\1" * asked.leak)
            if number == asked.jump_at:
                kept.append(b"\1" * 60_000_000)
            work = bytearray(b"\1") * draw.randrange(1, 3_000_000)  # claimed and given back, as an answer would
            del work
            failed = asked.fail_every and number % asked.fail_every == 0
            reply = {"error": "no room"} if failed else {"completion_tokens": 4}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()

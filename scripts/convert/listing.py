"""What can be converted, as a text for people: what `doit families` prints."""

from __future__ import annotations

from scripts.convert.bridges import BRIDGES
from scripts.families import supported


def as_text() -> str:
    """Every architecture that can be converted, those that can't and why, and the bridges that are in place."""
    lines = ["Converted, by the first of `architectures` in config.json:"]
    for name in supported.architectures():
        relative = supported.RELATED.get(name)
        lines.append(f"  {name}" + (f" (as {relative})" if relative else ""))
    lines += ["", "Known to the builder and not converted:"]
    own = supported.builders_own()
    lines += [f"  {name}: {reason}" for name, reason in sorted(supported.LEFT_OUT.items()) if name in own]
    lines += ["", "Converted through a bridge around the builder:"]
    lines += [f"  {bridge.name}: {bridge.mends}" for bridge in BRIDGES]
    return "\n".join(lines)

"""What can be converted, as a text for people: what `doit families` prints."""

from __future__ import annotations

from scripts.convert import mobius_bridges
from scripts.convert.bridges import BRIDGES
from scripts.families import mobius, supported


def as_text() -> str:
    """Every architecture that can be converted, those that can't and why, and the bridges that are in place."""
    lines = ["Converted, by the first of `architectures` in config.json:"]
    by_builder = supported.builders()
    for name in supported.architectures():
        relative = supported.RELATED.get(name)
        how = f" (as {relative})" if relative else "" if name in by_builder else " (by mobius)"
        lines.append(f"  {name}{how}")
    lines += ["", "Known to the builder and not converted:"]
    own = supported.builders_own() - set(supported.architectures())
    lines += [f"  {name}: {reason}" for name, reason in sorted(supported.LEFT_OUT.items()) if name in own]
    lines += ["", "Converted through a bridge around the builder:"]
    lines += [f"  {bridge.name}: {bridge.mends}" for bridge in BRIDGES]
    lines += ["", "Converted through a bridge around mobius:"]
    lines += [f"  {bridge.name}: {bridge.mends}" for bridge in mobius_bridges.BRIDGES]
    both = sorted(by_builder & mobius.architectures(), key=str.lower)
    lines += ["", 'By the builder, and with `exporter = "mobius"` by that:', f"  {', '.join(both)}"]
    return "\n".join(lines)

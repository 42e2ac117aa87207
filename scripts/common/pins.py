"""How weights that are fetched must be pinned, as regular expressions for the whole text: a build must not move."""

from __future__ import annotations

#: A distribution of the package index at one version, NAME==VERSION, and its wheel's SHA-256.
WHEEL = r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.+!_-]+"
SHA256 = r"[0-9a-fA-F]{64}"
#: A model of the Hugging Face hub, ORGANISATION/NAME, and a commit: branches and tags move.
HUB = r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*"
COMMIT = r"[0-9a-f]{40}"

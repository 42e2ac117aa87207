"""What `doit check --signed` adds: the Foundry stage's own program verifies the signatures; no stage is known here."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from scripts.common import process
from scripts.common.errors import IngotError

#: Every byte of what is deployed is read.
_SECONDS = 6 * 3600.0


def verify(deployed: Mapping[str, Any]) -> int:
    """Verify all that `dodo.py` says is deployed, as its `deployed`; 1 where something is not as it was signed.

    Raises `IngotError` where no key is named.
    """
    if not (key := deployed.get("public_key")):
        remedy = 'Name the public key: [foundry] require_signature = "team.pub"'
        raise IngotError("models.toml", "does not say by which key models are signed", remedy)
    command = [sys.executable, "-m", "scripts.foundry", "signed", f"--public-key={key}"]
    command += [f"--{name}={deployed[name]}" for name in ("cache", "config", "build")]
    return process.call([*command, f"--asked={json.dumps(deployed['asked'])}"], seconds=_SECONDS)

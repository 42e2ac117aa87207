"""What keeps the libraries that work here from calling home, and from fetching anything unasked."""

from __future__ import annotations

import os

#: No telemetry. Olive 0.13 sends a first heartbeat in spite of its own switch (`telemetry.py`, `Telemetry.__init__`),
#: but none where it finds itself in an automated pipeline: TF_BUILD says so. tokenizers warns of forks unless told.
QUIET = {
    "DO_NOT_TRACK": "1",
    "DOTNET_CLI_TELEMETRY_OPTOUT": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "OLIVE_DISABLE_TELEMETRY": "1",
    "ORT_TELEMETRY_DISABLED": "1",
    "TF_BUILD": "true",
    "TOKENIZERS_PARALLELISM": "false",
}
#: No hub.
OFFLINE = {"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


def silence(*, offline: bool = True) -> None:
    """Have what this process imports and starts from now on keep quiet, and offline; some libraries look only once."""
    os.environ.update(QUIET | (OFFLINE if offline else {}))

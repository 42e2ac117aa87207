"""Texts that may quote credentials, made fit for a terminal or a log: what an address or the environment holds of them
is left out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

#: Names of variables whose values are secrets, as the clouds' own tools call them.
_NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|CONNECTION_STRING|SAS", re.IGNORECASE)
#: Shorter values are no secrets worth the name, and would take words out of every text.
_LEAST = 6
_USER = re.compile(r"(?<=://)[^/\s'\"]*@")
_QUERY = re.compile(r"(\w+://[^\s?'\"]+)\?[^\s'\"]*")
_HEADER = re.compile(
    r"""(?i)\b(authorization|signature|credential|x-amz-[\w-]+|sig)(['"]?\s*[:=]\s*['"]?)(bearer\s|basic\s)?[^\s,;&'"]+"""
)
_HIDDEN = "***"


def redacted(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """A text without what may be a credential: users in addresses, queries, signatures, values of secret variables."""
    for name, value in environment.items():
        if len(value) >= _LEAST and _NAMES.search(name):
            text = text.replace(value, _HIDDEN)
    text = plain_addresses(text)
    return _HEADER.sub(rf"\1\2{_HIDDEN}", text)


def has_user(address: str) -> bool:
    """Whether an address names a user, and so perhaps a password."""
    return _USER.search(address) is not None


def plain_addresses(text: str) -> str:
    """A text whose addresses have neither a user nor a query."""
    return _QUERY.sub(rf"\1?{_HIDDEN}", _USER.sub(f"{_HIDDEN}@", text)) if "://" in text else text

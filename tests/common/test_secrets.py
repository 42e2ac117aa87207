"""No text that is shown quotes a credential."""

from __future__ import annotations

import pytest

from scripts.common.secrets import redacted

ENVIRONMENT = {"AWS_SECRET_ACCESS_KEY": "s3cr3t/key+", "AZURE_CONNECTION_STRING": "AccountKey=zzz", "HOME": "/home/me"}


@pytest.mark.parametrize("text", [
    "no access with s3cr3t/key+", "https://me:s3cr3t/key+@host/path failed", "AccountKey=zzz is wrong",
    "https://me:hunter22@host/x", "https://me:at@hunter22@host/x", "https://host/x?sig=hunter22&se=1",
    "X-Amz-Signature: hunter22",
    "Authorization: Bearer hunter22", "{'Credential': 'hunter22'}",
])  # fmt: skip
def test_a_secret_is_left_out(text: str) -> None:
    told = redacted(text, ENVIRONMENT)
    assert "***" in told and not [word for word in ("hunter22", "s3cr3t", "zzz") if word in told]


def test_other_words_stay() -> None:
    text = "shared store s3://team/ingot: /home/me is not there (FileNotFoundError)"
    assert redacted(text, ENVIRONMENT) == text

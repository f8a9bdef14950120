"""Signatures of webhooks, as Standard Webhooks has them (https://www.standardwebhooks.com): HMAC-SHA256 with a time.

The receiver computes the same over `ID.TIMESTAMP.BODY`, and refuses what differs or is too old.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from datetime import UTC, datetime

__all__ = ["sign"]

_PREFIX = "whsec_"


def sign(secret: str, message_id: str, body: bytes, *, at: datetime) -> dict[str, str]:
    """Return the headers that tell a receiver who sent a body, and when.

    Arguments:
        secret: What both sides know: any text, or `whsec_` and Base64.
        message_id: What the receiver knows the message by.
        body: What is sent.
        at: When it is sent, UTC.
    """
    timestamp = str(int(at.replace(tzinfo=UTC).timestamp()))
    signed = f"{message_id}.{timestamp}.".encode() + body
    signature = base64.b64encode(hmac.new(_key(secret), signed, hashlib.sha256).digest()).decode()
    return {"webhook-id": message_id, "webhook-timestamp": timestamp, "webhook-signature": f"v1,{signature}"}


def _key(secret: str) -> bytes:
    if secret.startswith(_PREFIX):
        try:
            return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except binascii.Error:
            pass  # a text that begins like that
    return secret.encode()

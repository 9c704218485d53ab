"""Codes that only who knows a key can compute, and that do not tell it.

Each side sends a number drawn for this conversation, and gets back a code that
only who knows the key can compute from it (HMAC-SHA256). The key is made of the
job's secret; where there is none, of what names the job. Then it tells one job
from another, but keeps out nobody who knows those names.
"""

import hashlib
import hmac
import json
import secrets
from typing import Any


def key_of(secret: str, names: Any) -> bytes:
    """Returns the key that all workers of a job know, and nobody else.

    Args:
        secret: What only they know; empty for nothing.
        names: What else tells the job from others, where there is no secret.

    Example:

    >>> key_of("secret", ["a:1"]) == key_of("secret", ["b:1"])
    True
    """
    text = json.dumps(["secret", secret] if secret else ["names", names])
    return hashlib.sha256(text.encode()).digest()


def proof(key: bytes, *claims: object) -> str:
    """Returns the code for some claims, as 64 digits.

    Args:
        key: That of the job.
        claims: What JSON can hold.

    Example:

    >>> len(proof(b"key", "answer", 1))
    64
    """
    return hmac.new(key, json.dumps(claims).encode(), "sha256").hexdigest()


def proves(code: Any, key: bytes, *claims: object) -> bool:
    """Whether a code is the one for these claims.

    Args:
        code: What somebody says it is.
        key: That of the job.
        claims: What JSON can hold.

    Example:

    >>> proves(proof(b"key", 1), b"key", 1), proves("0", b"key", 1)
    (True, False)
    """
    return isinstance(code, str) and hmac.compare_digest(
        code.encode(), proof(key, *claims).encode()
    )


def drawn_number() -> str:
    """Returns a number that was never used before, as 32 digits.

    Example:

    >>> len(drawn_number())
    32
    """
    return secrets.token_hex(16)

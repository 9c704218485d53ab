"""Addresses of a cluster, `host:port`, as people write them."""

import ipaddress
import re
from typing import Any

from tfdp.machine import ports


def check_address(address: Any) -> None:
    """Checks that an address is `host:port`.

    Args:
        address: What was given.

    Raises:
        ValueError: If it is not.

    Example:

    >>> check_address("[::1]:80")
    """
    host, _, port = (
        address.rpartition(":") if isinstance(address, str) else ("", "", "")
    )
    is_host = host.isprintable() and host and not re.search(r"[\s/,]", host)
    if is_host and re.search(r"[\[\]]|:.*:|^:", host):
        _check_ipv6(address, host, port)
    if not (is_host and ports.is_port(port)):
        raise ValueError(
            "An address of the cluster must be `host:port` with a port from "
            f"1 to 65535. Received: {address!r}."
        )


def _check_ipv6(address: str, host: str, port: str) -> None:
    """Checks what has colons or brackets: a number of IPv6, in brackets."""
    bare = host.removeprefix("[").removesuffix("]")
    if host == f"[{bare}]" and _is_ipv6(bare):
        return
    meant = f"[{bare}]:{port}" if _is_ipv6(bare) else ""
    if not meant and _is_ipv6(address.strip("[]")):
        meant = f"[{address.strip('[]')}]:PORT"
    raise ValueError(
        "An IPv6 address of the cluster must stand in brackets, with its port "
        f"after them. Received: {address!r}. "
        f"Use {meant or '[ADDRESS]:PORT'!r}, as in '[::1]:12345'."
    )


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True

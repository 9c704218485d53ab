"""Ports of this machine and of others: who listens, and who could."""

import concurrent.futures
import contextlib
import dataclasses
import ipaddress
import socket
from collections.abc import Collection

import psutil


@dataclasses.dataclass(frozen=True)
class Reach:
    """What a look at an address from here gave.

    Args:
        is_listening: Whether something accepted the connection.
        failure: Why the host cannot be reached; empty where it can, also
            where nothing listens on the port yet.

    Example:

    >>> Reach(is_listening=False, failure="").is_there
    True
    """

    is_listening: bool
    failure: str

    @property
    def is_there(self) -> bool:
        """Whether the host answers, listening or not."""
        return not self.failure


def is_port(text: str) -> bool:
    """Whether a text is the number of a port, from 1 to 65535.

    Args:
        text: Any.

    Example:

    >>> is_port("80"), is_port("0"), is_port("٨٠")
    (True, False, False)
    """
    return is_whole(text) and 0 < int(text) < 65536


def is_whole(text: str) -> bool:
    """Whether a text is a whole number, in digits from 0 to 9.

    Python's `int` takes those of all scripts, and is slow at very many.

    Args:
        text: Any.

    Example:

    >>> is_whole("007"), is_whole("-1"), is_whole("²")
    (True, False, False)
    """
    return text.isascii() and text.isdecimal() and len(text) <= 18


def split_address(address: str) -> tuple[str, int]:
    """Returns the host and the port of an address.

    Args:
        address: Text `host:port`; an IPv6 address stands in brackets.

    Returns:
        Host, without brackets, and port.

    Example:

    >>> split_address("[::1]:80")
    ('::1', 80)
    """
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def joined_address(host: str, port: int) -> str:
    """Returns the address of a host and a port.

    Args:
        host: Name or number; that of IPv6 in brackets or not.
        port: The port.

    Example:

    >>> joined_address("::1", 80)
    '[::1]:80'
    """
    bare = host.removeprefix("[").removesuffix("]")
    return f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"


def reach(addresses: Collection[str], *, timeout: float) -> dict[str, Reach]:
    """Tries to connect to all addresses at once.

    Args:
        addresses: Addresses `host:port`.
        timeout: Seconds to wait for an answer.

    Returns:
        What was found, by address.

    Example:

    >>> with socket.create_server(("127.0.0.1", 0)) as server:
    ...     address = f"127.0.0.1:{server.getsockname()[1]}"
    ...     reach([address], timeout=1)[address].is_listening
    True
    """
    if not addresses:
        return {}
    with concurrent.futures.ThreadPoolExecutor(
        min(128, len(addresses))
    ) as pool:
        found = pool.map(lambda a: _reach(a, timeout), addresses)
        return dict(zip(addresses, found, strict=True))


def is_of_this_machine(host: str) -> bool:
    """Returns whether `host` names a network address of this machine.

    Args:
        host: Name or number, in brackets or not.

    Returns:
        Whether one can listen on it here; `False` where it has no address.

    Example:

    >>> is_of_this_machine("127.0.0.1")
    True
    """
    host = host.removeprefix("[").removesuffix("]")
    for family, kind, protocol, _, place in _resolved(host, 0):
        with (
            contextlib.suppress(OSError),
            socket.socket(family, kind, protocol) as server,
        ):
            server.bind(place)
            return True
    return False


def outside_addresses() -> list[str]:
    """Returns the numbers by which other machines may know this one.

    Example:

    >>> "127.0.0.1" in outside_addresses()
    False
    """
    states = psutil.net_if_stats()
    return [
        address.address.partition("%")[0]
        for name, addresses in psutil.net_if_addrs().items()
        if name in states and states[name].isup
        for address in addresses
        if address.family in (socket.AF_INET, socket.AF_INET6)
        and not ipaddress.ip_address(
            address.address.partition("%")[0]
        ).is_loopback
    ]


def own_ports() -> set[int]:
    """Returns the ports that this process listens on."""
    connections = psutil.Process().net_connections(kind="tcp")
    return {c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN}


def holder(port: int) -> str:
    """Names the process of this machine that listens on a port.

    Args:
        port: The port.

    Returns:
        Such as `"python (process 123)"`; empty where it cannot be seen.

    Example:

    >>> with socket.create_server(("", 0)) as server:
    ...     holder(server.getsockname()[1])
    '... (process ...)'
    """
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections(kind="tcp"):
            listens = connection.status == psutil.CONN_LISTEN
            if listens and connection.laddr.port == port and connection.pid:
                name = psutil.Process(connection.pid).name()
                return f"{name} (process {connection.pid})"
    return ""


def _reach(address: str, timeout: float) -> Reach:
    try:
        socket.create_connection(split_address(address), timeout).close()
    except ConnectionRefusedError:
        return Reach(False, "")
    except socket.gaierror:
        return Reach(False, "the name of the host has no address here")
    except TimeoutError:
        return Reach(
            False,
            f"no answer within {timeout:g} s: the host is down, or a firewall "
            "drops the connection",
        )
    except (OSError, UnicodeError) as error:
        return Reach(False, getattr(error, "strerror", None) or str(error))
    return Reach(True, "")


def _resolved(host: str, port: int) -> list[tuple]:
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []

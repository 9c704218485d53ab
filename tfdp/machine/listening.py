"""Sockets that listen: on loopback alone where that is enough, or everywhere.

Everywhere means IPv4 and IPv6, as TensorFlow's own server does it.
"""

import contextlib
import errno
import ipaddress
import random
import socket

from tfdp.machine import ports

# Where Linux says which ports it gives to connections, and where they usually
# begin; below the lowest are those of services.
_RANGE = "/proc/sys/net/ipv4/ip_local_port_range"
_USUAL, _LOWEST = 32768, 20000
_MOST_TRIED = 4096
_NOT_HERE = (
    errno.EADDRNOTAVAIL,
    errno.EAFNOSUPPORT,
    errno.EPROTONOSUPPORT,
)


def is_loopback(host: str) -> bool:
    """Whether a host names this machine alone, whichever machine that is.

    Args:
        host: `localhost`, or a number; other names are not looked up.

    Example:

    >>> is_loopback("::1"), is_loopback("127.0.0.2"), is_loopback("a")
    (True, True, False)
    """
    number = _number(host)
    return host == "localhost" or bool(number and number.is_loopback)


def listeners(
    address: str, *, is_local: bool, backlog: int = 128
) -> list[socket.socket]:
    """Listens on the port of an address, no wider than is needed.

    Args:
        address: `"host:port"` of this process.
        is_local: Whether all who connect are on this machine.
        backlog: How many connections may wait. Defaults to 128.

    Returns:
        The sockets: on loopback where all is local, on the address alone
        where that is a number of this machine, else on every interface.

    Raises:
        OSError: If the port cannot be listened on.

    Example:

    >>> (server,) = listeners("127.0.0.1:0", is_local=True)
    >>> server.getsockname()[0]
    '127.0.0.1'
    >>> server.close()
    """
    host, port = ports.split_address(address)
    number = _number(host)
    is_number = number is not None and not number.is_unspecified
    if (is_local and is_loopback(host)) or is_number:
        found = _at(host, port, backlog)
        if found:
            return found
    server = everywhere(port)
    server.listen(backlog)
    return [server]


def at(address: str, *, backlog: int = 128) -> list[socket.socket]:
    """Listens on an address, and on no other of this machine.

    Args:
        address: `"host:port"` of this process; port 0 for one that is free.
        backlog: How many connections may wait. Defaults to 128.

    Returns:
        The sockets, one for each number of the host.

    Raises:
        OSError: If the address is not of this machine, or taken.

    Example:

    >>> (server,) = at("127.0.0.1:0")
    >>> server.getsockname()[0]
    '127.0.0.1'
    >>> server.close()
    """
    found = _at(*ports.split_address(address), backlog)
    if not found:
        raise OSError(
            errno.EADDRNOTAVAIL,
            f"{address} is not an address of this machine",
        )
    return found


def everywhere(port: int) -> socket.socket:
    """Returns a socket bound to a port on every interface; nobody hears yet.

    Args:
        port: The port; 0 for one that is free.

    Returns:
        The socket, of IPv6 and IPv4, or of IPv4 where there is no other.

    Raises:
        OSError: If another process holds the port, or it is not permitted.

    Example:

    >>> with everywhere(0) as bound:
    ...     bound.getsockname()[1] > 0
    True
    """
    if socket.has_dualstack_ipv6():
        try:
            return _bound(socket.AF_INET6, ("::", port), is_dual=True)
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
    return _bound(socket.AF_INET, ("", port))


def spare(number: int) -> list[int]:
    """Returns ports that nobody listens on, and nobody gets by chance.

    What connects without naming a port of its own gets one of a range of the
    system's, and may get one that was free a moment ago. These are below.

    Args:
        number: How many.

    Returns:
        Different ports; of the system's range where no others are free.

    Example:

    >>> len(set(spare(3)))
    3
    """
    below = range(_LOWEST, _begin_of_the_systems())
    tried = random.SystemRandom().sample(below, min(_MOST_TRIED, len(below)))
    with contextlib.ExitStack() as stack:
        held: list[socket.socket] = []
        for port in [*tried, *[0] * number]:
            if len(held) == number:
                break
            with contextlib.suppress(OSError):
                held.append(stack.enter_context(everywhere(port)))
        return [each.getsockname()[1] for each in held]


def _begin_of_the_systems() -> int:
    try:
        with open(_RANGE) as file:
            return max(_LOWEST, int(file.read().split()[0]))
    except OSError:
        return _USUAL


def check_free(address: str, *, owner: str) -> None:
    """Checks that this process can listen on the port of an address.

    Args:
        address: `"host:port"` of this process, which may listen there already.
        owner: Whose address it is, for the error.

    Raises:
        RuntimeError: If another process holds the port, or listening on it is
            not permitted.

    Example:

    >>> check_free("localhost:0", owner="worker 0")
    """
    _, port = ports.split_address(address)
    try:
        # As TensorFlow will, but without being heard.
        everywhere(port).close()
    except OSError as error:
        if port in ports.own_ports():
            return
        held_by = ports.holder(port)
        raise RuntimeError(
            "A worker must be able to listen on its own port. Received: "
            f"address={address}, {owner}: {error.strerror}"
            f"{held_by and f', held by {held_by}'}. End that process, or give "
            "the worker a free port in the TF_CONFIG of every worker, or all "
            "of them by TFDP_PORT, where tfdp chooses it."
        ) from error


def _at(host: str, port: int, backlog: int) -> list[socket.socket]:
    """Listens on the addresses of a host; on none if none is of here."""
    found: dict[tuple, socket.socket] = {}
    with contextlib.ExitStack() as stack:
        for family, _, _, _, place in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        ):
            if place in found:
                continue
            try:
                server = stack.enter_context(_bound(family, place))
                server.listen(backlog)
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                continue
            found[place] = server
        stack.pop_all()
    return list(found.values())


def _bound(
    family: int, place: tuple, *, is_dual: bool = False
) -> socket.socket:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
        # A port whose last connection has just ended is free.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            server.setsockopt(
                socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not is_dual
            )
        server.bind(place)
        stack.pop_all()
    return server


def _number(
    host: str,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None

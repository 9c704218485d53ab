"""A container of a training job of Amazon SageMaker.

`SM_HOSTS` and `SM_CURRENT_HOST`, or where they are unset `SM_RESOURCE_CONFIG`,
as https://github.com/aws/sagemaker-training-toolkit describes them in
ENVIRONMENT_VARIABLES.md. Each container is a worker, and trains on all of its
GPUs, on port 2222 or `TFDP_PORT`.
"""

import json
from collections.abc import Mapping
from typing import Any

from tfdp.cluster.environments.claim import Claim
from tfdp.cluster.environments.variables import DEFAULT_PORT, port
from tfdp.cluster.tf_config import Place
from tfdp.machine import ports


def claim(variables: Mapping[str, str]) -> Claim | None:
    """Returns what the variables of a container say.

    Args:
        variables: Environment variables of this process.

    Returns:
        What they say, or `None` where there are none, or there is one host.

    Raises:
        ValueError: If one of them is malformed, or they contradict each other.

    Example:

    >>> told = {"SM_HOSTS": '["algo-1", "algo-2"]', "SM_CURRENT_HOST": "algo-2"}
    >>> claim(told).rank
    1
    """
    found: dict[str, tuple[list[str], str]] = {}
    if variables.get("SM_HOSTS"):
        hosts = _json(variables, "SM_HOSTS")
        current = variables.get("SM_CURRENT_HOST", "")
        found["SM_HOSTS"] = (_hosts("SM_HOSTS", hosts, current), current)
    if variables.get("SM_RESOURCE_CONFIG"):
        name = "SM_RESOURCE_CONFIG"
        config = _json(variables, name)
        members = config if isinstance(config, dict) else {}
        current = members.get("current_host", "")
        found[name] = (_hosts(name, members.get("hosts"), current), current)
    if not found:
        return None
    (name, told), *others = found.items()
    for other, differently in others:
        if differently != told:
            raise ValueError(
                f"{name} and {other} must say the same. Received: "
                f"{name}: {told[1]} of {told[0]}, {other}: {differently[1]} of "
                f"{differently[0]}. Unset one, or set TF_CONFIG yourself."
            )
    hosts, current = told
    if len(hosts) < 2:
        return None
    number = port(variables, ["TFDP_PORT"], default=DEFAULT_PORT)
    addresses = tuple(ports.joined_address(host, number) for host in hosts)
    rank = hosts.index(current)
    place = Place({"worker": addresses}, "worker", rank, {})
    return Claim("SageMaker's variables", rank, len(hosts), place)


def _json(variables: Mapping[str, str], name: str) -> Any:
    try:
        return json.loads(variables[name])
    except (ValueError, RecursionError):
        raise ValueError(
            f"{name} must be JSON. Received: {name}={variables[name][:200]!r}. "
            "Correct it, or set TF_CONFIG yourself."
        ) from None


def _hosts(name: str, hosts: Any, current: Any) -> list[str]:
    is_list = isinstance(hosts, list) and all(
        isinstance(host, str) for host in hosts
    )
    if not is_list or current not in hosts:
        raise ValueError(
            f"{name} must list all hosts, the current one among them. "
            f"Received: hosts={hosts!r}, current host {current!r}. Correct "
            "both, or set TF_CONFIG yourself."
        )
    # The toolkit sorts them; so all have one order, whoever has set them.
    return sorted(hosts)

"""Numbers that make no sense are refused by the name they were given."""

import math
import numbers
import operator
from typing import Any, SupportsIndex

# What an integer of TensorFlow holds.
_LARGEST_COUNT = 2**63 - 1


def checked_count(
    name: str,
    value: SupportsIndex | None,
    *,
    minimum: int = 1,
    maximum: int = _LARGEST_COUNT,
) -> int:
    """Returns `value` as an `int`, after checking that it is a count.

    Args:
        name: Name of the argument, for the message.
        value: The argument. Integers of NumPy are integers, booleans are not.
        minimum: Smallest value allowed. Defaults to 1.
        maximum: Largest value allowed. Defaults to what 64 bits hold.

    Returns:
        `int(value)`.

    Raises:
        TypeError: If `value` is not an integer.
        ValueError: If `value` is below `minimum` or above `maximum`.
    """
    try:
        if value is None or isinstance(value, bool):
            raise TypeError
        count = operator.index(value)
    except TypeError:
        raise TypeError(
            f"`{name}` must be an integer. "
            f"Received: {name}={value!r} ({type(value).__name__})."
        ) from None
    if count < minimum:
        raise ValueError(
            f"`{name}` must be at least {minimum}. Received: {name}={count}."
        )
    if count > maximum:
        raise ValueError(
            f"`{name}` must be at most {maximum}. Received: {name}="
            f"{count if count < 10**40 else 'a number of many digits'}."
        )
    return count


def checked_verbose(value: Any) -> int:
    """Returns how much to print, after checking it.

    Args:
        value: The argument `verbose`: 0, 1 or 2; booleans will do.

    Returns:
        `int(value)`.

    Raises:
        TypeError: If `value` is not an integer.
        ValueError: If it is another one.
    """
    if isinstance(value, bool):
        return int(value)
    return checked_count("verbose", value, minimum=0, maximum=2)


def checked_number(
    name: str,
    value: Any,
    *,
    expected: str = "a number",
    zero_allowed: bool = False,
    maximum: float = math.inf,
) -> float:
    """Returns `value` as a `float`, after checking that it is positive.

    Args:
        name: Name of the argument, for the message.
        value: The argument. Numbers of NumPy are numbers, booleans are not.
        expected: What the argument must be, for the message.
        zero_allowed: Whether zero will do. Defaults to `False`.
        maximum: Largest value allowed. Defaults to any.

    Returns:
        `float(value)`.

    Raises:
        TypeError: If `value` is not a number.
        ValueError: If `value` is negative, not finite, above `maximum`, or a
            zero that is not allowed.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(
            f"`{name}` must be {expected}. "
            f"Received: {name}={value!r} ({type(value).__name__})."
        )
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if (
        not math.isfinite(number)
        or number < 0
        or (number == 0 and not zero_allowed)
    ):
        sign = "not negative" if zero_allowed else "positive"
        raise ValueError(
            f"`{name}` must be finite and {sign}. Received: {name}={number}."
        )
    if number > maximum:
        raise ValueError(
            f"`{name}` must be at most {maximum:,g}. Received: {name}={number}."
        )
    return number

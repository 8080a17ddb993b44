"""Conversion and checks of the arguments of all losses.

Every error names the function and the argument, and says what was expected and what was given.
"""

import operator
from typing import Any

import jax
import jax.numpy as jnp


def floats(function: str, **arguments: Any) -> list[jax.Array]:
    """The arguments as arrays, in the order given; half precision becomes float32.

    Args:
        function: name of the loss, for messages.
        arguments: by name, anything that `jnp.asarray` takes.
    Raises:
        TypeError: an argument is not an array of floats.
    """
    return [_float(function, name, argument) for name, argument in arguments.items()]


def same_shape(function: str, **arguments: Any) -> list[jax.Array]:
    """`floats` of equal shapes; nothing is broadcast.

    Raises:
        TypeError: as `floats`.
        ValueError: shapes differ.
    """
    arrays = floats(function, **arguments)
    if len({array.shape for array in arrays}) > 1:
        shapes = [_text(array.shape) for array in arrays]
        raise ValueError(
            f"{function}: {_join(arguments)} must have the same shape, are {_join(shapes)}; "
            "nothing is broadcast here"
        )
    return arrays


def shape(
    function: str,
    name: str,
    array: jax.Array,
    expected: tuple[int | str, ...],
    **related: jax.Array,
) -> None:
    """Raises ValueError unless the array has the expected shape.

    Args:
        expected: sizes; a name stands for any size.
        related: by name, the arrays from which the expected shape follows, for the message.
    """
    fits = len(array.shape) == len(expected) and all(
        isinstance(wanted, str) or wanted == size
        for wanted, size in zip(expected, array.shape, strict=True)
    )
    if not fits:
        others = [f"{other} of shape {_text(of.shape)}" for other, of in related.items()]
        why = f" for {_join(others)}" if others else ""
        raise ValueError(
            f"{function}: {name} must have shape {_text(expected)}{why}, has {_text(array.shape)}"
        )


def axes(function: str, minimum: int, **arrays: jax.Array) -> None:
    """Raises ValueError if an array has fewer than `minimum` axes."""
    for name, array in arrays.items():
        if jnp.ndim(array) < minimum:
            raise ValueError(
                f"{function}: {name} must have at least {minimum} axes, has shape "
                f"{_text(array.shape)}"
            )


def integer(function: str, name: str, value: Any, minimum: int, maximum: int | None = None) -> int:
    """The value as an int.

    Raises:
        TypeError: it is not an integer.
        ValueError: it is below `minimum` or above `maximum`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{function}: {name} must be an integer, is {value!r}") from None
    if number < minimum or (maximum is not None and number > maximum):
        bounds = f"at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
        raise ValueError(f"{function}: {name} must be {bounds}, is {number}")
    return number


def nan_unless(valid: jax.Array, value: jax.Array) -> jax.Array:
    """The value where `valid`, elsewhere NaN; the gradients there are NaN too.

    It multiplies by NaN, since `jnp.where` would let a finite gradient pass.
    """
    return value * jnp.where(valid, 1.0, jnp.nan).astype(value.dtype)


def _float(function: str, name: str, argument: Any) -> jax.Array:
    try:
        array = jnp.asarray(argument)
    except (TypeError, ValueError):
        raise TypeError(
            f"{function}: {name} must be an array of floats, is {type(argument).__name__}, "
            "which cannot be converted to an array"
        ) from None
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(
            f"{function}: {name} must be an array of floats, is {array.dtype} of shape "
            f"{_text(array.shape)}; convert it, as jnp.float32(...) does"
        )
    return array.astype(jnp.float32) if jnp.finfo(array.dtype).bits < 32 else array


def _text(sizes: tuple[int | str, ...]) -> str:
    return f"[{', '.join(map(str, sizes))}]"


def _join(names: Any) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last

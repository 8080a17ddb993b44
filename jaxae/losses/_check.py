"""What the arguments of a loss may be: converted and checked in one place, refused by name.

Every error names the function and the argument, and says what it is and what it should be.
"""

import operator
from typing import Any

import jax
import jax.numpy as jnp


def floats(function: str, **arguments: Any) -> list[jax.Array]:
    """The arguments as arrays, in the order given; what has half precision as float32.

    Args:
        function: the name that errors give.
        arguments: by name, whatever `jnp.asarray` takes.
    Raises:
        TypeError: an argument is no array of floats.
    """
    return [_float(function, name, argument) for name, argument in arguments.items()]


def same_shape(function: str, **arguments: Any) -> list[jax.Array]:
    """`floats` of one shape; nothing is broadcast.

    Raises:
        TypeError: as `floats`.
        ValueError: shapes differ.
    """
    arrays = floats(function, **arguments)
    if len({array.shape for array in arrays}) > 1:
        shapes = [_text(array.shape) for array in arrays]
        raise ValueError(
            f"{function}: {_listed(arguments)} must have one shape, are {_listed(shapes)}; "
            "nothing is broadcast here"
        )
    return arrays


def shape(
    function: str,
    name: str,
    array: jax.Array,
    expected: tuple[int | str, ...],
    **beside: jax.Array,
) -> None:
    """Raises ValueError unless the array has the shape; a name in it stands for any size.

    Args:
        beside: the arrays from which the shape follows, by name.
    """
    fits = len(array.shape) == len(expected) and all(
        isinstance(want, str) or want == size
        for want, size in zip(expected, array.shape, strict=True)
    )
    if not fits:
        others = [f"{other} of shape {_text(of.shape)}" for other, of in beside.items()]
        why = f" for {_listed(others)}" if others else ""
        raise ValueError(
            f"{function}: {name} must have shape {_text(expected)}{why}, has {_text(array.shape)}"
        )


def axes(function: str, least: int, **arrays: jax.Array) -> None:
    """Raises ValueError where an array has fewer than `least` axes."""
    for name, array in arrays.items():
        if jnp.ndim(array) < least:
            raise ValueError(
                f"{function}: {name} must have at least {least} axes, has shape "
                f"{_text(array.shape)}"
            )


def whole(function: str, name: str, value: Any, least: int, most: int | None = None) -> int:
    """The value as an int.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is below `least` or above `most`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{function}: {name} must be a whole number, is {value!r}") from None
    if number < least or (most is not None and number > most):
        bounds = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{function}: {name} must be {bounds}, is {number}")
    return number


def nan_unless(valid: jax.Array, value: jax.Array) -> jax.Array:
    """The value where `valid`, elsewhere NaN, as are all gradients of it there.

    A factor rather than a choice, so that no gradient passes as if nothing were wrong.
    """
    return value * jnp.where(valid, 1.0, jnp.nan).astype(value.dtype)


def _float(function: str, name: str, argument: Any) -> jax.Array:
    try:
        array = jnp.asarray(argument)
    except (TypeError, ValueError):
        raise TypeError(
            f"{function}: {name} must be an array of floats, is {type(argument).__name__} "
            "of which no array can be made"
        ) from None
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(
            f"{function}: {name} must be an array of floats, is {array.dtype} of shape "
            f"{_text(array.shape)}; convert it, as jnp.float32(...) does"
        )
    return array.astype(jnp.float32) if jnp.finfo(array.dtype).bits < 32 else array


def _text(sizes: tuple[int | str, ...]) -> str:
    return f"[{', '.join(map(str, sizes))}]"


def _listed(names: Any) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last

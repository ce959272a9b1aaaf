"""The numbers of a search: Python's, or scalars that stay on the device of an engine until somebody asks for one.

A step of the descent is a handful of numbers, slopes and curvatures, that only lead to others. Where a program waits
for each of them, it waits for all that the device has begun; so an engine with a device of its own may hand out scalars
of its own. They add, multiply and compare as Python's do; `float` of one brings it here.
"""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["Number", "Numbers", "PlainNumbers"]

Number = Any
"""Python's, or a scalar of the device."""


class Numbers(Protocol):
    """What the arithmetic of numbers does not say."""

    def of(self, scalar: Any) -> Number:
        """A scalar of the device as a number of the search."""

    def ratio(self, above: Number, below: Number) -> Number:
        """`above / below`, 0 where `below` is not positive."""

    def choose(self, condition: Any, one: Number, other: Number) -> Number:
        """`one` where a comparison of numbers holds, else `other`."""


class PlainNumbers:
    """Python's numbers."""

    def of(self, scalar: Any) -> float:
        """The scalar here.

        >>> PlainNumbers().of([2.5][0])
        2.5
        """
        return float(scalar)

    def ratio(self, above: float, below: float) -> float:
        """`above / below`, 0 where `below` is not positive.

        >>> PlainNumbers().ratio(3.0, 2.0), PlainNumbers().ratio(3.0, 0.0)
        (1.5, 0.0)
        """
        return above / below if below > 0 else 0.0

    def choose(self, condition: bool, one: float, other: float) -> float:
        """`one` where the condition holds, else `other`."""
        return one if condition else other

"""Sequences whose items are made when they are asked for."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TypeVar, overload

T = TypeVar("T")


class Numbered(Sequence[T]):
    """Slices, and numbers counted from the end, for what can make an item by its number."""

    __slots__ = ()

    @abstractmethod
    def _at(self, number: int) -> T:
        """The item of a number from 0 to the length, which is not included."""

    @overload
    def __getitem__(self, number: int) -> T: ...

    @overload
    def __getitem__(self, number: slice) -> list[T]: ...

    def __getitem__(self, number: int | slice) -> T | list[T]:
        if isinstance(number, slice):
            return [self._at(each) for each in range(*number.indices(len(self)))]
        if number < 0:
            number += len(self)
        if not 0 <= number < len(self):
            raise IndexError(number)
        return self._at(number)

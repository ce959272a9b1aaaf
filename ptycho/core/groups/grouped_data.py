"""The grouped data set: a dictionary of arrays, the large ones made only when somebody looks at them."""

from __future__ import annotations

import enum
from collections.abc import Callable, ItemsView, Iterator, Mapping, ValuesView
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ptycho.core.physics.recording import Recording
from ptycho.core.result import same_value

__all__ = ["GROUPED_KEYS", "GroupedData", "PatternSource"]

Groups = NDArray[np.int32]
Read = Callable[[Groups], NDArray[Any]]

GROUPED_KEYS = (
    "diffraction",
    "X_full",
    "Y",
    "coords_offsets",
    "coords_relative",
    "coords_start_offsets",
    "coords_start_relative",
    "coords_nn",
    "coords_start_nn",
    "nn_indices",
    "objectGuess",
)
"""Keys of every grouped data set; `sample_indices` is added when the scan was subsampled."""


class _Pending(enum.Enum):
    """Stands in for an array that nobody has asked for; an enum, so that it is the same after pickling."""

    ARRAY = "not made yet"


class PatternSource(Protocol):
    """What a grouped data set needs of a scan."""

    Y: NDArray[Any] | None

    @property
    def recording(self) -> Recording:
        """How its patterns were recorded, as far as it is known."""

    def input_scale(self) -> float:
        """The scale k of this scan."""

    def amplitude(self, indices: ArrayLike | None = None) -> NDArray[np.float32]:
        """Amplitudes (b, N, N) of these scan points."""


class GroupedData(dict[str, Any]):
    """Grouped data set: a dictionary whose large arrays are made when they are first asked for.

    `diffraction` (B, N, N, C) float32 is the amplitude as in the file, `X_full = scale * diffraction`, `Y`
    the ground-truth patches (complex64) or None. Reading, copying and pickling behave as if they were there
    from the start; `amplitudes` reads those of some scan points without making the whole array.

    Args:
        values: the small arrays, with `nn_indices` (B, C).
        scan: where amplitudes and ground truth are read from.
        scale: the input scale k; None takes that of the scan.
    """

    def __init__(self, values: Mapping[str, Any], scan: PatternSource, scale: float | None) -> None:
        heavy = {"diffraction": _Pending.ARRAY, "X_full": _Pending.ARRAY}
        super().__init__({**heavy, "Y": None if scan.Y is None else _Pending.ARRAY, **values})
        self._scan = scan
        self._groups: Groups = values["nn_indices"]
        self._scale = scale

    def __repr__(self) -> str:
        count, members = self._groups.shape
        pending = [key for key in self if dict.__getitem__(self, key) is _Pending.ARRAY]
        waiting = f"; not made yet: {', '.join(pending)}" if pending else ""
        return f"GroupedData({count} groups of {members}, {len(self)} arrays{waiting})"

    def __eq__(self, other: object) -> bool:
        """The same keys with the same arrays; makes what is pending."""
        if not isinstance(other, dict):
            return NotImplemented
        return self.keys() == other.keys() and all(same_value(self[key], other[key]) for key in self)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # as every dictionary

    @property
    def scale(self) -> float:
        """The input scale k between `diffraction` and `X_full`."""
        return self._scan.input_scale() if self._scale is None else self._scale

    @property
    def recording(self) -> Recording:
        """How the patterns of the scan were recorded, in the unit of `diffraction`."""
        return self._scan.recording

    def amplitudes(self, points: Groups) -> NDArray[np.float32]:
        """Amplitudes (b, N, N, C) float32 of these scan points (b, C), not normalised."""
        return _members_last(self._scan.amplitude, points)

    def truth(self, points: Groups) -> NDArray[np.complex64] | None:
        """Ground-truth patches (b, N, N, C) complex64 of these scan points (b, C); None where the scan has none."""
        return None if self._scan.Y is None else self._truth_of(points)

    def _truth_of(self, points: Groups) -> NDArray[np.complex64]:
        return _members_last(self._truth_frames, points)

    def _truth_frames(self, indices: Groups) -> NDArray[np.complex64]:
        truth = self._scan.Y
        assert truth is not None
        return np.asarray(truth[indices], np.complex64)

    def _make(self, key: str) -> NDArray[Any]:
        """The large array `key`, in blocks, so that only one copy of it is ever held, and each is written once."""
        read: Read = self._truth_frames if key == "Y" else self._scan.amplitude
        scale = np.float32(self.scale) if key == "X_full" else None
        step, count = 64, len(self._groups)
        first = _members_last(read, self._groups[:step], scale)
        out = np.empty((count, *first.shape[1:]), first.dtype)
        out[:step] = first
        for start in range(step, count, step):
            _members_last(read, self._groups[start : start + step], scale, out[start : start + step])
        return out

    def _fill(self) -> None:
        for key in self:
            self[key]

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        if value is _Pending.ARRAY:
            value = self._make(key)
            self[key] = value
        return value

    def __iter__(self) -> Iterator[str]:
        # Not idle: dict(x) and {**x} read the raw table of any dictionary that iterates as dict does.
        return super().__iter__()

    def get(self, key: str, default: Any = None) -> Any:
        """The value of `key`, or the default."""
        return self[key] if key in self else default  # noqa: SIM401 - this is get

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        """All values; makes the arrays that were pending."""
        self._fill()
        return super().values()

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        """All pairs; makes the arrays that were pending."""
        self._fill()
        return super().items()

    def pop(self, key: str, *default: Any) -> Any:
        """Remove `key` and return its value, or the default."""
        if key in self:
            self[key]
        return super().pop(key, *default)

    def popitem(self) -> tuple[str, Any]:
        """Remove and return the last pair."""
        self._fill()
        return super().popitem()

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The value of `key`, stored as the default when it was missing."""
        super().setdefault(key, default)
        return self[key]

    def copy(self) -> dict[str, Any]:
        """A plain dictionary with every array in it."""
        return dict(self.items())

    def __or__(self, other: Any) -> Any:
        return self.copy() | other

    def __reduce__(self) -> tuple[Any, ...]:
        # The scan travels instead of the pending arrays: it is smaller than they are by the group size.
        raw = {key: dict.__getitem__(self, key) for key in self}
        return _restore, (type(self), raw, self._scan, self._scale, self._groups)


def _restore(
    kind: type[GroupedData],
    raw: dict[str, Any],
    scan: PatternSource,
    scale: float | None,
    groups: Groups,
) -> GroupedData:
    """Unpickle a grouped data set, keeping its keys, their order and what was pending."""
    data = kind({"nn_indices": groups}, scan, scale)
    data.clear()
    data.update(raw)
    return data


def _members_last(
    read: Read, groups: Groups, scale: np.float32 | None = None, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Frames of these groups (b, C) as (b, N, N, C), members last, times a scale."""
    frames, members = read(groups.reshape(-1)), groups.shape[1]
    if out is None:
        out = np.empty((len(groups), *frames.shape[1:], members), frames.dtype)
    for member in range(members):
        own = frames[member::members]
        if scale is None:
            out[..., member] = own
        else:
            np.multiply(own, scale, out=out[..., member])
    return out

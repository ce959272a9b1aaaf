"""A grouped data set with the names that training and callers use; a backend adds its kind of tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ptycho.core.geometry import LOCAL_OFFSET_SIGN, canvas_size
from ptycho.core.groups.grouped_data import GroupedData
from ptycho.core.groups.known_patches import ObjectLabels
from ptycho.core.groups.neighbourhood import Neighbourhoods
from ptycho.core.physics.detector_blur import blur_matrix
from ptycho.core.physics.diffraction import as_modes
from ptycho.core.physics.recording import PLAIN, Recording
from ptycho.errors import ConfigError, DataError

__all__ = ["GroupContainer", "Indices", "as_experiments", "grouped_of"]

_ARRAYS = ("X", "global_offsets", "local_offsets", "Y", "Y_I", "Y_phi", "coords_nominal", "coords_true", "nn_indices")
"""Arrays that a container can be made of; the first three it needs."""

Indices = Sequence[int] | NDArray[np.integer] | slice


class GroupContainer:
    """Groups of a scan, channel-last as in the grouped dict; tensors are made on access.

    Args:
        grouped: what `RawData.generate_grouped_data` returned, or a dict with the same keys.
        probe: complex `(N, N)` or `(M, N, N)`.
        mask: bool `(N, N)` or `(n, N, N)`, True where valid; None: everywhere.
        norm_Y_I: the intensity scale s, `s X` is in photon units; None where nobody knows it yet.
        neighbourhoods: one per group: a batch then holds these points, drawn afresh, in the place of the members.
        on_grid: see the members of a batch from the pixel nearest to the group's centre instead of from the centre,
            so that canvases lie on the pixels of the object.
        labels: the known object, where the scan's own patches `Y` are missing; None: there is no truth without them.
        arrays: in the place of `grouped`, the container's own arrays by their names (`grouped_of`).

    `X` (B,N,N,C) float32 normalised amplitude, `Y` complex64 or None with `Y_I` = |Y| and `Y_phi` = arg Y,
    `local_offsets` (B,1,2,C) = coords_relative, `global_offsets` (B,1,2,1), `coords_nominal` and `coords_true`
    (B,1,2,C) pixels, `nn_indices` (B,C), `probe`. `batch` gives what a step of training needs without making `X`.
    """

    def __init__(
        self,
        grouped: Mapping[str, Any] | None = None,
        probe: NDArray[Any] | None = None,
        mask: NDArray[np.bool_] | None = None,
        norm_Y_I: float | None = None,
        *,
        neighbourhoods: Neighbourhoods | None = None,
        on_grid: bool = False,
        labels: ObjectLabels | None = None,
        **arrays: Any,
    ) -> None:
        if probe is None:
            raise ConfigError("probe: expected that of the scan, (N, N) or (M, N, N), found none; pass it")
        if (grouped is None) == (not arrays):
            raise ConfigError("container: expected a grouped dict, or its arrays by name (X=...), found both or none")
        if grouped is None:
            grouped = grouped_of(arrays)
        self.grouped = grouped
        self.labels = labels
        self.norm_Y_I = norm_Y_I
        self._modes = np.asarray(as_modes(np.asarray(probe)), np.complex64)
        self._mask = None if mask is None else np.asarray(mask, bool)
        relative = np.asarray(grouped["coords_relative"])
        self._centres = np.asarray(grouped["coords_offsets"])
        reach = relative
        if on_grid:
            middle = np.rint(self._centres)
            relative = relative + LOCAL_OFFSET_SIGN * (self._centres - middle)
            reach, self._centres = np.rint(relative), middle
        self._positions = relative.astype(np.float32)
        self.neighbourhoods = neighbourhoods
        n = self._modes.shape[-1]
        self.canvas_size = canvas_size(n, reach) if neighbourhoods is None else neighbourhoods.canvas_size(n)

    def __len__(self) -> int:
        return len(self.grouped["nn_indices"])

    def tensor(self, array: NDArray[Any]) -> Any:
        """An array as this backend's tensor."""
        raise NotImplementedError

    @property
    def probe(self) -> Any:
        """Modes (M, N, N) complex64 in the unit of the file's amplitudes."""
        return self.tensor(self._modes)

    @property
    def X(self) -> Any:
        """Normalised amplitude (B, N, N, C)."""
        return self.tensor(self.grouped["X_full"])

    @property
    def Y(self) -> Any:
        """Ground-truth patches (B, N, N, C) complex64, or None."""
        truth = self.grouped["Y"]
        return None if truth is None else self.tensor(truth)

    @property
    def Y_I(self) -> Any:
        """Amplitude of the ground truth, or None."""
        truth = self.grouped["Y"]
        return None if truth is None else self.tensor(np.abs(truth))

    @property
    def Y_phi(self) -> Any:
        """Phase of the ground truth, radians, or None."""
        truth = self.grouped["Y"]
        return None if truth is None else self.tensor(np.angle(truth))

    @property
    def local_offsets(self) -> Any:
        """`coords_relative` (B, 1, 2, C) float32: minus the member's position seen from the group's centre."""
        return self.tensor(np.asarray(self.grouped["coords_relative"], np.float32))

    @property
    def pixel_positions(self) -> NDArray[np.float64]:
        """The members of `batch` (B, 1, 2, C) at the nearest whole pixels of the canvas, on the object's grid."""
        return self._centres + np.rint(LOCAL_OFFSET_SIGN * self._positions)

    @property
    def global_offsets(self) -> NDArray[np.float64]:
        """`coords_offsets` (B, 1, 2, 1): the group's centre; an array that knows its object (`FramedOffsets`)."""
        return self.grouped["coords_offsets"]

    @property
    def coords_nominal(self) -> Any:
        """Positions of the members (B, 1, 2, C), as the scan was meant to be."""
        return self.tensor(self.grouped["coords_nn"])

    @property
    def coords_true(self) -> Any:
        """Positions of the members (B, 1, 2, C), as they were at the start of each exposure."""
        return self.tensor(self.grouped["coords_start_nn"])

    @property
    def coords(self) -> Any:
        """The positions in use: `coords_nominal`."""
        return self.coords_nominal

    @property
    def nn_indices(self) -> NDArray[np.int32]:
        """Scan points of each group (B, C)."""
        return self.grouped["nn_indices"]

    @property
    def recording(self) -> Recording:
        """How the patterns of the scan were recorded, in the unit of the file; plain where nobody knows."""
        return self.grouped.recording if isinstance(self.grouped, GroupedData) else PLAIN

    def arrays(self, indices: Indices, truth: bool = False, part: slice = slice(None)) -> tuple[NDArray[Any], ...]:
        """Groups of one step: `X_norm (b,N,N,C)`, positions `(b,1,2,C)`, mask `(b or 1,N,N,C or 1)`.

        Of several processes that share a step each takes a `part` of these groups, which are drawn as one. With `truth`
        a fourth array, `Y (b,N,N,C)` complex64. Where the scan knows one of them, two more at the end: the flux
        `(b,1,1,C)` of the beam at each member and the background `(1,N,N,1)`, squares of X_norm. Where it knows the
        blur of the detector, a third: its matrix `(1,N,N,1)` (`ptycho.core.physics.detector_blur`).

        Raises:
            DataError: `truth` was asked for and the scan has none.
        """
        if self.neighbourhoods is None:
            points, positions = self.nn_indices[indices], self._positions[indices]
        else:
            points, positions = self.neighbourhoods.draw(indices)
        points, positions, indices = points[part], positions[part], np.arange(len(self))[indices][part]
        if isinstance(self.grouped, GroupedData):
            normalised = self.grouped.amplitudes(points)
            normalised *= np.float32(self.grouped.scale)
        else:
            normalised = np.asarray(self.grouped["X_full"][indices], np.float32)
        known = (self._truth_of(indices, points, positions),) if truth else ()
        return normalised, positions, self._mask_of(points), *known, *self._recorded_of(points)

    def check_truth(self) -> None:
        """Raise DataError unless the scan has ground-truth patches, or a known object that they are cut from."""
        self._truth_of(slice(0, 0), self.nn_indices[:0], self._positions[:0])

    def _truth_of(
        self, indices: Indices, points: NDArray[np.int32], positions: NDArray[np.float32]
    ) -> NDArray[np.complex64]:
        if isinstance(self.grouped, GroupedData):
            found = self.grouped.truth(points)
        else:
            whole = self.grouped["Y"]
            found = None if whole is None else np.asarray(whole[indices], np.complex64)
        if found is None and self.labels is not None:
            found = self._labels_of(self.labels, points, positions)
        if found is None:
            raise DataError(
                "learning from a known object (model_type='supervised', or realspace_mae_weight above 0) needs "
                "ground-truth patches, found a scan without: add Y (n, N, N) to its file (for supervised training "
                "objectGuess will do), or learn from the data alone"
            )
        return found

    def _labels_of(
        self, labels: ObjectLabels, points: NDArray[np.int32], positions: NDArray[np.float32]
    ) -> NDArray[np.complex64]:
        """Patches of the known object where the network has them: on the pixels of a canvas, or at their positions."""
        n = self._modes.shape[-1]
        return labels.at(points, n) if self.neighbourhoods is None else labels.on_grid(points, positions, n)

    def _recorded_of(self, points: NDArray[np.int32]) -> tuple[NDArray[np.float32], ...]:
        known = self.recording
        told = (known.flux, known.background, known.blur)
        if not isinstance(self.grouped, GroupedData) or all(values is None for values in told):
            return ()
        n = self._modes.shape[-1]
        flux = np.ones(points.shape) if known.flux is None else known.flux[points]
        background = np.zeros((n, n)) if known.background is None else known.background
        alike = [self.grouped.scale**2 * background]  # for all patterns
        if known.blur:
            alike.append(blur_matrix(n, known.blur))
        return flux[:, None, None, :].astype(np.float32), *(each[None, :, :, None].astype(np.float32) for each in alike)

    def _mask_of(self, points: NDArray[np.int32]) -> NDArray[np.bool_]:
        n = self._modes.shape[-1]
        if self._mask is None:
            return np.ones((1, n, n, 1), bool)
        if self._mask.ndim == 2:
            return self._mask[None, :, :, None]
        return np.moveaxis(self._mask[points], 1, -1)


def grouped_of(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The grouped dict of a container's arrays, NumPy or tensors on the CPU, by the names of its properties.

    Args:
        arrays: `X` (B,N,N,C), `global_offsets` (B,1,2,1) and `local_offsets` (B,1,2,C) have to be there. `Y` (B,N,N,C),
            or else `Y_I` with `Y_phi`; without them there is no truth. `coords_nominal` (None: what the offsets say),
            `coords_true` (None: the nominal ones) (B,1,2,C); `nn_indices` (B,C) (None: counted through).

    Raises:
        ConfigError: a name that is none of these, or one that is missing.
    """
    unknown = [name for name in arrays if name not in _ARRAYS]
    missing = [name for name in _ARRAYS[:3] if arrays.get(name) is None]
    if unknown or missing:
        found = f"no {missing[0]}" if missing else f"{unknown[0]!r}"
        raise ConfigError(
            f"container: expected {', '.join(_ARRAYS[:3])} and perhaps {', '.join(_ARRAYS[3:])}, found {found}"
        )
    given: dict[str, Any] = {name: None if arrays.get(name) is None else np.asarray(arrays[name]) for name in _ARRAYS}
    centres, relative, truth = given["global_offsets"], given["local_offsets"], given["Y"]
    if truth is None and given["Y_I"] is not None and given["Y_phi"] is not None:
        truth = (given["Y_I"] * np.exp(1j * given["Y_phi"])).astype(np.complex64)
    nominal, true, points = given["coords_nominal"], given["coords_true"], given["nn_indices"]
    nominal = centres + LOCAL_OFFSET_SIGN * relative if nominal is None else nominal
    size = (len(relative), relative.shape[-1])
    return {
        "X_full": np.asarray(given["X"], np.float32),
        "Y": truth,
        "coords_offsets": centres,
        "coords_relative": relative,
        "coords_nn": nominal,
        "coords_start_nn": nominal if true is None else true,
        "nn_indices": np.arange(math.prod(size), dtype=np.int32).reshape(size) if points is None else points,
    }


Container = TypeVar("Container", bound=GroupContainer)


def as_experiments(groups: Container | Sequence[Container | None] | None) -> Sequence[Container | None]:
    """The groups of every experiment, where a caller gave those of one, of several in a list, or none."""
    if groups is None:
        return []
    return [groups] if isinstance(groups, GroupContainer) else groups

"""How patterns were recorded: what belongs to each of them beside the object and the probe."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.scan_probes import ScanProbes
from ptycho.core.physics.variable_probe import ProbeVariation
from ptycho.errors import DataError

__all__ = ["PLAIN", "Recording", "check_background", "check_flux"]


@dataclass(frozen=True, eq=False)
class Recording:
    """Of n patterns; what is None is as in a plain scan."""

    flux: NDArray[np.float64] | None = None
    """(n,) of the beam at each pattern, relative to that of the probe; None: 1."""
    fly_path: NDArray[np.float64] | None = None
    """(n, S, 2) where the probe was while each pattern was counted, relative to its position, pixels; None: at rest."""

    background: NDArray[np.float64] | None = None
    """(N, N) of every pattern beside what object and probe make, squares of amplitudes, zero frequency in the middle;
    None: 0."""
    near_field: NearField | None = None
    """How waves go to a near detector; None: it is far away."""
    gap: NearField | None = None
    """How waves go from each slice of a thick object to the next; None: the object is thin, one slice."""
    variation: ProbeVariation | ScanProbes | None = None
    """How the probe differs from pattern to pattern, or from scan to scan; None: it is the same."""
    blur: float | None = None
    """Standard deviation of the blur of the detector, pixels (`ptycho.core.physics.detector_blur`), before the
    background comes to the light; None: it is sharp."""

    def of(self, some: NDArray[np.integer[Any]] | slice) -> Recording:
        """That of some of the patterns."""
        flux, path = (None if values is None else values[some] for values in (self.flux, self.fly_path))
        variation = None if self.variation is None else self.variation.of(some)
        return replace(self, flux=flux, fly_path=path, variation=variation)

    @property
    def known(self) -> dict[str, Any]:
        """What is not as in a plain scan, by name; `refine_scan` takes it under the same names."""
        names = ("flux", "fly_path", "background", "gap", "variation", "blur")
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}


PLAIN = Recording()
"""One beam, at rest."""


def check_flux(given: ArrayLike, count: int) -> NDArray[np.float64]:
    """The flux (n,) of so many patterns.

    Raises:
        DataError: another shape, or a number that is not above 0.
    """
    flux = np.asarray(given, np.float64)
    if flux.shape != (count,) or not (np.isfinite(flux) & (flux > 0)).all():
        raise DataError(f"flux: expected {count} finite numbers above 0, one per pattern, found shape {flux.shape}")
    return flux


def check_background(given: ArrayLike, n: int) -> NDArray[np.float64]:
    """The background (N, N) of patterns of N x N pixels.

    Raises:
        DataError: another shape, or a number below 0.
    """
    background = np.asarray(given, np.float64)
    if background.shape != (n, n) or not (np.isfinite(background) & (background >= 0)).all():
        found = background.shape
        raise DataError(
            f"background: expected ({n}, {n}) finite numbers, none below 0, found shape {found}; correct it"
        )
    return background

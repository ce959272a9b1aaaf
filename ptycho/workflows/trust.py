"""What a scan says about a reconstruction of it: the trust, with the dose as well as it is known."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.config.config import TrainingConfig
from ptycho.core.physics.recording import PLAIN, Recording
from ptycho.core.quality.trust import Dose, Trust
from ptycho.core.refinement.device.likelihood import Likelihood
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.refinement.trust import Prediction, TrustEngine, summed_trust
from ptycho.core.scaling import photons_per_frame, recorded_photons
from ptycho.raw_data import RawData

__all__ = ["NOMINAL_PHOTONS", "beyond_noise", "noise_error", "photon_scale", "scan_trust"]

NOMINAL_PHOTONS = TrainingConfig.nphotons
"""Mean photons per pattern where a scan does not tell; the trust then says that the dose is not known."""

logger = logging.getLogger(__name__)


def photon_scale(data: RawData, nominal_photons: float) -> tuple[float, Dose]:
    """Photons per unit of squared amplitude, and where that is from.

    'measured': counts, by the steps of their values where these are not 1, or amplitudes whose squares are whole.
    'stated': `nphotons` of the scan's metadata over the mean energy of a pattern.
    'nominal': the same with `nominal_photons`, which is no knowledge of this scan.
    """
    measured = data.units_decision.photons
    if measured is not None and (data.units == "counts" or measured == 1):
        return measured, "measured"
    recorded = recorded_photons(data.metadata)
    dose: Dose = "nominal" if recorded is None else "stated"
    return photons_per_frame(data.mean_energy, data.units, nominal_photons, recorded, None) / data.mean_energy, dose


def scan_trust(
    image: NDArray[np.complexfloating[Any, Any]],
    probe: NDArray[np.complexfloating[Any, Any]],
    xcoords: NDArray[np.float64],
    ycoords: NDArray[np.float64],
    data: RawData,
    nominal_photons: float,
    engine: TrustEngine,
    reached: NDArray[np.bool_] | None = None,
    recording: Recording = PLAIN,
) -> Trust:
    """Compare an object with every pattern of a scan, batch by batch.

    Args:
        image: (H, W) object.
        probe: (M, N, N) in the unit of the scan's amplitudes.
        xcoords, ycoords: (n,) patch centres, pixels of `image`.
        data: the scan.
        nominal_photons: mean photons per pattern to assume where the scan does not tell.
        engine: what compares them (`ptycho.workflows.solver.Solver.trust`); `ptycho.core.refinement.trust.ON_HOST`
            where no backend is at hand.
        reached: (n,) patterns that the object was made from; the others have 0 everywhere, and so do not count. None:
            all.
        recording: of the scan.
    """
    scale, dose = photon_scale(data, nominal_photons)
    prediction = Prediction.of(image, probe, xcoords, ycoords, data.recorded(recording), scale)
    found = summed_trust(engine.scan_sums(prediction, data), dose)
    if reached is not None and reached.any():
        found = found.only(reached)
    logger.debug("trust: ratio %.4g, z %.3g, %s dose", found.overall_ratio, found.overall_z, dose)
    return found


def noise_error(trust: Trust, likelihood: Likelihood) -> float:
    """What photon noise alone leaves of a refinement's relative error; 0 where the dose is not known."""
    if trust.dose == "nominal":
        return 0.0
    left = trust.noise if likelihood == "amplitude" else trust.expected / 4
    return float(left.sum() / trust.counts.sum())


def beyond_noise(found: Refinement, noise: float) -> float:
    """The relative error of a refinement, without what its priors add, beyond that of noise; above 0."""
    return max(found.error_history[found.kept] - found.penalty - noise, 1e-12)

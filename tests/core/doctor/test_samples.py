"""What of a detector the short reconstructions look at: no more than it takes, and the model stays exact."""

from typing import Any

import numpy as np
import pytest

from ptycho.core.doctor.samples import Sampler
from ptycho.core.doctor.statistics import gather
from ptycho.core.physics.diffraction import diffract
from ptycho.core.physics.probes import zone_plate_probe
from ptycho.core.scan.scan import ScanFile
from ptycho.core.scan.stream import ScanStream


def bare_beam(N: int, shift: tuple[int, int] = (0, 0), **settings: Any) -> Sampler:
    """Two patterns of a probe without a sample, moved by (y, x)."""
    probe = zone_plate_probe(N, energy=1e8, **settings)
    pattern = np.sqrt(diffract(probe, np.ones((1, N, N), np.complex64))).astype(np.float32)
    fields = (np.roll(np.repeat(pattern, 2, axis=0), shift, (1, 2)), np.array([8.0, 24.0]), np.array([8.0, 8.0]))
    stream = ScanStream.of(ScanFile(*fields, probeGuess=probe, units="amplitude"))
    back = (-shift[0], -shift[1])
    return Sampler(stream, gather(stream), back, np.zeros((N, N), bool))


@pytest.mark.parametrize(
    ("N", "settings", "window"),
    [
        (64, {}, (64, 1)),
        (128, {}, (128, 1)),
        (256, {"defocus": 5.0}, (128, 1)),
        (512, {"pupil_radius": 118.0, "defocus": 1.0}, (256, 2)),
        (512, {"pupil_radius": 118.0, "defocus": 36.0}, (256, 1)),
    ],
)
def test_a_large_detector_is_cut_to_its_light_and_thinned_where_the_probe_has_room(
    N: int, settings: dict[str, float], window: tuple[int, int]
) -> None:
    sampler = bare_beam(N, (0, 3), **settings)
    side, step = sampler.window
    assert (side, step) == window
    sample = sampler.middle()
    assert sample.patterns.shape == (2, side // step, side // step)
    assert np.ptp(sample.xcoords) == pytest.approx(16 * side / N)
    expected = np.sqrt(diffract(sample.probeGuess, np.ones((1, *sample.patterns.shape[1:]), np.complex64)))[0]
    misfit = np.sum((sample.patterns[0] - expected) ** 2) / np.sum(expected**2)
    assert misfit < 1e-3

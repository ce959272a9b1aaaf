"""The probes of several scans of one object: each pattern has that of its scan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ptycho.core.formats.reconstruction_npz import read_npz, write_npz
from ptycho.core.physics.diffraction import diffract
from ptycho.core.physics.recording import Recording
from ptycho.core.physics.scan_probes import ScanProbes, check_scan_probes
from ptycho.core.quality.alignment import align
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.refinement.result import reconstruction_of
from ptycho.core.refinement.run import refine_scan
from ptycho.core.simulation.exposure import expose
from ptycho.core.simulation.plan import ScanSettings, plan_scan
from ptycho.errors import ConfigError, DataError
from ptycho.raw_data import RawData

N, SIZE = 16, 40


def numbers(rng, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def test_every_pattern_has_the_probe_of_its_scan(rng) -> None:
    first, others = numbers(rng, 2, N, N), numbers(rng, 1, 2, N, N)
    probes = ScanProbes(others, np.array([0, 1, 1, 0]))
    assert probes.count == 2
    np.testing.assert_array_equal(probes.probes(first)[[0, 2]], [first, others[0]])
    assert probes.of(np.array([2, 3])) == ScanProbes(others, np.array([1, 0]))
    patches = numbers(rng, 4, N, N)
    found = diffract(first, patches, recording=Recording(variation=probes))
    alone = [diffract(probe, patches) for probe in (first, others[0])]
    np.testing.assert_allclose(found, [alone[0][0], alone[1][1], alone[1][2], alone[0][3]])


@pytest.mark.parametrize(
    "others, scan",
    [
        (np.ones((1, 1, N, 8)), np.zeros(3, int)),
        (np.ones((1, 1, N, N)), np.zeros(2, int)),
        (np.ones((1, 1, N, N)), np.array([0, 1, 2])),
        (np.ones((1, 1, N, N)), np.zeros(3)),
        (np.full((1, 1, N, N), np.nan), np.zeros(3, int)),
    ],
)
def test_what_is_not_of_the_scan_is_refused(others, scan) -> None:
    with pytest.raises(DataError, match="scan probes: expected"):
        check_scan_probes(ScanProbes(others, scan), 3, N)


def defocused(probe: np.ndarray, waves: float) -> np.ndarray:
    """A probe whose far field has so many waves of defocus at the edge."""
    f = 2 * np.fft.fftfreq(len(probe))
    return np.fft.ifft2(np.fft.fft2(probe) * np.exp(2j * np.pi * waves * np.add.outer(f**2, f**2)))


def scans(photons: float, seed: int = 5) -> list[RawData]:
    """Two of one object, the second out of focus and of half the dose."""
    settings = ScanSettings("siemens_star", N=N, shape=(SIZE, SIZE), step=2.5, jitter=0.5, seed=seed)
    image = plan_scan(settings)[0].object
    made = []
    for k, waves in enumerate((0.0, 0.7)):
        own = replace(settings, photons=photons / (1 + k), seed=seed + k)
        probe = defocused(plan_scan(own)[0].probe, waves)
        one = expose(*plan_scan(own, image, probe))
        made.append(
            RawData(
                *(one.xcoords, one.ycoords, None, None, one.diffraction, one.probe),
                objectGuess=image,
                units="amplitude",
            )
        )
    return made


def together(parts: list[RawData], own: bool = True) -> RawData:
    """As one scan, with the probe of each or that of the first."""
    x, y, patterns = (
        np.concatenate([getattr(one, name) for one in parts]) for name in ("xcoords", "ycoords", "diff3d")
    )
    probe, image = parts[0].probeGuess, parts[0].objectGuess
    made = RawData(x, y, None, None, patterns, probe, objectGuess=image, units="amplitude")
    others = np.stack([np.asarray(one.probeGuess)[None] for one in parts[1:]])
    made.scan_probes = (
        ScanProbes(others, np.repeat(np.arange(len(parts)), [len(one) for one in parts])) if own else None
    )
    return made


def error_of(found: Refinement, scan: RawData) -> float:
    truth = np.asarray(scan.objectGuess)
    there = align(found.object, truth, (9, SIZE - 9, 9, SIZE - 9), (found.frame.y0, found.frame.x0))
    return float(np.linalg.norm(there.image - there.truth) / np.linalg.norm(there.truth))


@pytest.mark.slow
def test_both_scans_together_are_better_than_each_alone() -> None:
    """Half the dose in the second: of noise alone sqrt(1 + 1/2) better than the first."""
    parts = scans(3e4)
    settings = {"tolerance": 0.0, "dtype": np.float32}
    alone = [error_of(refine_scan(one, None, 25, **settings), one) for one in parts]
    both = together(parts)
    found = refine_scan(both, None, 25, **settings)
    assert error_of(found, both) < 0.87 * min(alone)
    one_probe = refine_scan(together(parts, own=False), None, 25, **settings)
    assert error_of(one_probe, both) > 2 * min(alone)
    # each has its own probe, up to a phase that no pattern tells
    assert isinstance(found.variation, ScanProbes)
    for probe, part in zip(found.variation.all(found.probe), parts, strict=True):
        given = np.asarray(part.probeGuess)[None]
        likeness = abs(np.vdot(probe, given)) / np.linalg.norm(probe) / np.linalg.norm(given)
        assert likeness > 0.99
        assert np.linalg.norm(probe) == pytest.approx(np.linalg.norm(given), rel=0.02)


def test_a_result_of_several_scans_is_a_file_and_a_start(tmp_path) -> None:
    both = together(scans(1e5))
    first = refine_scan(both, None, 4)
    kept = reconstruction_of(first)
    again = read_npz(write_npz(kept, tmp_path / "found.npz"))
    assert again.variation == kept.variation
    np.testing.assert_array_equal(again.probes, [first.probe, *first.variation.others])
    both.scan_probes = None  # the start knows
    on = refine_scan(both, again, 2)
    assert on.error_history[0] == pytest.approx(first.error_history[first.kept], rel=1e-3)
    assert isinstance(on.variation, ScanProbes)
    # the light on a pixel is that of both
    light = np.zeros(first.frame.shape)
    for k, probe in enumerate(again.probes):
        x, y, flux = (values[first.variation.scan == k] for values in (first.xcoords, first.ycoords, first.flux))
        part = replace(first, variation=None, probe=probe, xcoords=x, ycoords=y, flux=flux)
        light += reconstruction_of(part).coverage
    np.testing.assert_allclose(kept.coverage, light, rtol=1e-3, atol=1e-3 * light.max())


def test_modes_belong_to_each_scan() -> None:
    both = together(scans(1e5))
    modes = np.stack([np.asarray(both.probeGuess), 0.2 * np.roll(both.probeGuess, 1, 0)])
    found = refine_scan(both, None, 3, probe=modes)
    assert isinstance(found.variation, ScanProbes)
    assert found.probe.shape == (2, N, N) and found.variation.others.shape == (1, 2, N, N)


def test_what_several_scans_cannot_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="variable_probe: expected one scan"):
        refine_scan(together(scans(1e5)), None, 2, variable_probe=1)

"""What the halves of a scan's photons teach: tiles, their patterns' derivative, and less error than without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from ptycho.config.options import IterationOptions
from ptycho.core.physics.diffraction import deviance, diffract
from ptycho.core.physics.variable_probe import ProbeVariation
from ptycho.core.quality.score import score
from ptycho.core.refinement.priors.network_prior import SHIPPED, read_weights
from ptycho.core.refinement.priors.prior_training import taught
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.refinement.trust import ON_HOST
from ptycho.core.simulation.exposure import expose
from ptycho.core.simulation.plan import ScanSettings, plan_scan
from ptycho.raw_data import RawData
from ptycho.workflows.effects.network_prior import belief_of
from ptycho.workflows.effects.prior_lessons import Half, lesson_of, network_of_scan
from ptycho.workflows.iteration.iterate import iterate
from ptycho.workflows.photon_parts import photon_parts
from ptycho.workflows.solver import Solver
from ptycho_torch.refine import refine

SOLVER = Solver(refine, ON_HOST)

Simulated = Callable[..., RawData]


def made(data: RawData) -> Refinement:
    return iterate(data, SOLVER, IterationOptions(iterations=30, modes=None, refine_probe=False)).refinement


@pytest.fixture(scope="module")
def halves(simulated: Simulated) -> tuple[Half, Half]:
    first, second = photon_parts(simulated(photons=1e3))
    return Half(first, made(first)), Half(second, made(second))


def test_what_the_other_half_says_is_its_likelihood(
    halves: tuple[Half, Half], rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Along a random change, the difference of `sum_j L_j` of all patterns, which fit a tile, with all that a
    result may know of them: flux, background and a probe that varies.
    """
    monkeypatch.setattr("ptycho.workflows.effects.prior_lessons.PATTERNS", len(halves[0].data))
    half, other = halves[0], halves[1].data
    n, number = half.data.N, len(half.data)
    known = replace(
        half.found,
        flux=1 + 0.1 * rng.random(number),
        background=0.01 * rng.random((n, n)),
        variation=ProbeVariation(0.1 * half.found.probe[::-1, ::-1], 0.3 * rng.standard_normal((number, 1))),
    )
    lesson = lesson_of(Half(half.data, known), other, rng)
    assert lesson.image.shape == known.object.shape
    rows, columns = np.rint(known.ycoords).astype(int), np.rint(known.xcoords).astype(int)

    def error(image: np.ndarray) -> float:
        patches = np.stack(
            [image[y - n // 2 : y + n // 2, x - n // 2 : x + n // 2] for y, x in zip(rows, columns, strict=True)]
        )
        where = known.xcoords - columns, known.ycoords - rows
        expected = diffract(known.probe, patches, *where, known.recording) + half.floor
        return float(deviance(other.amplitude().astype(float) ** 2 + half.floor, expected).sum()) / 4

    move = 1e-3 * (rng.standard_normal(known.object.shape) + 1j * rng.standard_normal(known.object.shape))
    slope = lesson.pull(known.object)
    difference = (error(known.object + move) - error(known.object - move)) / 2
    assert 2 * np.vdot(slope, move).real == pytest.approx(difference, rel=2e-3)


def test_a_tile_holds_the_patterns_that_it_asks(
    halves: tuple[Half, Half], rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tile that is smaller than the object is cut wherever, and what lies in it says something of its middle."""
    monkeypatch.setattr("ptycho.workflows.effects.prior_lessons.TILE", 48)
    found = halves[0].found
    middles = replace(found, xcoords=np.floor(found.xcoords) + 0.5, ycoords=np.floor(found.ycoords) + 0.5)
    drawn = [lesson_of(Half(halves[0].data, middles), halves[1].data, rng) for _ in range(20)]
    drawn = [each for each in drawn if each.image.shape == (48, 48)]
    assert len(drawn) > 10
    assert len({complex(each.image[0, 0]) for each in drawn}) > 1
    for each in drawn:
        assert each.sigma.shape == each.sharing.shape == each.lit.shape == (48, 48)
        slope = each.pull(each.image)
        assert slope.shape == (48, 48) and np.isfinite(slope).all() and abs(slope).max() > 0


def test_the_halves_of_a_scan_teach_it(rng: np.random.Generator) -> None:
    """Of a sample that the network never saw, atoms on a lattice: less error than as it comes, of the whole scan."""
    y, x = np.mgrid[:76, :76]
    atoms = np.cos(np.pi * (7 * y + x) / 50) ** 4 * np.cos(np.pi * (7 * x - y) / 50) ** 4
    truth = ((1 - 0.6 * atoms) * np.exp(2j * atoms)).astype(np.complex64)
    settings = ScanSettings(N=32, shape=truth.shape, step=4.0, jitter=0.5, photons=1e3, seed=3, units="counts")
    scan = expose(*plan_scan(settings, object=truth))
    data = RawData(
        scan.xcoords, scan.ycoords, None, None, scan.diffraction, scan.probe, objectGuess=truth, units="counts"
    )
    both = [Half(part, made(part)) for part in photon_parts(data, seed=1)]
    clock = (k / 20 for k in count())
    own, _ = taught(
        read_weights(SHIPPED), lambda drawn: lesson_of(both[0], both[1].data, drawn), 1.0, clock=clock.__next__
    )
    found = made(data)
    box = (22, 54, 22, 54)
    before, after = (score(belief_of(found, data, weights).mean, truth, box).complex_nrmse for weights in (None, own))
    assert after < 0.95 * before


def test_the_seed_says_how_halves_are_drawn(plain: RawData) -> None:
    """One step is made in no time."""
    found = made(plain)
    (first, steps), (again, _), (other, _) = (network_of_scan(plain, lambda _: found, 0.0, seed) for seed in (1, 1, 2))
    assert steps == 1
    np.testing.assert_array_equal(first["head/bias"], again["head/bias"])
    assert not np.array_equal(first["head/bias"], other["head/bias"])

"""Error bars of a reconstruction: against the covariance that linear algebra gives, and against the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from ptycho.config.config import InferenceConfig
from ptycho.config.options import IterationOptions
from ptycho.core.physics.diffraction import diffract, fourier_shift
from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.quality.uncertainty import Uncertainty, without_gauge
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.run import refine_scan
from ptycho.core.refinement.trust import ON_HOST
from ptycho.errors import ConfigError, DataError
from ptycho.raw_data import RawData
from ptycho.workflows.backend_selector import backend_named
from ptycho.workflows.iteration.iterate import iterate
from ptycho.workflows.iteration.refined_result import measured_reconstruction
from ptycho.workflows.run_options import RunOptions
from ptycho.workflows.solver import Solver
from ptycho.workflows.trust import photon_scale
from ptycho.workflows.validation.uncertainty import (
    check_uncertainty,
    expected_photons,
    measure_uncertainty,
    redrawn,
    scanned_field,
)

Simulated = Callable[..., RawData]

REFINE = partial(refine_scan, dtype=np.float32)
SOLVER = Solver(REFINE, ON_HOST)
HELD = IterationOptions(modes=None, refine_probe=False)


def solved(scan: RawData, options: IterationOptions) -> Reconstruction:
    return measured_reconstruction(iterate(scan, SOLVER, options).refinement, scan, ON_HOST)


def scanned_box(scan: RawData) -> np.ndarray:
    """(H, W) the box of the scan positions."""
    assert scan.objectGuess is not None
    box = np.zeros(scan.objectGuess.shape, bool)
    (y0, y1), (x0, x1) = ((int(np.ceil(c.min())), int(c.max())) for c in (scan.ycoords, scan.xcoords))
    box[y0:y1, x0:x1] = True
    return box


def standardised(scan: RawData, found: Reconstruction, known: Uncertainty) -> tuple[np.ndarray, np.ndarray]:
    """Errors of amplitude and phase in the box, in the deviations that were said."""
    box, truth = scanned_box(scan), scan.objectGuess
    assert truth is not None
    brought = without_gauge(found.object, truth, np.where(box, found.coverage, 0), free=True)
    errors = abs(brought) - abs(truth), np.angle(brought * truth.conj())
    return tuple(error[box] / bar[box] for error, bar in zip(errors, (known.amplitude, known.phase), strict=True))


def covariance(found: Reconstruction, scan: RawData) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations of amplitude and phase (H, W) by the inverse of the Gauss-Newton operator of a held probe.

    With a = |F| the information of Poisson counts in a parameter is `4 sum (da)^2`. The global phase is taken out.
    """
    image, n, (scale, _) = found.object.astype(complex), scan.N, photon_scale(scan, 1.0)
    patches, dx, dy = extract_rounded(image, found.xcoords, found.ycoords, n)
    pixels = np.arange(image.size).reshape(image.shape)
    information = np.zeros((2 * image.size, 2 * image.size))
    for j, patch in enumerate(patches):
        probe = fourier_shift(found.probe[0].astype(complex), dx[j], dy[j])
        row, col = (round(float(at)) - n // 2 for at in (found.ycoords[j], found.xcoords[j]))
        field = np.fft.fft2(probe * patch, norm="ortho").ravel()
        moves = np.fft.fft2(probe * np.eye(n * n).reshape(-1, n, n), norm="ortho").reshape(n * n, -1)
        slopes = moves * (field.conj() / np.maximum(abs(field), 1e-12))
        jacobian = np.concatenate([slopes.real, -slopes.imag])
        own = pixels[row : row + n, col : col + n].ravel()
        own = np.concatenate([own, image.size + own])
        information[np.ix_(own, own)] += 4 * scale * jacobian @ jacobian.T
    values, vectors = np.linalg.eigh(information)
    told = values > 1e-7 * values[-1]
    roots = vectors[:, told] / np.sqrt(values[told])
    phasors = (image.conj() / abs(image)).ravel()[:, None]
    turned = phasors * (roots[: image.size] + 1j * roots[image.size :])
    modulus = abs(image).ravel()
    weight = found.coverage.ravel() * modulus
    phase = (weight @ turned.imag) / (weight @ modulus)  # global, of the area that has light
    parts = turned.real, turned.imag - modulus[:, None] * phase
    along, across = (np.sqrt((part**2).sum(axis=1)).reshape(image.shape) for part in parts)
    return along, across / abs(image)


def test_agrees_with_the_inverse_of_the_gauss_newton_operator(simulated: Simulated) -> None:
    scan = simulated(N=16, shape=(30, 30), step=2.0, photons=1e6)
    found = solved(scan, replace(HELD, iterations=200))
    known, expected = measure_uncertainty(found, scan, REFINE, HELD), covariance(found, scan)
    box = scanned_box(scan)
    for bars, exact in zip((known.amplitude, known.phase), expected, strict=True):
        ratio = (bars / exact)[box]
        assert ratio.mean() == pytest.approx(1, abs=0.06)
        assert ratio.std() < 0.15


@pytest.mark.parametrize(("photons", "moving"), [(1e4, True), (1e6, False)])
def test_as_many_pixels_lie_within_the_bars_as_they_say(simulated: Simulated, photons: float, moving: bool) -> None:
    options = replace(HELD, refine_probe=moving)
    scan = simulated(photons=photons, kind="dead_leaves", shape=(96, 96))
    found = solved(scan, options)
    known = measure_uncertainty(found, scan, REFINE, options)
    assert known.holds and known.unfinished < 0.5 and known.misfit == pytest.approx(1, abs=0.03)
    for errors in standardised(scan, found, known):
        assert np.mean(abs(errors) < 0.9945) == pytest.approx(0.68, abs=0.06)
        assert np.mean(abs(errors) < 1.96) == pytest.approx(0.95, abs=0.03)


def test_bars_of_a_wrong_model_do_not_hold(simulated: Simulated) -> None:
    scan = simulated(photons=1e6)
    wrong = scan.replaced(xcoords=scan.xcoords + np.random.default_rng(0).normal(0, 1, len(scan)))
    found = solved(wrong, HELD)
    known = measure_uncertainty(found, wrong, REFINE, HELD, draws=2, iterations=2)
    assert not known.holds and known.misfit > 2
    assert "times what noise leaves: the model is wrong by more than the noise" in known.summary


def test_redrawn_counts_are_those_of_the_solution(simulated: Simulated) -> None:
    scan = simulated(photons=1e4, gap_width=2, gap_offset=4)
    found = replace(solved(scan, replace(HELD, iterations=20)), background=np.full((scan.N, scan.N), 0.5))
    told = expected_photons(found, scan)
    drawn = [redrawn(scan, told, np.random.default_rng(seed)).amplitude().astype(float) ** 2 for seed in range(40)]
    patches, dx, dy = extract_rounded(found.object, found.xcoords, found.ycoords, scan.N)
    expected = diffract(found.probe.astype(complex), patches, dx, dy, scan.recorded(found.recording))
    valid = np.broadcast_to(scan.valid_mask, expected.shape)
    np.testing.assert_allclose(told, np.where(valid, expected, 0), rtol=1e-6)
    np.testing.assert_allclose(drawn[0], np.where(valid, np.rint(drawn[0]), 0), atol=1e-3)
    assert np.mean(drawn, axis=0)[valid].sum() == pytest.approx(expected[valid].sum(), rel=2e-3)
    assert np.mean(((np.array(drawn) - expected)[:, valid]) ** 2) == pytest.approx(expected[valid].mean(), rel=0.02)
    again = redrawn(scan, told, np.random.default_rng(0))
    np.testing.assert_allclose(again.amplitude() ** 2, drawn[0], rtol=1e-6)
    assert again.photons() == pytest.approx(drawn[0].sum(axis=(1, 2)).mean(), rel=1e-4)


def test_nothing_is_said_outside_of_the_positions(simulated: Simulated) -> None:
    scan = simulated()
    found = solved(scan, replace(HELD, iterations=3))
    within, overlap = scanned_field(found)
    box = scanned_box(scan)
    assert 0.85 < np.count_nonzero(within) / np.count_nonzero(box) < 1.15
    assert 0.5 < overlap < 0.7
    line = replace(found, ycoords=np.full(len(scan), 38.0))
    assert scanned_field(line)[0].any(axis=1).sum() == 1
    corner = scan.xcoords + scan.ycoords < 76
    some = replace(found, trust=None, xcoords=scan.xcoords[corner], ycoords=scan.ycoords[corner])
    assert not scanned_field(some)[0][50:, 50:].any() and scanned_field(some)[0][30, 30]


def test_sparse_scans_take_more_iterations(simulated: Simulated) -> None:
    scan = simulated(step=8.0, shape=(120, 120))
    known = measure_uncertainty(solved(scan, replace(HELD, iterations=3)), scan, REFINE, HELD, draws=2)
    assert known.iterations == 24 and "deviations of slow phases are too small" in known.summary


def test_what_moved_moves_again(simulated: Simulated) -> None:
    """Flux, background and blur are fitted to the counts drawn, as they were to the scan."""
    scan, asked = simulated(), []

    def watched(*given: object, **settings: object) -> object:
        asked.append(settings)
        return REFINE(*given, **settings)  # type: ignore[arg-type]

    options = replace(HELD, iterations=3, refine_flux=True, background="constant", refine_positions="stage")
    found = solved(scan, options)
    known = measure_uncertainty(found, scan, watched, options, draws=2, iterations=2)  # type: ignore[arg-type]
    assert len(asked) == 3
    assert all(one["refine_flux"] and one["refine_background"] == "constant" for one in asked)
    assert all("refine_positions" not in one for one in asked) and "positions were held" in known.summary


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"slices": 2}, "slices=2"),
        ({"object_prior": "tv"}, "--object-prior"),
        ({"variable_probe": 2}, "--variable-probe"),
    ],
)
def test_what_has_no_bars_is_refused_by_name(plain: RawData, settings: dict[str, object], found: str) -> None:
    with pytest.raises(ConfigError, match=f"--uncertainty: .*{found}"):
        check_uncertainty(plain, IterationOptions(**settings), network=False)  # type: ignore[arg-type]


def test_a_near_field_has_none(simulated: Simulated) -> None:
    near = simulated(fresnel_number=0.05, probe="diffuser").replaced(metadata=NearField(0.05).noted())
    assert near.near_field is not None
    with pytest.raises(ConfigError, match=r"--uncertainty: expected a far field"):
        check_uncertainty(near, HELD, network=False)


def test_a_network_and_an_unknown_dose_are_refused(plain: RawData) -> None:
    with pytest.raises(ConfigError, match=r"--uncertainty: .*network"):
        check_uncertainty(plain, HELD, network=True)
    scaled = (plain.amplitude() * 0.0123).astype(np.float32)
    with pytest.raises(DataError, match="--uncertainty: expected counts, or amplitudes with the dose"):
        check_uncertainty(plain.replaced(diff3d=scaled, units="amplitude", metadata={}), HELD, network=False)


@pytest.mark.slow
def test_all_engines_say_the_same_of_one_solution(plain: RawData) -> None:
    options = IterationOptions(iterations=40, modes=None, refine_probe=True)
    found, bars = solved(plain, options), []
    for name in ("pytorch", "tensorflow"):
        backend = backend_named(name)
        run = backend.settled(RunOptions())
        refine = partial(backend.refine, config=InferenceConfig(backend=name), run=run)
        bars.append(measure_uncertainty(found, plain, refine, options))
    oracle = measure_uncertainty(found, plain, refine_scan, options)
    for kind in ("amplitude", "phase"):
        for one in bars:
            np.testing.assert_allclose(getattr(one, kind), getattr(oracle, kind), rtol=0.02)

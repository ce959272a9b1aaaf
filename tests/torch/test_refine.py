"""Refinement on small simulated scans: it converges, keeps units, honours masks and never ends worse than it began."""

import itertools

import numpy as np
import pytest
import torch

from ptycho.core.diffraction import diffract
from ptycho.core.patches import extract_rounded
from ptycho.errors import DataError
from ptycho_torch.refine import add_patches, cut_patches, refine

N = 16


@pytest.fixture(scope="module")
def scan() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:N, :N] - N / 2
    probe = np.exp(-(x**2 + y**2) / 14 + 0.06j * (x**2 + y**2)) * 5
    grid = np.arange(N / 2 + 1, 44 - N / 2 - 1, 2.3)
    ycoords, xcoords = (c.ravel() + rng.uniform(-0.5, 0.5, c.size) for c in np.meshgrid(grid, grid, indexing="ij"))
    v, u = np.mgrid[:44, :44] / 44
    truth = (0.8 + 0.2 * np.cos(9 * u + 5 * v)) * np.exp(0.7j * np.sin(11 * v - 4 * u * u))
    patches, dx, dy = extract_rounded(truth, xcoords, ycoords, N)
    amplitude = np.sqrt(diffract(probe, patches, dx, dy)).astype(np.float32)
    return {"amplitude": amplitude, "probe": probe, "xcoords": xcoords, "ycoords": ycoords, "truth": truth}


def start(scan: dict[str, np.ndarray]) -> np.ndarray:
    return np.ones_like(scan["truth"])


def run(scan: dict[str, np.ndarray], iterations: int = 60, **changes):
    settings = {"start": start(scan), **changes}
    first = settings.pop("start")
    amplitude, probe = settings.pop("amplitude", scan["amplitude"]), settings.pop("probe", scan["probe"])
    return refine(amplitude, probe, scan["xcoords"], scan["ycoords"], first, iterations, **settings)


def relative_error(found: np.ndarray, truth: np.ndarray) -> float:
    inner = np.s_[14:-14, 14:-14]
    factor = np.vdot(found[inner], truth[inner])
    return float(np.linalg.norm(found[inner] * factor / abs(factor) - truth[inner]) / np.linalg.norm(truth[inner]))


def test_it_finds_the_object_in_the_units_of_the_probe(scan) -> None:
    result = run(scan, refine_probe=False)
    assert relative_error(result.object, scan["truth"]) < 0.01
    assert result.error_history[-1] < 1e-4
    assert len(result.error_history) == 61


def test_the_error_that_is_reported_is_the_error_of_the_result(scan) -> None:
    result = run(scan, 7)
    patches, dx, dy = extract_rounded(result.object.astype(complex), scan["xcoords"], scan["ycoords"], N)
    modulus = np.sqrt(diffract(result.probe.astype(complex), patches, dx, dy))
    error = np.sum((modulus - scan["amplitude"]) ** 2) / np.sum(scan["amplitude"].astype(float) ** 2)
    assert result.error_history[-1] == pytest.approx(error, rel=1e-4)


def test_a_wrong_probe_is_mended(scan) -> None:
    wrong = scan["probe"] * np.exp(0.5j * np.linspace(-1, 1, N) ** 2)
    fixed, free = run(scan, probe=wrong, refine_probe=False), run(scan, probe=wrong)
    assert free.error_history[-1] < 0.2 * fixed.error_history[-1]


def test_scales_of_probe_and_amplitudes(scan) -> None:
    plain = run(scan, 20)
    brighter_probe = run(scan, 20, probe=7 * scan["probe"], start=start(scan) / 7)
    brighter_data = run(scan, 20, amplitude=7 * scan["amplitude"], start=7 * start(scan))
    np.testing.assert_allclose(7 * brighter_probe.object, plain.object, atol=1e-4)
    np.testing.assert_allclose(brighter_data.object / 7, plain.object, atol=1e-4)


def test_it_never_ends_worse_than_it_began(scan) -> None:
    """From the truth there is nowhere to go; noise in single precision must not lead away."""
    for first in (scan["truth"], start(scan), 30 * start(scan)):
        history = run(scan, 12, start=first).error_history
        assert history[-1] <= history[0]
        assert all(later <= earlier for earlier, later in itertools.pairwise(history))


@pytest.mark.parametrize("per_frame", [False, True])
def test_masked_pixels_do_not_matter(scan, per_frame, rng) -> None:
    shape = scan["amplitude"].shape if per_frame else (N, N)
    mask = rng.random(shape) > 0.1
    spoiled = np.where(mask, scan["amplitude"], 1e3).astype(np.float32)
    np.testing.assert_array_equal(run(scan, 5, amplitude=spoiled, mask=mask).object, run(scan, 5, mask=mask).object)
    assert relative_error(run(scan, amplitude=spoiled, mask=mask, refine_probe=False).object, scan["truth"]) < 0.03


def test_two_modes_explain_what_one_cannot(scan) -> None:
    first = scan["probe"]
    second = 0.7 * np.roll(first, 4, axis=1) * np.exp(1.5j * np.linspace(-2, 2, N))
    probe = np.stack([first, second])
    patches, dx, dy = extract_rounded(scan["truth"], scan["xcoords"], scan["ycoords"], N)
    amplitude = np.sqrt(diffract(probe, patches, dx, dy)).astype(np.float32)
    both = run(scan, 40, amplitude=amplitude, probe=probe)
    assert both.probe.shape == (2, N, N)
    assert both.error_history[-1] < 0.1 * run(scan, 40, amplitude=amplitude, probe=first).error_history[-1]


def test_the_same_run_gives_the_same_numbers(scan) -> None:
    np.testing.assert_array_equal(run(scan, 5).object, run(scan, 5).object)


def test_both_ways_to_add_patches_agree_and_are_adjoint_to_cutting() -> None:
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(5, 4, 4, dtype=torch.complex128, generator=generator)
    rows, cols = torch.tensor([0, 3, 3, 5, 1]), torch.tensor([2, 0, 0, 3, 1])
    canvas = torch.zeros(9, 7, dtype=torch.complex128)
    add_patches(canvas, patches, rows, cols)
    index = (rows[:, None, None] + torch.arange(4)[:, None]) * 7 + cols[:, None, None] + torch.arange(4)
    summed = torch.zeros(63, dtype=torch.complex128).index_add(0, index.reshape(-1), patches.reshape(-1))
    torch.testing.assert_close(canvas.reshape(-1), summed)
    other = torch.randn(9, 7, dtype=torch.complex128, generator=generator)
    left = torch.vdot(patches.reshape(-1), cut_patches(other, rows, cols, 4).reshape(-1))
    torch.testing.assert_close(left, torch.vdot(canvas.reshape(-1), other.reshape(-1)))


def test_errors_say_what_to_do(scan) -> None:
    with pytest.raises(DataError, match="iterations must be at least 1, found 0"):
        run(scan, 0)
    with pytest.raises(DataError, match="enlarge the object"):
        run(scan, 1, start=np.ones((30, 30)))

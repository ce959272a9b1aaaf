"""Two images compared on a device: NumPy's figures, with nothing fetched but the sums of a step."""

import numpy as np
import pytest
import torch

from ptycho.config.config import PyTorchExecutionConfig
from ptycho.core.quality import alignment
from ptycho.core.quality.alignment import align
from ptycho.core.quality.arithmetic import IN_NUMPY, NumpyArithmetic
from ptycho.core.quality.comparison import PlacedObject, correlate
from ptycho.core.quality.registration import shift_subpixel
from ptycho.core.quality.ring_correlation import frc
from ptycho.core.simulation.objects import make_object
from ptycho.workflows.run_options import RunOptions
from ptycho_torch import backend
from ptycho_torch.device import cuda
from ptycho_torch.device.arithmetic import TorchArithmetic

REGION = (30, 99, 31, 101)


class Small(TorchArithmetic):
    """Few rows at once."""

    pixels = 300


def pair(noise: float, dtype: type = np.complex64) -> tuple[np.ndarray, np.ndarray]:
    """Two objects of odd, unequal sides, the first larger, moved and tilted."""
    rng = np.random.default_rng(3)
    truth = make_object("dead_leaves", (131, 132), rng)
    y, x = np.indices(truth.shape)
    first = 2 * shift_subpixel(truth, 0.31, -0.22) * np.exp(1j * (0.3 + 2 * np.pi * (3e-3 * y - 1e-3 * x)))
    scattered = noise * rng.standard_normal((2, *truth.shape, 2)) @ [1, 1j]
    return np.pad(first + scattered[0], ((2, 3), (0, 4))).astype(dtype), (truth + scattered[1]).astype(dtype)


@pytest.mark.parametrize("noise", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("made", [TorchArithmetic, Small])
def test_the_fit_is_that_of_numpy(noise, made) -> None:
    """The same steps, so that nothing differs but rounding."""
    ours = made()
    found, expected = (align(*pair(noise), REGION, (-2, 0), arithmetic) for arithmetic in (ours, IN_NUMPY))
    for name in ("shift", "plane", "factor", "correlation"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-11, atol=1e-13)
    assert (found.region, found.offset) == (expected.region, expected.offset)
    for name in ("image", "truth"):
        np.testing.assert_allclose(ours.numpy(getattr(found, name)), getattr(expected, name), rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.shift, (-0.31, 0.22), atol=1e-2 + 0.5 * noise)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
@pytest.mark.parametrize("shape", [(64, 33), (45, 61), (48, 48)])
def test_rings_are_those_of_numpy(shape, dtype, rng) -> None:
    values = rng.standard_normal((2, *shape, 2)) @ [1, 1j]
    one, other = (values if np.issubdtype(dtype, np.complexfloating) else values.real).astype(dtype)
    found, expected = (frc(one, one + other, arithmetic) for arithmetic in (TorchArithmetic(), IN_NUMPY))
    np.testing.assert_array_equal(found.n, expected.n)
    np.testing.assert_allclose(found.correlation, expected.correlation, rtol=0, atol=1e-12)


def test_halves_are_correlated_as_by_numpy() -> None:
    first, second = pair(0.3)
    where = np.array([20.0, 110.0])
    halves = PlacedObject("a", first, (8.0, 5.0)), PlacedObject("b", second, (10.0, 5.0), where, where)
    found, expected = (correlate(*halves, arithmetic) for arithmetic in (TorchArithmetic(), IN_NUMPY))
    np.testing.assert_allclose(found.correlation, expected.correlation, rtol=0, atol=1e-10)
    assert expected.cutoff(0.5) < 0.5
    assert found.cutoff(0.5) == pytest.approx(expected.cutoff(0.5), rel=1e-9)


def test_what_is_there_is_not_sent_again(rng) -> None:
    arithmetic, values = TorchArithmetic(), rng.standard_normal((4, 3))
    held = arithmetic.held(values)
    assert arithmetic.held(held) is held
    assert arithmetic.held(values[::-1].astype(np.complex64)).dtype == torch.complex128


class Elsewhere(TorchArithmetic):
    """`meta` has shapes and no values: what is on a CPU cannot meet what is there. What comes back is by chance."""

    def __init__(self) -> None:
        super().__init__("meta")
        self.rng, self.fetched = np.random.default_rng(0), list[tuple[int, ...]]()

    def numpy(self, values: torch.Tensor) -> np.ndarray:
        assert values.device.type == "meta"
        self.fetched.append(tuple(values.shape))
        dtype = torch.empty(0, dtype=values.dtype).numpy().dtype
        return (self.rng.uniform(1, 2, (*values.shape, 2)) @ [1, 1j]).astype(dtype, casting="unsafe")


@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")
def test_no_image_comes_back_and_sums_once_a_place(monkeypatch) -> None:
    """Of a place 60 numbers or 15; before, of what is begun with: two peaks, and looks at them closer."""
    looked, at = [], alignment._Fit.at
    monkeypatch.setattr(alignment, "_ITERATIONS", 3)
    monkeypatch.setattr(alignment._Fit, "at", lambda *a, **k: looked.append(1) or at(*a, **k))
    device = Elsewhere()
    found = align(*pair(0.3), REGION, (-2, 0), device)
    assert found.image.device.type == found.truth.device.type == "meta"
    sums = [shape for shape in device.fetched if shape in ((3, 20), (3, 5))]
    others = [shape for shape in device.fetched if shape not in ((3, 20), (3, 5))]
    assert len(sums) == 1 + len(looked) and len(looked) >= 3
    assert others == [(), (31, 31), (31, 31), (), (31, 31)]
    device.fetched.clear()
    frc(found.image, found.truth, device)
    assert device.fetched == [(4, 35)]  # so many pixels of each ring, and three sums


@pytest.mark.parametrize(
    ("accelerator", "expected"), [("cpu", NumpyArithmetic), ("mps", NumpyArithmetic), ("cuda", TorchArithmetic)]
)
def test_the_device_of_the_run_compares(accelerator, expected, monkeypatch) -> None:
    monkeypatch.setattr(cuda, "why_unusable", lambda: "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    made = backend.image_arithmetic(RunOptions(execution=PyTorchExecutionConfig(accelerator=accelerator)))
    assert type(made) is expected
    if accelerator == "cuda":
        assert made.device.type == "cuda"

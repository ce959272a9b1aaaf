"""The backends side by side: one small face for each, the tolerances, and the table of the errors seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf
import torch

from ptycho.config.config import ModelConfig
from ptycho.core.physics import diffraction, patches, projection
from ptycho.core.physics import losses as core_losses
from ptycho.core.physics.scan_probes import ScanProbes
from ptycho.core.refinement.device.kernels import Point
from ptycho.tf import losses as tf_losses
from ptycho.tf import model_manager
from ptycho.tf import physics as tf_physics
from ptycho.tf import reassembly as tf_reassembly
from ptycho.tf.pinn import PtychoPINN
from ptycho_torch import losses as torch_losses
from ptycho_torch import model_manager as torch_manager
from ptycho_torch import physics as torch_physics
from ptycho_torch import pinn as torch_model
from ptycho_torch import reassembly as torch_reassembly

TOLERANCE = {
    "function": {"float32": 2e-6, "float64": 1e-13},
    "gradient": {"float32": 2e-6, "float64": 1e-13},
    "network gradient": {"float32": 1e-4, "float64": 1e-11},
    "network": {"float32": 1e-5, "float64": 1e-10},
    "XLA": {"float32": 1e-5, "float64": 1e-10},
    "archive": {"float32": 1e-5},
    "optimiser": {"float64": 1e-10},
}
"""Largest relative error `||a - b|| / ||b||`, by kind of comparison and precision.

Gradients of a network lose a digit or two of the counts': what a phase changes in a pixel nearly cancels in their
sum, so that in single precision they move by some 1e-5 with the number of threads; double precision tells a wrong one.
"""

seen: dict[tuple[str, str, str], float] = {}


@dataclass(frozen=True)
class Backend:
    """A backend in one precision: its functions, and the way of arrays into it, out of it and through a gradient."""

    name: str
    dtype: str
    physics: Any
    reassembly: Any
    losses: Any

    def array(self, values: Any) -> Any:
        """An array of this backend in this precision; bool stays bool."""
        values = np.asarray(values)
        if values.dtype != bool:
            kind = {"float32": np.complex64, "float64": np.complex128}[self.dtype]
            values = values.astype(kind if np.iscomplexobj(values) else self.dtype)
        if self.name == "numpy":
            return values
        return torch.as_tensor(values) if self.name == "pytorch" else tf.constant(values)

    def numpy(self, values: Any) -> np.ndarray:
        return values.detach().numpy() if self.name == "pytorch" else np.asarray(values)

    def total(self, values: Any) -> Any:
        """The sum of all elements."""
        return tf.reduce_sum(values) if self.name == "tensorflow" else values.sum()

    def gradient(self, function: Callable[[Any], Any], values: Any) -> np.ndarray:
        """`dL/dx + i dL/dy` of a real function of one array; not for NumPy."""
        variable = self.array(values)
        if self.name == "pytorch":
            variable.requires_grad_()
            function(variable).backward()
            return variable.grad.numpy()
        with tf.GradientTape() as tape:
            tape.watch(variable)
            value = function(variable)
        return tape.gradient(value, variable).numpy()


def make_backend(name: str, dtype: str) -> Backend:
    if name == "pytorch":
        return Backend(name, dtype, torch_physics, torch_reassembly, torch_losses)
    if name == "tensorflow":
        return Backend(name, dtype, tf_physics, tf_reassembly, tf_losses)
    # the oracle keeps the constants of a projection to itself: its probe takes their place
    physics = SimpleNamespace(
        **{name: getattr(diffraction, name) for name in diffraction.__all__},
        projection_constants=lambda probe: probe,
        project_from_vacuum=projection.project_from_vacuum,
    )
    return Backend(name, dtype, physics, patches, core_losses)


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["numpy", "pytorch", "tensorflow"])
def backend(request: pytest.FixtureRequest, dtype: str) -> Backend:
    return make_backend(request.param, dtype)


@pytest.fixture(params=["pytorch", "tensorflow"])
def framework(request: pytest.FixtureRequest, dtype: str) -> Backend:
    return make_backend(request.param, dtype)


@pytest.fixture
def both(dtype: str) -> tuple[Backend, Backend]:
    """PyTorch and TensorFlow."""
    return make_backend("pytorch", dtype), make_backend("tensorflow", dtype)


Agree = Callable[..., None]


@pytest.fixture
def agree(request: pytest.FixtureRequest, dtype: str) -> Agree:
    """`agree(kind, what, found, expected)`: same shape, and a relative error within the table of tolerances."""

    def check(kind: str, what: str, found: Any, expected: Any) -> None:
        found, expected = np.asarray(found), np.asarray(expected)
        assert found.shape == expected.shape
        error = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
        key = kind, what, dtype
        seen[key] = max(seen.get(key, 0.0), error)
        assert error <= TOLERANCE[kind][dtype], f"{what}: relative error {error:.2e}"

    return check


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """With -v: the largest relative error of every comparison."""
    if not seen or config.get_verbosity() < 1:
        return
    terminalreporter.section("parity: largest relative errors")
    for (kind, what, precision), error in sorted(seen.items()):
        terminalreporter.write_line(f"{kind:16s} {what:44s} {precision}  {error:.1e} (<= {TOLERANCE[kind][precision]})")


class Twins(NamedTuple):
    """A model in both frameworks with the same weights, and a batch for it."""

    torch: torch_model.PtychoPINN
    tensorflow: PtychoPINN
    amplitudes: np.ndarray
    positions: np.ndarray

    def torch_batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch channel-first."""
        return tuple(torch.as_tensor(np.ascontiguousarray(a.transpose(0, 3, 1, 2))) for a in self[2:])

    def tensorflow_batch(self) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.constant(self.amplitudes), tf.constant(self.positions)


def probe_modes(modes: int = 2) -> np.ndarray:
    y, x = np.mgrid[:64, :64] - 32.0
    first = np.exp(-(x**2 + y**2) / 150 + 0.01j * (x**2 + y**2))
    return np.stack([first * (x / 10) ** m for m in range(modes)])


def measured(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Normalised amplitudes of a rough object under the probe, with photon noise, dark where a detector is dark."""
    objects = 1 + 0.3 * (rng.standard_normal((*shape, 64, 64)) + 1j * rng.standard_normal((*shape, 64, 64)))
    probe = probe_modes() * (32 / np.linalg.norm(probe_modes()))
    return np.sqrt(rng.poisson(30.0**2 * diffraction.diffract(probe, objects))) / 30.0


@pytest.fixture
def make_twins(rng: np.random.Generator) -> Callable[..., Twins]:
    """`make_twins(dtype, batch, settings, **model arguments)`; the heads are not zero, so that the network speaks."""

    def make(dtype: str, batch: int = 3, settings: dict[str, Any] | None = None, **arguments: Any) -> Twins:
        config = ModelConfig(N=64, n_filters_scale=1, **(settings or {}))
        given = (config, probe_modes(), 0.5, 30.0)
        ours = PtychoPINN(*given, **arguments, dtype=dtype, seed=0)
        theirs = torch_model.PtychoPINN(*given, **arguments)
        if dtype == "float64":
            theirs = theirs.double()
            theirs.log_intensity_scale.data.fill_(np.log(30.0))
        weights = {
            name: (0.05 if "head" in name else 0.02) * rng.standard_normal(array.shape) + array
            for name, array in model_manager.canonical_weights(ours.network).items()
        }
        model_manager.set_canonical_weights(ours.network, weights, "test")
        torch_manager.set_canonical_weights(theirs.network, weights, "test")
        members = config.gridsize**2
        amplitudes = measured(rng, (batch, members)).transpose(0, 2, 3, 1).astype(dtype)
        positions = rng.uniform(-3.5, 3.5, (batch, 1, 2, members)) * (members > 1)
        return Twins(theirs.eval(), ours, amplitudes, positions.astype(dtype))

    return make


_N, _SIZE = 16, 44
"""Pixels of the patterns and of the object of what follows."""


@pytest.fixture
def point(masked_scan, rng) -> Point:
    """Two modes, flux, background and blur."""
    noise = rng.standard_normal((2, _SIZE, _SIZE))
    probe = np.asarray(masked_scan.probeGuess, complex)
    modes = np.stack([probe, 0.4j * np.roll(probe, 3, axis=1)])
    flux = rng.uniform(0.5, 1.5, len(masked_scan))
    background = 3 * rng.random((_N, _N))
    image, blur = 1 + 0.2 * (noise[0] + 1j * noise[1]), np.array(0.9)
    return Point(image, modes, masked_scan.xcoords, masked_scan.ycoords, flux, background, blur=blur)


@pytest.fixture
def way(masked_scan, rng) -> Any:
    """Three places for each pattern."""
    return rng.uniform(-1.5, 1.5, (len(masked_scan), 3, 2))


@pytest.fixture
def own_probes() -> Callable[[Any, int], ScanProbes]:
    """Of three scans whose patterns alternate, from the modes of the first and the number of patterns."""

    def made(modes: Any, count: int) -> ScanProbes:
        others = np.stack([np.roll(modes, 1, axis=1), 0.9j * np.roll(modes, 1, axis=2)])
        return ScanProbes(others, np.arange(count) % 3)

    return made

"""The trust of every engine against the forward model of the oracle, pattern by pattern, whatever was recorded."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import torch

from ptycho.core.physics.diffraction import deviance, diffract
from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.physics.poisson import poisson_moments
from ptycho.core.physics.probes import orthogonal_modes, zone_plate_probe
from ptycho.core.physics.recording import PLAIN, Recording
from ptycho.core.physics.scan_probes import ScanProbes
from ptycho.core.physics.variable_probe import ProbeVariation
from ptycho.core.quality.misfits import Misfits
from ptycho.core.quality.trust import Trust
from ptycho.core.refinement.device.kernels_numpy import NumpyKernels
from ptycho.core.refinement.device.likelihood import ROUNDING
from ptycho.core.refinement.trust import Prediction, TrustEngine, measure_trust, summed_trust
from ptycho.tf.refinement_kernels import RefinementKernels as TfKernels
from ptycho.workflows.backend_selector import backend_named
from ptycho.workflows.run_options import NEUTRAL_RUN
from ptycho_torch.refinement_kernels import RefinementKernels as TorchKernels

N, COUNT, ACROSS, DOWN = 17, 7, 31, 29
CLOSE = 1e-9
ENGINES = {
    "numpy": partial(NumpyKernels, "amplitude", 0.0),
    "pytorch": partial(TorchKernels, "amplitude", 0.0, dtype=torch.float64),
    "tensorflow": partial(TfKernels, "amplitude", 0.0, dtype=tf.float64),
}


@dataclass(frozen=True)
class Case:
    """What is held against what."""

    object: np.ndarray
    probe: np.ndarray
    x: np.ndarray
    y: np.ndarray
    patterns: np.ndarray
    recording: Recording
    mask: np.ndarray | None
    photon_scale: float

    def predicted(self, j: int) -> np.ndarray:
        some = np.array([j])
        where = extract_rounded(self.object, self.x[some], self.y[some], N)
        return diffract(self.probe.astype(complex), *where, self.recording.of(some))[0]

    def by(self, name: str, memory: int | None = None) -> Trust:
        engine: Any = TrustEngine(ENGINES[name], memory)
        where = self.object, self.probe, self.x, self.y
        return measure_trust(
            *where, lambda j: self.patterns[j], self.photon_scale, "stated", self.mask, self.recording, engine
        )

    def by_parts(self, name: str) -> np.ndarray:
        """What is found in parts, each by the box of the object that it needs: that of the same patterns to the bit."""
        whole = Prediction.of(self.object, self.probe, self.x, self.y, self.recording, self.photon_scale)
        sums, engine = np.zeros((COUNT, 8)), TrustEngine(ENGINES[name])
        for which in (np.array([2]), np.array([0, 1, 4, 6]), np.array([3, 5]), np.arange(0)):
            part, read = whole.part(which), partial(self.only, which)
            assert part.object.size < whole.object.size
            sums[which] = part.sums(read, self.mask, engine)
            np.testing.assert_array_equal(sums[which], replace(whole, which=which).sums(read, self.mask, engine))
        return sums

    def only(self, which: np.ndarray, asked: np.ndarray) -> np.ndarray:
        assert np.isin(asked, which).all()
        return self.patterns[asked]

    def by_hand(self) -> dict[str, np.ndarray]:
        vacuum = replace(self.recording, flux=None, fly_path=None, gap=None, variation=None)
        bare = diffract(self.probe.astype(complex), np.ones((1, N, N)), recording=vacuum)[0]
        rows = []
        for j in range(COUNT):
            valid = np.ones((N, N), bool) if self.mask is None else self.mask[j] if self.mask.ndim == 3 else self.mask
            seen, a = self.predicted(j), self.patterns[j].astype(float)
            expected = self.photon_scale * np.maximum(seen, ROUNDING * max(seen.max(), bare.max()))
            counts, root = self.photon_scale * a**2, np.sqrt(self.photon_scale)
            values = (
                deviance(counts, expected),
                (np.sqrt(expected) - root * a) ** 2,
                counts,
                self.photon_scale * a * np.sqrt(bare),
                self.photon_scale * bare,
            )
            rows.append([each[valid].sum() for each in values] + poisson_moments(expected[None], valid)[0].tolist())
        found, misfit, counts, product, energy, expected, variance, noise = np.array(rows).T
        level = product.sum() / energy.sum()
        return {
            "deviance": found,
            "expected": expected,
            "deviation": np.sqrt(variance),
            "misfit": misfit,
            "noise": noise,
            "uniform": counts - 2 * level * product + level**2 * energy,
            "counts": counts,
        }


def noisy(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def case(kind: str, photons: float) -> Case:
    """Counts of a model that is a little wrong, in another unit than photons; one patch lies half outside."""
    rng = np.random.default_rng(7)
    probe = zone_plate_probe(16, 7, defocus=1.3, energy=1.0)
    probe = np.pad(probe, (0, 1))
    x, y = rng.uniform(9, ACROSS - 9, COUNT), rng.uniform(9, DOWN - 9, COUNT)
    x[2], y[2], x[4] = 1.5, 26.2, 14.5
    image = np.exp(0.4 * noisy(rng, DOWN, ACROSS)).astype(np.complex64)
    flux, path = rng.uniform(0.5, 2, COUNT), rng.uniform(-2, 2, (COUNT, 3, 2))
    background, variation = rng.uniform(0, 1e-4, (N, N)), ProbeVariation(
        0.1 * noisy(rng, 2, N, N), 0.3 * noisy(rng, COUNT, 2)
    )  # fmt: skip
    modes = orthogonal_modes(probe, (0.7, 0.2, 0.1))
    recording, mask = PLAIN, None
    if kind in ("modes", "everything", "everything near"):
        probe = modes
    if kind == "slices":
        image = np.stack([image, np.roll(image, 3), image[::-1]])
        recording = Recording(flux, path, background, gap=NearField(0.3), blur=0.8)
    if kind == "scans":
        others = np.stack([np.roll(modes, 1, -1), 1.4 * modes[::-1]])
        probe, recording = modes, Recording(flux, path, variation=ScanProbes(others, np.array([1, 0, 2, 2, 0, 1, 1])))
    known: dict[str, Any] = {
        "flux": Recording(flux),
        "a fly scan": Recording(fly_path=path),
        "background": Recording(background=background),
        "blur": Recording(blur=1.1),
        "near": Recording(near_field=NearField(0.2)),
        "a probe that varies": Recording(variation=variation),
        "everything": Recording(flux, path, background, variation=variation, blur=0.8),
        "everything near": Recording(flux, path, background, NearField(0.2), variation=variation, blur=0.8),
    }
    recording = known.get(kind, recording)
    if kind in ("a mask", "everything"):
        mask = rng.random((N, N)) > 0.2
    if kind in ("masks", "slices", "scans", "everything near"):
        mask = rng.random((COUNT, N, N)) > 0.2
    made = Case(image, probe.astype(np.complex64), x, y, np.zeros((COUNT, N, N)), recording, mask, 1.0)
    expected = np.array([made.predicted(j) for j in range(COUNT)])
    scale = photons / expected.sum(axis=(1, 2)).mean()
    patterns = np.sqrt(rng.poisson(scale * expected) / scale).astype(np.float32)
    if mask is not None:
        patterns[~np.broadcast_to(mask, patterns.shape)] = np.nan
    wrong = (image * np.exp(0.02j * rng.standard_normal(image.shape))).astype(np.complex64)
    return replace(made, object=wrong, patterns=patterns, photon_scale=scale)


KINDS = (
    *("plain", "a mask", "masks", "modes", "flux", "a fly scan", "background", "blur", "near", "a probe that varies"),
    *("scans", "slices", "everything", "everything near"),
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ENGINES)
def test_trust_is_that_of_the_forward_model(name: str, kind: str) -> None:
    for photons in (30.0, 1e9):
        given = case(kind, photons)
        found, expected = given.by(name), given.by_hand()
        assert set(expected) == {field.name for field in fields(Misfits)}
        for field, values in expected.items():
            np.testing.assert_allclose(getattr(found, field), values, rtol=CLOSE, atol=CLOSE, err_msg=field)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ENGINES)
def test_parts_of_a_scan_say_what_the_whole_does(name: str, kind: str) -> None:
    """But for the rounding of batches of other sizes."""
    given = case(kind, 1e5)
    found, whole = summed_trust(given.by_parts(name), "stated"), given.by(name)
    for field in fields(Misfits):
        np.testing.assert_allclose(getattr(found, field.name), getattr(whole, field.name), rtol=1e-12)


@pytest.mark.parametrize("name", ENGINES)
def test_a_little_memory_gives_the_same(name: str) -> None:
    given = case("everything", 1e5)
    np.testing.assert_allclose(given.by(name, memory=1).deviance, given.by(name).deviance, rtol=1e-12)


@pytest.mark.parametrize("backend", ["pytorch", "tensorflow"])
def test_backends_work_it_out_in_double_precision(backend: str) -> None:
    """The noise of 1e12 photons lies below the rounding of single precision."""
    given, made = case("plain", 1e12), backend_named(backend)
    expected = np.array([given.predicted(j) for j in range(COUNT)])
    patterns = np.sqrt(expected).astype(np.float32)
    exact = given.photon_scale * (np.sqrt(expected) - patterns) ** 2
    engine = made.trust_engine(made.settled(NEUTRAL_RUN))
    where = given.object, given.probe, given.x, given.y
    found = measure_trust(*where, lambda j: patterns[j], given.photon_scale, "stated", engine=engine)
    np.testing.assert_allclose(found.misfit, exact.sum(axis=(1, 2)), rtol=1e-4)

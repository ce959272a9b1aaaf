"""The network prior: its layers by other means, what it may not see, tiles, the file, and what it knows of lines."""

import importlib.util
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.ndimage import correlate

from ptycho.core.refinement.priors.network_prior import (
    DARK,
    SHIPPED,
    expected_noise,
    features,
    posterior,
    read_weights,
    write_weights,
)
from ptycho.core.refinement.priors.prior_unet import CHANNELS, LEVELS, shapes, unet
from ptycho.core.simulation.objects import make_object
from ptycho.errors import ArchiveError, MissingFileError

SCRIPT = Path(__file__).parents[4] / "scripts/training/train_object_prior.py"


@pytest.fixture
def weights(rng) -> dict[str, np.ndarray]:
    """Any, of a size that keeps values of the order of 1."""
    drawn = {}
    for name, shape in shapes().items():
        spread = np.sqrt(2 / np.prod(shape[:-1])) if len(shape) > 1 else 0.1
        drawn[name] = (spread * rng.standard_normal(shape)).astype(np.float32)
    return drawn


def noisy(rng, shape: tuple[int, int], noise: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Lines, and these with white noise of a complex standard deviation."""
    truth = make_object("lines", shape, rng).astype(complex)
    drawn = rng.standard_normal((2, *shape)) / np.sqrt(2)
    return truth, truth + noise * (drawn[0] + 1j * drawn[1])


def test_the_first_layers_are_correlations(weights, rng) -> None:
    """Of one level alone: what follows it is set to hand it through."""
    seen = rng.standard_normal((CHANNELS, 8, 16)).astype(np.float32)

    def layer(x: np.ndarray, name: str) -> np.ndarray:
        kernel, bias = weights[f"{name}/kernel"].astype(float), weights[f"{name}/bias"]
        return np.stack(
            [
                bias[out]
                + sum(correlate(x[k], kernel[:, :, k, out], mode="constant", output=float) for k in range(len(x)))
                for out in range(kernel.shape[-1])
            ]
        )

    def silu(x: np.ndarray) -> np.ndarray:
        return x / (1 + np.exp(-x))

    first = silu(layer(silu(layer(seen.astype(float), "encoder/0/conv1")), "encoder/0/conv2"))
    handing = dict(weights)
    deep = LEVELS[1]
    kernel = np.zeros((3, 3, deep + LEVELS[0], LEVELS[0]), np.float32)
    kernel[1, 1, deep:] = np.eye(LEVELS[0])
    handing["decoder/2/conv1/kernel"], handing["decoder/2/conv1/bias"] = kernel, np.zeros(LEVELS[0], np.float32)
    last = silu(layer(silu(first), "decoder/2/conv2"))
    np.testing.assert_allclose(unet(handing, seen), layer(last, "head"), atol=2e-5)


def test_the_network_that_is_trained_is_the_same(weights, rng) -> None:
    """The PyTorch network of the script, with the same weights."""
    torch = pytest.importorskip("torch")
    trained = script()
    network = trained.UNet()
    named = {trained.canonical_name(name): value for name, value in network.state_dict().items()}
    assert {name: tuple(value.shape) for name, value in trained.canonical(network.state_dict()).items()} == shapes()
    with torch.no_grad():
        for name, value in named.items():
            array = weights[name]
            value.copy_(torch.from_numpy(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array))
        seen = rng.standard_normal((1, CHANNELS, 24, 8)).astype(np.float32)
        expected = network(torch.from_numpy(seen))[0].numpy()
    np.testing.assert_allclose(unet(weights, seen[0]), expected, atol=1e-5)
    assert abs(expected).max() > 0.1


def script() -> Any:
    spec = importlib.util.spec_from_file_location("object_prior_training", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_noise_by_hand() -> None:
    photons = np.array([0.0, 1.0, 1e4, 1e4])
    sharing = np.array([0.0, 100.0, 100.0, 1.0])
    np.testing.assert_allclose(expected_noise(photons, sharing), [np.hypot(DARK, 0.1), DARK, 0.01, np.hypot(0.01, 0.1)])


def test_a_global_phase_changes_nothing(weights, rng) -> None:
    _, image = noisy(rng, (37, 21))
    photons, sharing = np.full((37, 21), 100.0), np.full((37, 21), 5.0)
    mean, spread = posterior(image, photons, sharing, weights)
    turned, same = posterior(image * np.exp(2j), photons, sharing, weights)
    np.testing.assert_allclose(turned, mean * np.exp(2j), atol=1e-5)
    np.testing.assert_allclose(same, spread, rtol=1e-4)
    assert mean.shape == spread.shape == (37, 21) and abs(mean - image).max() > 0.01
    seen, turn = features(image * np.exp(2j), photons, sharing)
    assert abs(np.angle((seen[0] + 1j * seen[1]).sum())) < 1e-5 and abs(turn) == pytest.approx(1)


def test_what_is_upside_down_is_seen_alike(weights, rng) -> None:
    _, image = noisy(rng, (16, 24))
    photons, sharing = 50 + 50 * rng.random(image.shape), np.full(image.shape, 2.0)
    mean, _ = posterior(image, photons, sharing, weights)
    turned, _ = posterior(image[::-1, ::-1], photons[::-1, ::-1], sharing, weights)
    np.testing.assert_allclose(turned[::-1, ::-1], mean, atol=1e-5)


def test_other_weights_may_say_the_mean_alone(weights, rng) -> None:
    still = {name: values * (not name.startswith("head")) for name, values in weights.items()}
    _, image = noisy(rng, (16, 24))
    photons, sharing = np.full(image.shape, 100.0), np.full(image.shape, 9.0)
    mean, spread = posterior(image, photons, sharing, weights, own=still)
    np.testing.assert_allclose(mean, image, atol=1e-12)
    np.testing.assert_array_equal(spread, posterior(image, photons, sharing, weights)[1])


def test_tiles_join_without_a_seam(weights, rng) -> None:
    """With a network that adds nothing, and an image that one tile does not hold."""
    still = {name: values * (not name.startswith("head")) for name, values in weights.items()}
    _, image = noisy(rng, (40, 150))
    photons, sharing = 50 + 50 * rng.random(image.shape), np.full(image.shape, 9.0)
    mean, spread = posterior(image, photons, sharing, still)
    np.testing.assert_allclose(mean, image, atol=1e-12)
    np.testing.assert_allclose(spread, expected_noise(photons, sharing), rtol=1e-6)


def test_much_light_leaves_an_object_as_it_is(rng) -> None:
    truth, _ = noisy(rng, (64, 64))
    mean, spread = posterior(truth, np.full(truth.shape, 1e10), np.full(truth.shape, 9.0))
    assert abs(mean - truth).max() < 1e-3 and spread.max() < 1e-3


def test_what_is_shipped_takes_noise_away_and_knows_what_is_left(rng) -> None:
    truth, image = noisy(rng, (96, 96))
    mean, spread = posterior(image, np.full(truth.shape, 100.0), np.full(truth.shape, 6.0))
    before, after = (float(np.sqrt(np.mean(abs(each - truth) ** 2))) for each in (image, mean))
    assert after < 0.75 * before
    assert 0.4 < np.sqrt(np.mean(abs(mean - truth) ** 2 / spread**2)) < 2.0
    assert SHIPPED.stat().st_size < 5e6


def test_a_file_brings_back_what_was_written(weights, tmp_path) -> None:
    file = tmp_path / "own.h5"
    write_weights(file, weights, {"seed": 3})
    found = read_weights(file)
    assert found.keys() == weights.keys()
    assert all(np.array_equal(found[name], weights[name]) for name in weights)


def test_other_files_are_refused(weights, tmp_path) -> None:
    with pytest.raises(MissingFileError):
        read_weights(tmp_path / "none.h5")
    newer, other, less, broken = (tmp_path / f"{name}.h5" for name in ("newer", "other", "less", "broken"))
    write_weights(newer, weights, {})
    with h5py.File(newer, "a") as file:
        file.attrs["version"] = 2
    with pytest.raises(ArchiveError, match="of version 1, found ptychopinn-network-prior of version 2"):
        read_weights(newer)
    with h5py.File(other, "w"):
        pass
    with pytest.raises(ArchiveError, match="expected ptychopinn-network-prior of version 1, found None"):
        read_weights(other)
    write_weights(less, {name: values for name, values in weights.items() if name != "head/bias"}, {})
    with pytest.raises(ArchiveError, match="expected the arrays of the network, found others"):
        read_weights(less)
    broken.write_bytes(newer.read_bytes()[:2000])
    with pytest.raises(ArchiveError):
        read_weights(broken)

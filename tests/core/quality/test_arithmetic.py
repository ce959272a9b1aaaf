"""The arithmetic of comparisons in NumPy, by hand."""

import numpy as np
import pytest

from ptycho.core.quality.arithmetic import IN_NUMPY


@pytest.fixture
def image(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((5, 7, 2)) @ [1, 1j]


def test_precision_is_double_and_nothing_is_copied_for_it(image: np.ndarray) -> None:
    assert IN_NUMPY.held(image) is image
    assert IN_NUMPY.held(image.astype(np.complex64)).dtype == np.complex128
    assert IN_NUMPY.held(np.ones(3, np.float32)).dtype == np.float64


def test_a_transform_has_zeros_behind_the_image_and_an_inverse(image: np.ndarray) -> None:
    expected, kept = np.fft.fft2(image, (9, 10)), image.copy()
    np.testing.assert_allclose(IN_NUMPY.fft2(image, (9, 10)), expected, atol=1e-12)
    np.testing.assert_allclose(IN_NUMPY.ifft2(IN_NUMPY.fft2(image)), image, atol=1e-14)
    np.testing.assert_array_equal(image, kept)
    for shape in (None, (9, 10)):
        found = IN_NUMPY.fft2(image.copy(), shape, spent=True)
        np.testing.assert_array_equal(found, IN_NUMPY.fft2(image, shape))


def test_products_are_summed_along_rows(image: np.ndarray) -> None:
    found = IN_NUMPY.row_products([image, 2 * image], [image, image[::-1], 1j * image])
    assert found.shape == (5, 2, 3)
    np.testing.assert_allclose(found[:, 1, 0], 2 * (image**2).sum(axis=1))
    np.testing.assert_allclose(found[:, 0, 1], (image * image[::-1]).sum(axis=1))


def test_rings_are_counted_and_summed_as_far_as_is_asked() -> None:
    ring, image = np.array([[0.0, 1, 3], [1, 3, 4]]), np.array([[1.0, 2, 4], [8, 16, 32]])
    np.testing.assert_array_equal(IN_NUMPY.ring_sums([image], ring, 4), [[1, 2, 0, 2], [1, 10, 0, 20]])

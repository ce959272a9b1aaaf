"""Images of a search: sums that stay on one thread, and arrays of a device that NumPy can read."""

import numpy as np
import pytest

from ptycho.core.refinement.device.images import NumpyImages, Resident, real_dot


@pytest.mark.parametrize("dtype, tolerance", [(np.complex64, 1e-6), (np.complex128, 1e-14)])
def test_a_product_is_the_real_part_of_that_of_vectors(dtype, tolerance, rng) -> None:
    one, other = (rng.standard_normal((2, 3, 5, 7)) + 1j * rng.standard_normal((2, 3, 5, 7))).astype(dtype)
    assert real_dot(one, other) == pytest.approx(np.vdot(one, other).real, rel=tolerance)
    assert real_dot(one, 1j * one) == pytest.approx(0, abs=1e-5)


def test_what_is_small_is_not_lost_beside_what_is_large() -> None:
    """In single precision 4096 numbers beside one of 1e8 would add nothing."""
    values = np.ones(4097, np.complex64)
    values[0] = 1e4
    assert real_dot(values, values) == 1e8 + 4096


@pytest.fixture
def fetched() -> list[str]:
    return []


@pytest.fixture
def image(fetched, rng) -> Resident:
    """An image of a device that writes down when it is fetched."""
    values = (rng.standard_normal((3, 4)) + 1j * rng.standard_normal((3, 4))).astype(np.complex64)

    def fetch(value):
        fetched.append("image")
        return value[0]

    class Device(tuple):
        shape = values.shape

    return Resident(Device([values]), np.complex64, fetch)


def test_a_resident_image_tells_its_shape_from_where_it_is(image, fetched) -> None:
    assert (image.shape, image.ndim, len(image), image.nbytes, image.dtype) == ((3, 4), 2, 3, 96, np.complex64)
    assert not hasattr(image, "__array_interface__")
    assert fetched == []


def test_it_is_numpys_array_for_whoever_asks(image, fetched) -> None:
    values = np.asarray(image)
    assert values.dtype == np.complex64
    np.testing.assert_array_equal(2 * image - image / 2, 1.5 * values)
    np.testing.assert_array_equal(values - image, 0 * values)
    np.testing.assert_array_equal(abs(image), np.abs(values))
    np.testing.assert_array_equal(image.conj().real + image.real, 2 * values.real)
    np.testing.assert_array_equal(image[1:, 0], values[1:, 0])
    np.testing.assert_array_equal(np.stack([image, image])[1], values)
    np.testing.assert_array_equal(list(image), list(values))
    np.testing.assert_array_equal(np.gradient(image)[0], np.gradient(values)[0])
    assert np.vdot(image, image) == np.vdot(values, values)
    assert np.array(image, np.complex128).dtype == np.complex128
    assert fetched == ["image"]


def test_a_copy_of_it_is_ones_own(image) -> None:
    mine = np.array(image)
    mine[0] = 0
    assert np.asarray(image)[0].all()


def test_images_in_numpy(rng) -> None:
    one, other = (rng.standard_normal((2, 3, 5)) + 1j for _ in range(2))
    images = NumpyImages()
    assert images.of(one) is one
    np.testing.assert_allclose(images.blend(2, one, -3, other), 2 * one - 3 * other)
    assert images.dot([(one, other), (one, one)]) == pytest.approx((np.vdot(one, other) + np.vdot(one, one)).real)

"""A record that has everything, and the folder of the golden files."""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ptycho.cli.commands import convert
from ptycho.core.formats.record import ScanRecord
from ptycho.core.scan.stream import Frames

N, HEIGHT, WIDTH = 8, 21, 18
ENERGY_EV, DISTANCE_M, DETECTOR_PIXEL_M = 12398.419843320026, 0.8, 1e-4
PIXEL_M = 1e-7


@pytest.fixture
def golden() -> Path:
    return Path(__file__).parents[2] / "fixtures" / "formats"


@pytest.fixture
def full(rng: np.random.Generator) -> ScanRecord:
    """5 patterns of 8 x 8 counts on an object of 21 x 18, 2 modes, one bad pixel, indexes with a gap."""

    def complex_array(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)

    mask = np.ones((N, N), bool)
    mask[3, 6] = False
    return ScanRecord(
        patterns=Frames.of(rng.poisson(9, (5, N, N)).astype(np.uint16)),
        units="counts",
        xcoords=np.array([4.0, 13.5, 9.25, 4.125, 12.0]),
        ycoords=np.array([4.0, 4.5, 10.75, 16.5, 17.0]),
        indexes=np.array([0, 1, 2, 4, 7]),
        probe=complex_array(2, N, N),
        object=complex_array(HEIGHT, WIDTH),
        origin_px=(30.5, -12.25),
        mask=mask,
        energy_eV=ENERGY_EV,
        distance_m=DISTANCE_M,
        detector_pixel_m=DETECTOR_PIXEL_M,
        object_pixel_m=PIXEL_M,
        losses=(0.5, 0.125),
        metadata={"name": "star", "comments": "by hand", "nphotons": 576.0},
    )


@pytest.fixture
def command() -> Callable[..., int]:
    """`ptycho convert` with these arguments; errors come through as they are raised."""

    def run(*arguments: object) -> int:
        parser = argparse.ArgumentParser(exit_on_error=False)
        convert.add_arguments(parser)
        return convert.run(parser.parse_args([str(argument) for argument in arguments]))

    return run


@pytest.fixture
def arrays(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A result of others: two modes and an object, and three patterns."""

    def pairs(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)

    return {"probe": pairs(2, N, N), "object": pairs(HEIGHT, WIDTH), "dp": rng.poisson(9, (3, N, N)).astype(np.float32)}


@pytest.fixture
def same(arrays: dict[str, np.ndarray]) -> Callable[[ScanRecord], None]:
    """Whether a record is that result, at (4, 4), (13.5, 4.5) and (9.25, 16) pixels of 1e-7 m."""

    def check(found: ScanRecord) -> None:
        np.testing.assert_array_equal(found.probe, arrays["probe"])
        np.testing.assert_array_equal(found.object, arrays["object"])
        assert found.position_unit == "px"
        np.testing.assert_allclose(found.xcoords, [4.0, 13.5, 9.25], atol=1e-9)  # type: ignore[arg-type]
        np.testing.assert_allclose(found.ycoords, [4.0, 4.5, 16.0], atol=1e-9)  # type: ignore[arg-type]
        assert found.object_pixel_m == pytest.approx(PIXEL_M)

    return check

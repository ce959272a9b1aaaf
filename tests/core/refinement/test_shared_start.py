"""Who has the whole object and who a strip of it, and that the first alone makes it."""

import numpy as np
import pytest

from ptycho.core.geometry import ObjectFrame
from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.recording import PLAIN
from ptycho.core.physics.scan_probes import ScanProbes
from ptycho.core.physics.variable_probe import ProbeVariation
from ptycho.core.refinement.device.kernels import Point
from ptycho.core.refinement.run import refine_scan
from ptycho.core.refinement.settings import Settings
from ptycho.core.refinement.shared_start import Begun, in_strips, shared_start
from ptycho.errors import ConfigError
from ptycho.raw_data import RawData

N = 4


def scan_of(height, width=9.0, count=40):
    x, y = np.linspace(0, width, count), np.linspace(0, height, count)
    return RawData(x, y, None, None, np.ones((count, N, N), np.float32), np.ones((N, N), complex), units="amplitude")


TALL, FLAT = scan_of(60.0), scan_of(4.0, 90.0)
PATH = np.zeros((40, 2, 2)) + 20
SCANS = ScanProbes(np.ones((1, 1, N, N), complex), np.arange(40) % 2)
VARIES = ProbeVariation(np.ones((1, N, N), complex), np.ones((40, 1), complex))


@pytest.mark.parametrize(
    ("scan", "settings", "size", "expected"),
    [
        (TALL, {}, 2, True),
        (TALL, {"refine_positions": True}, 2, True),
        (TALL, {"refine_positions": True, "position_bound_px": 60.0}, 2, False),
        (TALL, {"fly_path": PATH}, 2, False),
        (FLAT, {}, 2, False),
        (TALL, {}, 1, False),
        (TALL, {}, 41, False),
        (TALL, {"refine_positions": "search"}, 2, False),
        (TALL, {"variable_probe": 1}, 2, True),
        (TALL, {"variation": VARIES}, 2, True),
        (TALL, {"variation": SCANS}, 2, True),
        (TALL, {"slices": 1}, 2, True),
        (TALL, {"slices": 2, "gap": NearField(0.3)}, 2, True),
        (TALL, {"pupil": np.ones((1, N, N))}, 2, False),
    ],
)
def test_strips_where_they_can_be_and_spare_a_quarter(scan, settings, size, expected):
    assert in_strips(scan, None, settings, size) is expected


@pytest.mark.parametrize(
    ("settings", "found"),
    [({"pupil": np.ones((1, N, N))}, "a pupil"), ({"refine_positions": "search"}, "positions that are searched")],
)
def test_what_cannot_be_cut_is_refused_by_name(settings, found, in_threads):
    with pytest.raises(ConfigError, match=f"strips: expected an object that can be cut, found {found}"):
        in_threads(2, lambda each: refine_scan(TALL, processes=each, strips=True, **settings))


def settings_of(strips):
    fixed = ("amplitude", False, False, 2.0, False, None, 0.0, 5, 1e-4, 0, None)
    return Settings(10, *fixed, strips=strips)


@pytest.mark.parametrize("strips", [None, True, False])
def test_the_first_alone_makes_the_object(strips, in_threads):
    frame, called = ObjectFrame(65, 14, -2, -2), []
    image = np.arange(65.0 * 14).reshape(65, 14)

    def begun():
        called.append(1)
        nothing = np.zeros((N, N))
        point = Point(image, np.ones((1, N, N)), TALL.xcoords + 2, TALL.ycoords + 2, np.ones(40), nothing)
        return Begun(True, PLAIN, point, frame)

    made = in_threads(2, lambda each: shared_start(begun, TALL, settings_of(strips), each))
    assert called == [1]
    for flat, _, point, found, share in made:
        assert flat and found == frame and share.whole is (strips is False)
        held = slice(share.first_row, share.first_row + len(point.object))
        assert np.array_equal(point.object, image[held])
        assert len(point.object) == 65 if share.whole else len(point.object) < 40

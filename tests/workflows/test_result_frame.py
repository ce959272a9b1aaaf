"""Where a result lies: the three rules, with positions that a person can check."""

import numpy as np

from ptycho.core.geometry import ObjectFrame
from ptycho.raw_data import RawData
from ptycho.workflows.result_frame import frame_of, scan_frame


def scan_of(x: list[float], y: list[float], shape: tuple[int, int] | None = None) -> RawData:
    return RawData(
        np.array(x),
        np.array(y),
        None,
        None,
        np.ones((len(x), 64, 64), np.float32),
        np.ones((64, 64), np.complex64),
        np.zeros(len(x)),
        None if shape is None else np.ones(shape, np.complex64),
    )


def test_the_object_of_the_scan_comes_first() -> None:
    scan = scan_of([40, 60], [40, 50], (100, 120))
    assert frame_of(scan, {"object_shape": [7, 7], "limits": []}) == ObjectFrame(100, 120, 0, 0)


def test_the_scan_of_the_training_lies_in_the_object_that_it_had() -> None:
    trained, unseen = scan_of([40, 60], [40, 50], (100, 120)), scan_of([30, 50], [45, 55])
    known = scan_frame(trained, unseen)
    for x, y in (([40, 60], [40, 50]), ([30, 50], [45, 55]), ([30, 60], [40, 55])):
        assert frame_of(scan_of(x, y), known) == ObjectFrame(100, 120, 0, 0)
    assert frame_of(scan_of([40, 61], [40, 50]), known) != ObjectFrame(100, 120, 0, 0)


def test_else_the_middle_is_that_of_the_positions() -> None:
    assert frame_of(scan_of([40, 60], [40, 50]), None) == ObjectFrame(90, 100, 0, 0)
    far = frame_of(scan_of([1040, 1060], [40, 50]), None)
    assert far == ObjectFrame(90, 2100 - 2 * 1008, 1008, 0)
    assert far.x0 + far.width / 2 == 1050

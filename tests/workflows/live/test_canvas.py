"""A canvas grows without moving what is on it."""

from __future__ import annotations

import numpy as np

from ptycho.core.geometry import ObjectFrame
from ptycho.core.physics.patches import assemble
from ptycho.core.stitching.stitch import probe_weight
from ptycho.workflows.live.canvas import Canvas


def test_it_grows_to_every_side_and_keeps_what_is_there() -> None:
    canvas, probe = Canvas(), np.ones((1, 8, 8), np.complex64)
    canvas.reach(np.array([4.0]), np.array([4.0]), probe)
    assert canvas.frame == ObjectFrame(8, 8, 0, 0)
    canvas.object[:] = 2j
    canvas.reach(np.array([-10.5, 30.0]), np.array([4.0, 40.0]), probe)
    frame = canvas.frame
    assert frame.x0 <= -15 and frame.y0 <= 0 and frame.x0 + frame.width >= 34 and frame.y0 + frame.height >= 44
    inside = canvas.object[-frame.y0 : 8 - frame.y0, -frame.x0 : 8 - frame.x0]
    assert (inside == 2j).all()
    np.testing.assert_allclose(canvas.object, 2j)  # the rest begins like what is there
    weight = probe_weight(probe)
    x, y = frame.local([4.0, -10.5, 30.0], [4.0, 4.0, 40.0])
    np.testing.assert_allclose(canvas.light, assemble(np.broadcast_to(weight, (3, 8, 8)), x, y, frame.shape))
    before = canvas.frame
    canvas.reach(np.array([5.0]), np.array([6.0]), probe)
    canvas.reach(np.zeros(0), np.zeros(0), probe)
    assert canvas.frame == before


def test_an_earlier_object_is_where_it_was() -> None:
    canvas, image = Canvas(), np.full((20, 30), 3 + 0j, np.complex64)
    light = np.zeros((20, 30), np.float32)
    light[2:, 3:], image[:2] = 1, 9
    canvas.take(image, light, ObjectFrame(20, 30, -5, 7))
    canvas.reach(np.array([-7.0]), np.array([12.0]), np.ones((1, 8, 8)))
    frame = canvas.frame
    assert canvas.object[10 - frame.y0, 0 - frame.x0] == 3 and canvas.object[7 - frame.y0, 0 - frame.x0] == 3
    assert canvas.light.sum() == 64

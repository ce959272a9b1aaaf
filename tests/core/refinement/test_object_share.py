"""A search on strips of an object is the search on the whole of it."""

import numpy as np
import pytest

from ptycho.core.physics.fly_scan import AT_REST
from ptycho.core.refinement.run import refine_scan
from ptycho.core.simulation.plan import make_scan
from ptycho.raw_data import RawData


def scan_of(step, jitter, stretched=(1.0, 1.0)):
    made = make_scan("lines", 120, N=16, step=step, jitter=jitter, photons=1e6, seed=3)
    x, y = (60 + (each - 60) * by for each, by in zip((made.xcoords, made.ycoords), stretched, strict=True))
    return RawData(x, y, None, None, made.diffraction, made.probe, units="amplitude")


def moved_probe(scan):
    return {"probe": np.roll(scan.probeGuess, (-3, 2), (-2, -1)), "iterations": 10}


def on_the_way(scan):
    path = np.tile(AT_REST, (len(scan), 2, 1))
    path[:, 1] = -2.0, 3.0
    return {"fly_path": path, "refine_probe": False}


WHOLE_RUNS = {
    "a stage that is off": (
        lambda: scan_of(4.0, 1.0, (0.98, 1.02)),
        lambda _: {"refine_positions": "stage", "refine_probe": False},
    ),
    "a probe beside its place": (lambda: scan_of(6.0, 1.0), moved_probe),
    "a raster": (lambda: scan_of(5.0, 0.0), lambda _: {"iterations": 12}),
    "a scan that flies": (lambda: scan_of(6.0, 1.0), on_the_way),
}


@pytest.mark.parametrize("kind", WHOLE_RUNS)
def test_what_is_done_to_the_whole_object_is_done_to_its_strips(kind, in_threads):
    make, settings_of = WHOLE_RUNS[kind]
    scan = make()
    settings = {"iterations": 8, "tolerance": 0.0, "patience": 99, "dtype": np.float64, **settings_of(scan)}
    alone = refine_scan(scan, **settings)
    several = in_threads(3, lambda each: refine_scan(scan, processes=each, strips=True, **settings))[0]
    np.testing.assert_allclose(several.error_history, alone.error_history, rtol=1e-9)
    np.testing.assert_allclose(several.gauge.grid, alone.gauge.grid, rtol=1e-6)
    assert several.gauge.shift == alone.gauge.shift
    for name in ("object", "probe", "xcoords", "ycoords"):
        one, other = getattr(several, name), getattr(alone, name)
        assert np.linalg.norm(one - other) <= 1e-5 * np.linalg.norm(other), name
    if kind == "a stage that is off":
        assert np.abs(alone.ycoords + alone.frame.y0 - scan.ycoords).max() > 0.1
    if kind == "a probe beside its place":
        assert alone.gauge.shift != (0, 0)
    if kind == "a raster":
        assert alone.gauge.grid > 0

"""A search on strips of an object is the search on the whole of it."""

import numpy as np
import pytest

from ptycho.core.geometry import ObjectFrame, object_frame
from ptycho.core.physics.fly_scan import AT_REST
from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.scan_probes import ScanProbes
from ptycho.core.physics.variable_probe import ProbeVariation, spanned
from ptycho.core.refinement import run
from ptycho.core.refinement.descent import Descent
from ptycho.core.refinement.priors.object_prior import Belief, ObjectPrior, Sample
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


GAP = NearField(0.15)
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


def variation_of(scan):
    """Two modes with coefficients that follow the place and the number of a pattern, as probes do that go aside."""
    probe = np.asarray(scan.probeGuess)
    vectors = np.stack([probe, np.roll(probe, 1, axis=-1), np.roll(probe, 1, axis=-2)])
    place = np.stack([scan.xcoords - 60, scan.ycoords - 60], axis=1) / 60
    weights = np.concatenate([np.ones((len(scan), 1)), 0.1 * place + 0.2j * place[:, ::-1]], axis=1)
    vectors, coefficients, _ = spanned(vectors, weights)
    return ProbeVariation(vectors[1:], coefficients)


def probes_of(scan, number):
    """The probes of three scans, and which of them every pattern is of."""
    probe = np.asarray(scan.probeGuess)[None]
    return {"variation": ScanProbes(np.stack([1.2 * np.roll(probe, 1, axis=-1), 0.7 * probe]), number)}


def prior_of(scan, name):
    """What is thought of an object in other pixels than those of a search."""
    shape, frame = (100, 90), ObjectFrame(100, 90, 20, 15)
    y, x = np.indices(shape)
    belief = Belief(np.exp(0.03j * x), 0.5 + 0.01 * y, frame) if name == "network" else None
    sample = Sample((x - 40) ** 2 + (y - 50) ** 2 < 900, frame) if name == "support" else None
    return {"object_prior": ObjectPrior(name, 0.002, sample, belief)}


def nearby(scan):
    """A detector near the sample, that blurs and has a background, under two modes."""
    scan.metadata = NearField(0.3).noted()
    probe = np.asarray(scan.probeGuess)
    seen = {"background": np.full((16, 16), 0.1), "blur": 0.5, "refine_background": "smooth", "refine_blur": True}
    return {"probe": np.stack([probe, 0.3 * np.roll(probe, 2, axis=0)]), **seen}


TWO = {"slices": 2, "gap": GAP}
CASES = {
    "slices": lambda _: {"slices": 3, "gap": GAP, "refine_thickness": True},
    "slices, the object's brightness": lambda _: TWO | {"scale": "object", "refine_flux": True},
    "slices, a probe beside its place": lambda scan: TWO | moved_probe(scan),
    "slices of a scan that flies": lambda scan: TWO | on_the_way(scan),
    "a probe that varies": lambda scan: {"variation": variation_of(scan), "variable_probe": 3, "iterations": 40},
    "a probe that varies by noise": lambda scan: {"variation": variation_of(scan), "variable_probe": 2},
    "several scans": lambda scan: probes_of(scan, np.arange(len(scan)) % 3) | {"refine_flux": True},
    "several scans, one above the other": lambda scan: probes_of(scan, (scan.ycoords // 40).astype(int)),
    "several scans that fly": lambda scan: probes_of(scan, np.arange(len(scan)) % 3) | on_the_way(scan),
    "a total variation": lambda scan: prior_of(scan, "tv"),
    "a total variation, the object's brightness": lambda scan: prior_of(scan, "tv") | {"scale": "object"},
    "few pixels, a known probe": lambda scan: prior_of(scan, "l1") | {"refine_probe": False},
    "an object that absorbs, batches": lambda scan: prior_of(scan, "absorbing") | {"batch_size": 100},
    "a pure phase, a probe that varies": lambda scan: prior_of(scan, "phase") | {"variation": variation_of(scan)},
    "a support": lambda scan: prior_of(scan, "support"),
    "what a network thinks": lambda scan: prior_of(scan, "network"),
    "a near field": nearby,
    "a probe that varies smoothly": lambda scan: {"variable_probe": 2, "variable_probe_smooth": 9.0},
}


@pytest.fixture
def first_steps(monkeypatch):
    """What a process comes by in the first steps of a search: its first row, numbers and objects of every step."""

    def looked_at(problem, point, *_):
        share, steps = problem._passes.share, []
        batch = None if problem.batches == 1 else 0
        for iteration in (0, 3, 4, 6) if len(point.variation) else (0, 3, 4):
            error, gradient = problem.gradient(point, batch)
            mapped = problem.precondition(point, gradient, iteration)
            curvature, slope = problem.curvature(point, mapped, batch), problem.dot(gradient, mapped)
            stepped = problem.step(point, problem.combine(mapped, 0.0, mapped), slope / curvature)
            point = problem.adjust(stepped, iteration)
            numbers = [
                error,
                slope,
                curvature,
                *(values for name, values in point._asdict().items() if name != "object"),
            ]
            steps.append((numbers, [gradient.object, mapped.object, point.object]))
        seen[share.processes.rank] = share.first_row, steps
        return Descent(point, [problem.error(point)])

    seen = {}
    monkeypatch.setattr(run, "descend", looked_at)
    return seen


def assert_alike(some, others, most):
    for one, other in zip(some, others, strict=True):
        assert np.linalg.norm(np.asarray(one) - other) <= most * np.linalg.norm(other)


@pytest.mark.parametrize("kind", CASES)
def test_every_step_on_strips_is_that_on_the_whole_object(kind, first_steps, rng, in_threads):
    scan = scan_of(6.0, 1.0)
    settings = {"iterations": 9} | CASES[kind](scan)
    frame = object_frame(scan.xcoords, scan.ycoords, 16).widened(3)
    noise = rng.standard_normal((2, settings.get("slices", 1), *frame.shape))
    start = (1 + 0.1 * (noise[0] + 1j * noise[1])).squeeze()
    settings = {"frame": frame, "dtype": np.float64, **settings}
    alone = refine_scan(scan, start, **settings)
    _, expected = first_steps.pop(0)
    several = in_threads(3, lambda each: refine_scan(scan, start, processes=each, strips=True, **settings))
    for first_row, steps in first_steps.values():
        for k, ((found, strips), (numbers, objects)) in enumerate(zip(steps, expected, strict=True)):
            most = 1e-13 if k else 1e-14  # what rounding makes of it grows from step to step
            height = strips[0].shape[-2]
            assert height < 0.7 * frame.height
            assert_alike(found, numbers, most)
            assert_alike(strips, [whole[..., first_row : first_row + height, :] for whole in objects], most)
    np.testing.assert_allclose(several[0].error_history, alone.error_history, rtol=1e-13)
    for name in ("slices", "object", "probe"):
        if getattr(alone, name) is not None:
            np.testing.assert_allclose(getattr(several[0], name), getattr(alone, name), rtol=1e-6, atol=1e-7)
    if "beside" in kind:
        assert alone.gauge.shift != (0, 0)


@pytest.mark.parametrize("engine", ["pytorch", "tensorflow"])
@pytest.mark.parametrize("kind", ["slices", "a pure phase, a probe that varies", "several scans"])
def test_an_engine_finds_on_strips_what_it_finds_on_the_whole_object(kind, engine, in_threads):
    scan = scan_of(6.0, 1.0)
    settings = {**CASES[kind](scan), "engine": engine, "iterations": 7, "tolerance": 0.0, "patience": 99}
    alone = refine_scan(scan, **settings)
    assert_alike_in_threads(scan, settings, alone, in_threads)


def assert_alike_in_threads(scan, settings, alone, in_threads):
    several = in_threads(2, lambda each: refine_scan(scan, processes=each, strips=True, **settings))[0]
    np.testing.assert_allclose(several.error_history, alone.error_history, rtol=1e-5)
    for name in ("object", "probe"):
        one, other = getattr(several, name), getattr(alone, name)
        assert np.linalg.norm(one - other) <= 1e-5 * np.linalg.norm(other), name


@pytest.mark.parametrize("kind", ["a probe that varies", "several scans", "a support"])
def test_strips_stay_on_a_device_that_is_not_the_host(kind, in_threads, monkeypatch):
    """Tensors of the host stand in for those of a device."""
    from ptycho_torch.images import TorchImages

    scan = scan_of(6.0, 1.0)
    settings = {**CASES[kind](scan), "engine": "pytorch", "iterations": 7, "tolerance": 0.0, "patience": 99}
    alone = refine_scan(scan, **settings)
    filtered = []

    def counted(images, values, length):
        filtered.append(len(values))
        return transformed(images, values, length)

    transformed = TorchImages.row_spectra
    monkeypatch.setattr(TorchImages, "row_spectra", counted)
    monkeypatch.setattr(TorchImages, "on_host", property(lambda _: False, lambda *_: None), raising=False)
    assert_alike_in_threads(scan, settings, alone, in_threads)
    # amplitude and phase at once, of every process, in the precision of an iteration or more
    assert filtered.count(2) == len(filtered) >= 2 * 7

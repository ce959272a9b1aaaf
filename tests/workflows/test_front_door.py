"""The whole way from a scan to a judged object, in both backends and from every beginning."""

from dataclasses import replace

import numpy as np
import pytest

import ptycho
from ptycho.config.options import IterationOptions
from ptycho.errors import ConfigError, DataError
from ptycho.raw_data import RawData
from ptycho.workflows.front_door import Request, _Run, reconstruct_scan

QUICK = IterationOptions(iterations=6, modes=None, refine_probe=True)


def test_what_was_decided_is_told_and_kept(scan):
    told = []
    found = reconstruct_scan(scan, Request("pytorch", QUICK, tell=told.append))
    assert tuple(told) == found.told
    assert told[0] == "Checks: nothing wrong found" and told[1].startswith(
        "Method: iteration alone (neighbours overlap"
    )
    assert found.reconstruction.method == "refined" and found.reconstruction.trust is not None
    assert found.diagnosis.healthy and found.state is None


def test_both_backends_agree(scan):
    made = [reconstruct_scan(scan, Request(name, QUICK)).reconstruction for name in ("pytorch", "tensorflow")]
    lit = made[0].coverage > 0.1 * made[0].coverage.max()  # what is in the dark is a matter of rounding
    assert np.linalg.norm((made[0].object - made[1].object)[lit]) < 1e-3 * np.linalg.norm(made[0].object[lit])


def test_warnings_are_told_and_faults_stop(scan):
    scan.xcoords = np.random.default_rng(0).permutation(scan.xcoords)
    with pytest.raises(DataError, match=r"order: .* Mend it: "):
        reconstruct_scan(scan, Request("pytorch", QUICK))
    told = reconstruct_scan(scan, Request("pytorch", QUICK, force=True)).told
    assert any(line.startswith("order: ") and line.endswith("(--force: gone on all the same)") for line in told)


def test_goes_on_from_an_object_and_from_a_result(scan):
    first = ptycho.reconstruct(scan, iterations=6, modes=None)
    second = ptycho.reconstruct(scan, iterations=2, modes=None, start=first)
    assert second.error_history[0] == pytest.approx(first.trust.fourier_error, rel=1e-3)


def test_error_bars_are_of_what_iteration_alone_has_found(scan):
    first = ptycho.reconstruct(scan, iterations=4, modes=None)
    further = ptycho.reconstruct(scan, iterations=2, modes=None, start=first, uncertainty=True)
    assert further.uncertainty.amplitude.shape == first.object.shape
    assert any(line.startswith("Uncertainty by counts drawn anew") for line in further.provenance["told"])
    for known in (first.object, replace(first, method="network+refined")):
        with pytest.raises(ConfigError, match=r"--uncertainty: expected iteration alone, found a network"):
            ptycho.reconstruct(scan, iterations=2, start=known, uncertainty=True)


def test_what_slices_lack_is_said_before_the_scan_is_looked_at(scan):
    told = []
    with pytest.raises(ConfigError, match=r"slices=2: expected the thickness of the sample, found none"):
        reconstruct_scan(scan, Request("pytorch", replace(QUICK, slices=2), tell=told.append))
    assert not told


def test_settings_are_those_of_the_iteration(scan):
    with pytest.raises(ConfigError, match="reconstruct: unknown key 'iteration'; did you mean iterations"):
        ptycho.reconstruct(scan, iteration=3)


@pytest.mark.slow
@pytest.mark.usefixtures("without_graphs")
@pytest.mark.parametrize("backend", ["pytorch", "tensorflow"])
def test_from_a_network_that_is_trained_first(backend, scan, tmp_path):
    found = ptycho.reconstruct(scan, iterations=4, modes=None, train=2.0, backend=backend, output_dir=tmp_path / "run")
    assert found.method == "network+refined" and found.network_object is not None
    assert {"inference", "refinement"} <= found.timings.keys()  # one pass on the canvas: nothing is stitched
    assert (tmp_path / "run" / "wts.h5.zip").exists() and (tmp_path / "run" / "network_phase.png").exists()
    assert not (tmp_path / "run" / "state").exists()
    again = ptycho.reconstruct(scan, iterations=4, modes=None, model=tmp_path / "run", backend=backend)
    assert np.allclose(again.network_object, found.network_object, atol=1e-4)


def test_a_network_is_told_of_the_beam_before_anything_is_iterated():
    """By the trend of the patterns, or by what the scan knows; not where it is the sample."""
    order, places = np.arange(121) / 120, 20.0 + np.arange(121)
    left = np.where(order < 0.5, 1.0, 0.3)
    scan, dimmed = (
        RawData(
            places, places, None, None, np.sqrt(light)[:, None, None] * np.ones((121, 16, 16)), None, units="amplitude"
        )
        for light in (np.ones(121), left)
    )
    told = _Run(dimmed, Request(backend="pytorch"))._as_known
    assert np.abs(told.flux / left * left.mean() - 1).mean() < 0.1 and told.background is None
    known = dimmed.with_recording(np.full(121, 2.0), np.ones((16, 16)))
    told = _Run(known, Request(backend="pytorch"))._as_known
    assert (told.flux == 2).all() and (told.background == 1).all()
    for blur, expected in ((0.0, 0.4), (0.9, 0.9), ("find", 0.4)):  # that given, else what the scan knows
        request = Request(backend="pytorch", iteration=IterationOptions(detector_blur=blur))
        assert _Run(known.with_recording(blur=0.4), request)._as_known.blur == expected
    assert _Run(scan, Request(backend="pytorch"))._as_known.flux is None
    left = Request(backend="pytorch", iteration=IterationOptions(refine_flux=False))
    assert _Run(dimmed, left)._as_known.flux is None

"""Error bars of a pass: against the truth, and of a wrong model. A few iterations from a flat object are the pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import ptycho
from ptycho.core.geometry import reframe
from ptycho.core.quality.uncertainty import without_gauge
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.result import reconstruction_of
from ptycho.core.refinement.run import refine_scan
from ptycho.core.refinement.trust import ON_HOST
from ptycho.errors import ConfigError, DataError
from ptycho.raw_data import RawData
from ptycho.workflows.backend import BackendName
from ptycho.workflows.run_options import RunOptions
from ptycho.workflows.trust import scan_trust
from ptycho.workflows.validation.pass_uncertainty import check_pass_uncertainty, measure_pass_uncertainty

Simulated = Callable[..., RawData]

BACKENDS: tuple[BackendName, ...] = ("pytorch", "tensorflow")
REFINE = partial(refine_scan, dtype=np.float32)


def short(scan: RawData) -> Reconstruction:
    """A pass that is far from the end."""
    found = REFINE(scan, None, 7, refine_probe=False)
    trust = scan_trust(found.object, found.probe, found.xcoords, found.ycoords, scan, 1.0, ON_HOST)
    return replace(reconstruction_of(found, trust), method="network")


def measured(scan: RawData) -> Reconstruction:
    """A pass with bars."""
    found = short(scan)

    def passed(drawn: RawData) -> np.ndarray:
        made = short(drawn)
        return reframe(made.object, made.frame, found.frame, 1)

    return replace(found, uncertainty=measure_pass_uncertainty(found, scan, REFINE, passed))


def within(scan: RawData, found: Reconstruction) -> list[float]:
    """Shares of amplitude within the bar and the wide one, and of the phase."""
    truth, known = scan.objectGuess, found.uncertainty
    assert truth is not None and known is not None
    frame, inside = found.frame, known.known
    target = truth[frame.y0 : frame.y0 + frame.height, frame.x0 : frame.x0 + frame.width]
    brought = without_gauge(found.object, target, np.where(inside, found.coverage, 0), free=True)
    errors = abs(abs(brought) - abs(target)), abs(np.angle(brought * target.conj()))
    bars = (known.amplitude, known.wide_amplitude), (known.phase, known.wide_phase)
    return [
        float(np.mean((error < times * bar)[inside]))
        for error, (bar, wide) in zip(errors, bars, strict=True)
        for times in (1, wide)
    ]


@pytest.mark.parametrize("photons", [1e4, 1e7])
def test_as_many_pixels_lie_within_the_bars_as_they_say(simulated: Simulated, photons: float) -> None:
    scan = simulated(photons=photons, kind="dead_leaves", shape=(96, 96))
    known = measured(scan)
    bars = known.uncertainty
    assert bars is not None and bars.of == "pass" and bars.misfit == pytest.approx(1, abs=0.06)
    assert within(scan, known) == pytest.approx([0.68, 0.95, 0.68, 0.95], abs=0.06)
    assert "68 % of the pixels lie within one such bar of the truth" in bars.summary
    assert photons < 1e7 or bars.median_phase_rad > 0.02, "the error of the pass, many times the noise"


def test_bars_of_a_wrong_model_do_not_hold(simulated: Simulated) -> None:
    scan = simulated(photons=1e6)
    wrong = scan.replaced(xcoords=scan.xcoords + np.random.default_rng(0).normal(0, 1, len(scan)))
    known = measured(wrong).uncertainty
    assert known is not None and not known.holds
    assert "the model is wrong, or the refinement not at its end" in known.summary
    assert known.summary.startswith("does not hold; were the model right it would be")


@pytest.fixture(scope="module")
def scan() -> RawData:
    """Patterns as the weights of the package take them."""
    return ptycho.simulate("lines", photons=1e6, N=64, shape=(112, 112), step=8.0, seed=1)


def test_the_pass_of_a_network_has_bars(scan: RawData) -> None:
    found = ptycho.infer("universal", scan, uncertainty=True, backend="pytorch")
    known = found.uncertainty
    assert found.method == "network" and found.timings["uncertainty"] > 0
    assert known is not None and known.holds and known.of == "pass"
    assert within(scan, found) == pytest.approx([0.68, 0.95, 0.68, 0.95], abs=0.08)


@pytest.mark.slow
def test_both_backends_say_the_same(scan: RawData) -> None:
    bars = [ptycho.infer("universal", scan, uncertainty=True, backend=name).uncertainty for name in BACKENDS]
    for kind, alike in (("median_amplitude", 0.02), ("median_phase_rad", 0.02), ("wide_amplitude", 0.08)):
        first, second = (getattr(one, kind) for one in bars)
        assert first == pytest.approx(second, rel=alike), kind  # counts that are drawn from two rounded means differ


def test_what_has_no_bars_is_refused_by_name(scan: RawData) -> None:
    with pytest.raises(ConfigError, match="--uncertainty: expected one pass of the network, found 5 iterations"):
        ptycho.infer("universal", scan, 5, uncertainty=True)
    with pytest.raises(ConfigError, match="--uncertainty: expected no statistics of patches"):
        check_pass_uncertainty(scan, RunOptions(diagnostics=object()))  # type: ignore[arg-type]
    unknown = scan.replaced(diff3d=0.0123 * scan.amplitude(), units="amplitude", metadata={})
    with pytest.raises(DataError, match="--uncertainty: expected counts, or amplitudes with the dose"):
        ptycho.infer("universal", unknown, uncertainty=True)

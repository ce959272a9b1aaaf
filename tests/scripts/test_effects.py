"""The benchmark of effects beside a peer: what is planted, what is switched on, and how curves are compared."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ptycho.core.refinement.run import refine_scan

SCRIPTS = Path(__file__).parents[2] / "scripts" / "benchmarks"


@pytest.fixture
def bench(monkeypatch):
    """The benchmark's modules, found as a script finds those beside it."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import effects
    import peer_ptychi

    return SimpleNamespace(effects=effects, script=peer_ptychi)


def test_both_take_as_long_to_the_least_error_of_the_peer(bench):
    """Not to its last one, which may be worse."""
    found = bench.effects.compared([(1, 1.0, 0.4), (2, 2.0, 0.1)], [(1, 10.0, 0.3), (2, 20.0, 0.2), (3, 30.0, 0.25)])
    assert (found["least"], found["peer_until"], found["peer"]) == (0.2, 20.0, 0.25)
    assert found["ours_until"] == pytest.approx(1.5)
    assert found["times"] == pytest.approx(20 / 1.5)
    assert bench.effects.compared([(1, 1.0, 0.4)], [(1, 10.0, 0.3)])["times"] is None


def test_the_table_tells_of_a_peer_that_is_not_there_and_of_an_error_never_reached(bench):
    curve, peer = [(3, 1.0, 0.5), (5, 2.0, 0.4)], [(8, 9.0, 0.3)]
    alone = {"effect": "modes", "note": "", "curve": curve}
    beside = {**alone, "effect": "opr", "note": "so", **bench.effects.compared(curve, peer)}
    *_, first, second = bench.effects.table([alone, beside]).splitlines()
    assert first == "| modes | 0.4000 (5, 2.0 s) | | | | | |"
    assert second == "| opr (so) | 0.4000 (2.0 s) | 0.3000 (9.0 s) | 0.3000 | 9.0 | never | |"


def test_a_scan_has_the_strongest_mode_alone_and_what_it_was_planted_with(bench):
    """The probe of the file carries all of the light; the truth of a thick sample is the product of its slices."""
    small = {"shape": (48, 48), "N": 16, "step": 8}
    effects = bench.effects.EFFECTS
    for name in ("modes", "slices"):
        effect = effects[name]
        scan = bench.effects.planted(replace(effect, planted={**effect.planted, **small}))
        assert scan.probeGuess.shape == (16, 16)
        assert scan.objectGuess.shape == (48, 48)
        light = np.square(scan.amplitude(), dtype=float).sum(axis=(1, 2)).mean()
        assert light == pytest.approx(1e6, rel=0.01)


def test_ours_begins_with_the_same_probe_and_is_looked_at_along_the_way(bench):
    small = {"shape": (40, 40), "N": 16, "step": 6}
    effect = replace(bench.effects.EFFECTS["modes"], planted={"modes": (0.8, 0.1, 0.1), **small}, marks=(1, 4))
    scan = bench.effects.planted(effect)
    found = bench.effects.ours(scan, effect, refine_scan)
    (first, _, before), (last, _, after) = bench.effects.curve_of(found, scan)
    assert (first, last) == (1, 4)
    assert after < before < math.inf
    assert found[-1].probe.shape == (3, 16, 16)


def test_the_physics_of_the_peer_is_switched_on_by_its_names(bench):
    """Of a stand-in for its options: nothing is on unless it is asked for."""

    def options():
        return SimpleNamespace(
            object_options=SimpleNamespace(slice_spacings_m=None),
            data_options=SimpleNamespace(fft_shift=True, free_space_propagation_distance_m=math.inf),
            probe_position_options=SimpleNamespace(
                optimization_plan=SimpleNamespace(),
                correction_options=SimpleNamespace(),
                affine_transform_constraint=SimpleNamespace(),
            ),
            reconstructor_options=SimpleNamespace(forward_model_options=SimpleNamespace()),
        )

    parse = bench.script.parser().parse_args
    plain, asked = options(), options()
    bench.script.set_physics(plain, parse(["a", "b"]))
    told = ["--positions", "affine", "--slice-gap-m", "1e-6", "--distance-m", "2e-3", "--blur-px", "0.8"]
    bench.script.set_physics(asked, parse(["a", "b", *told]))
    positions = asked.probe_position_options
    assert positions.optimizable and positions.affine_transform_constraint.enabled
    assert asked.object_options.slice_spacings_m == [1e-6]
    assert (asked.data_options.free_space_propagation_distance_m, asked.data_options.fft_shift) == (2e-3, False)
    forward = (each.reconstructor_options.forward_model_options for each in (asked, plain))
    assert [each.diffraction_pattern_blur_sigma for each in forward] == [0.8, None]
    assert not plain.probe_position_options.optimizable
    assert plain.object_options.slice_spacings_m is None and plain.data_options.fft_shift

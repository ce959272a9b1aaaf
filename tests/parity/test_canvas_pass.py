"""A pass on the canvas of a scan: its stages are those of a group of all patterns, and both backends agree on it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from ptycho.config.config import InferenceConfig
from ptycho.core.geometry import ObjectFrame
from ptycho.core.physics import group_gradient as oracle
from ptycho.core.physics.diffraction import diffract
from ptycho.core.physics.group_gradient import FIELD_FLOOR, worked_margin
from ptycho.core.physics.patches import extract_rounded
from ptycho.core.quality.score import score
from ptycho.core.simulation.objects import make_object
from ptycho.raw_data import RawData
from ptycho.tf import backend as tensorflow
from ptycho.workflows.networks.canvas_pass import Canvas, staged
from ptycho.workflows.reconstruct import reconstruct
from ptycho.workflows.run_options import NEUTRAL_RUN
from ptycho_torch import backend as pytorch

SIZE, K, COUNT = 88, 0.5, 25
SETTINGS = {"architecture": "unrolled", "gridsize": 2}


def scan_of(model: Any, rng: np.random.Generator, **known: Any) -> tuple[RawData, np.ndarray]:
    """Patterns between pixels of one object, as bright as a model takes them to be, and the object."""
    probe = model.probe.file_units()
    truth = float(model.object_scale.detach()) * make_object("lines", (SIZE, SIZE), rng)
    lattice = 4 * np.stack(np.meshgrid(np.arange(5), np.arange(5))).reshape(2, COUNT) - 8
    x, y = SIZE / 2 + lattice + rng.uniform(-1.4, 1.4, (2, COUNT))
    patches, dx, dy = extract_rounded(truth, x, y, 64)
    flux = known.get("flux", np.ones(COUNT))
    amplitudes = np.sqrt(flux[:, None, None] * diffract(probe, patches, dx, dy)).astype(np.float32)
    return RawData(x, y, None, None, amplitudes, probe, objectGuess=truth, units="amplitude", **known), truth


@pytest.mark.parametrize("dtype", ["float32"])
@pytest.mark.parametrize("known", ["nothing", "mask", "flux"])
def test_stages_are_those_of_a_group_of_all_patterns(make_twins, agree, dtype, known, rng) -> None:
    pair = make_twins(dtype, 1, SETTINGS)
    probe = pair.torch.probe.file_units()
    what = {"mask": {"mask": rng.random((64, 64)) > 0.1}, "flux": {"flux": rng.uniform(0.6, 1.4, COUNT)}}.get(known, {})
    data, _ = scan_of(pair.torch, rng, **what)
    config, frame = InferenceConfig(model=pair.torch.config), ObjectFrame(SIZE, SIZE, 0, 0)
    start = np.full(frame.shape, complex(pair.torch.object_scale.detach()), np.complex64)
    found = {}
    for backend, model in ((pytorch, pair.torch), (tensorflow, pair.tensorflow)):
        network = backend.scan_network(model, config, NEUTRAL_RUN)
        canvas = Canvas(network.kernels(FIELD_FLOOR / network.amplitude_scale**2), data, probe, frame)
        found[backend.name] = staged(network, canvas, start)
    positions = np.stack([data.xcoords, data.ycoords], axis=1)[None] - SIZE / 2
    whole, rest = oracle.split_positions(-positions)
    model, net = pair.torch, pair.torch.network
    net.spec = replace(net.spec, descent=0)
    probes = oracle.shifted_probes(model.probe().detach().numpy(), rest).astype(np.complex64)
    flux = None if "flux" not in what else torch.as_tensor(what["flux"][None, :, None, None], dtype=torch.float32)
    with torch.no_grad():
        expected = net(
            torch.as_tensor(K * data.amplitude())[None],
            torch.as_tensor(probes),
            torch.as_tensor(whole, dtype=torch.float32),
            SIZE,
            worked_margin(SIZE, 64, model.light),
            torch.as_tensor(what.get("mask", np.ones((64, 64), bool))),
            flux=flux,
        )[0]
    expected = (model.object_scale.detach() * expected).numpy()
    assert np.std(expected) > 0.05, "the network says something"
    for name, image in found.items():
        agree("network", f"stages on one canvas, {known}, {name}", image, expected)


@pytest.mark.parametrize("dtype", ["float32"])
def test_whole_passes_agree(make_twins, dtype, rng) -> None:
    """With weights by chance corrections explain nothing, and the canvas without them is the object."""
    pair = make_twins(dtype, 1, SETTINGS)
    data, truth = scan_of(pair.torch, rng)
    config = InferenceConfig(model=pair.torch.config)
    made = [
        reconstruct(backend, model, data, config, NEUTRAL_RUN)  # type: ignore[arg-type]
        for backend, model in ((pytorch, pair.torch), (tensorflow, pair.tensorflow))
    ]
    probe = pair.torch.probe.file_units()
    ours, theirs = (
        np.sqrt(diffract(probe, *extract_rounded(each.object, each.xcoords, each.ycoords, 64))) for each in made
    )
    assert np.linalg.norm(ours - theirs) < 3e-3 * np.linalg.norm(theirs), "what the patterns tell"
    lit = made[0].coverage > 0.02 * made[0].coverage.max()
    ours, theirs = (each.object[lit] for each in made)
    assert np.linalg.norm(ours - theirs) < 1e-2 * np.linalg.norm(theirs), "iterations let rounding into the rest"
    for each in made:
        assert each.spread is None and not each.synchronised and set(each.timings) >= {"inference"}
        assert each.coverage.max() > 1 and (each.object[each.coverage == 0] == 1).all()
        error, flat = (
            score(image, truth, (36, 52, 36, 52)).complex_nrmse
            for image in (each.object, np.full_like(truth, np.abs(truth).mean()))
        )
        assert error < 0.7 * flat

"""Groups that a network sees at one energy: the same in both frameworks, and nothing but the unit follows it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
import torch

from ptycho.config.config import TrainingConfig
from ptycho.core.archive import load_archive
from ptycho.core.training.scales import NEUTRAL_INPUT, InputScaling
from ptycho.errors import ArchiveError
from ptycho.networks.archiving import archived_scaling
from ptycho.tf.model_manager import load_tf_bundle
from ptycho_torch.model_manager import save_torch_bundle

SIZE = 80


def members_of(twins, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Patches of both frameworks for the same amplitudes times a factor, channel-last."""
    ours, theirs = twins.tensorflow_batch(), twins.torch_batch()
    found = twins.tensorflow.predict_members(factor * ours[0], ours[1], SIZE)
    with torch.no_grad():
        expected = twins.torch.predict_members(factor * theirs[0], theirs[1], SIZE)
    return found.numpy(), expected.numpy().transpose(0, 2, 3, 1)


@pytest.mark.parametrize("gridsize", [1, 2])
def test_the_object_of_a_brighter_group_is_the_same_times_its_amplitude(make_twins, agree, dtype, gridsize) -> None:
    twins = make_twins(dtype, settings={"gridsize": gridsize})
    plain = members_of(twins, 1.0)[1]
    for model in (twins.tensorflow, twins.torch):
        model.scaling = InputScaling(even_groups=True)
    once, thrice = members_of(twins, 1.0), members_of(twins, 3.0)
    agree("network", f"even groups, gridsize {gridsize}", once[0], once[1])
    agree("network", f"even groups x 3, gridsize {gridsize}", thrice[0], 3 * once[1])
    assert np.linalg.norm(once[1] - plain) > 1e-3 * np.linalg.norm(plain)


def test_held_out_members_do_not_count(make_twins) -> None:
    """The gain follows the members that the network sees; further ones only count in the loss."""
    twins = make_twins("float64", settings={"gridsize": 1})
    twins.torch.scaling = twins.tensorflow.scaling = InputScaling(even_groups=True)
    amplitudes, _ = twins.torch_batch()
    more = torch.cat([amplitudes, 9 * amplitudes], dim=1)
    torch.testing.assert_close(twins.torch._gain(more), twins.torch._gain(amplitudes))
    seen, _ = twins.tensorflow_batch()
    np.testing.assert_allclose(
        twins.tensorflow._gain(tf.concat([seen, 9 * seen], axis=-1)), twins.torch._gain(amplitudes), rtol=1e-12
    )


def test_an_archive_keeps_it_for_both(make_twins, tmp_path) -> None:
    twins = make_twins("float32", settings={"gridsize": 1})
    path = save_torch_bundle(tmp_path, twins.torch, TrainingConfig(model=twins.torch.config))
    assert "scaling" not in load_archive(path).configs
    twins.torch.scaling = kept = InputScaling(0.8, True, True)
    path = save_torch_bundle(tmp_path, twins.torch, TrainingConfig(model=twins.torch.config))
    assert load_tf_bundle(path)[0].scaling == kept != NEUTRAL_INPUT
    strange = replace(load_archive(path), configs={"scaling": {"hue": 1}})
    with pytest.raises(ArchiveError, match=r"^here: scaling is not known .*hue"):
        archived_scaling(strange, "here")

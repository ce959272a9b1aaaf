"""Adaptive gradient clipping in a training with PyTorch."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from ptycho_torch.lightning.clipping import clip_adaptively
from ptycho_torch.workflows.components import train_cdi_model_torch


class Two(nn.Module):
    """A matrix of two units, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.phase_head = nn.Linear(2, 1)


def test_units_by_hand() -> None:
    network = Two()
    with torch.no_grad():
        network.layer.weight.copy_(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        network.layer.bias.copy_(torch.tensor([0.3, 0.4]))
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    network.layer.weight.grad = torch.tensor([[0.0, 2.0], [0.003, 0.004]])
    clip_adaptively(network, 0.1)
    torch.testing.assert_close(network.layer.weight.grad, torch.tensor([[0.0, 0.5], [6e-5, 8e-5]]))
    torch.testing.assert_close(network.layer.bias.grad, torch.full((2,), 0.05 / 2**0.5))
    assert network.phase_head.weight.grad.tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("where", ["training", "execution"])
def test_a_step_is_small_beside_the_weights(where, scan, training, execution) -> None:
    """Plain descent, rate 0.1, two steps, of which the first leaves the decoder: its heads are 0 before."""
    execution = replace(execution, learning_rate=0.1, enable_checkpointing=False)
    config = replace(training, n_groups=4, batch_size=2, nepochs=1, optimizer="sgd")
    asked = {"gradient_clip_val": 1e-5, "gradient_clip_algorithm": "agc"}
    found = (replace(config, **asked), execution) if where == "training" else (config, replace(execution, **asked))
    start, clipped, free = (
        train_cdi_model_torch(scan, None, c, execution_config=e)["model"]
        .network.phase.blocks["0"]
        .conv1.weight.detach()
        for c, e in ((config, replace(execution, learning_rate=1e-30)), found, (config, execution))
    )

    def moved(weights: torch.Tensor) -> torch.Tensor:
        return (weights - start).flatten(1).norm(dim=1) / start.flatten(1).norm(dim=1)

    assert moved(clipped).max() <= 1.2e-6, "the ratio times the rate, and rounding"
    assert moved(clipped).max() > 0
    assert moved(free).max() > 2e-5

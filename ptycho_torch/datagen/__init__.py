"""Simulated data sets: objects, probes and whole experiments, thin over `ptycho.core`, as NumPy arrays."""

from ptycho_torch.datagen.experiments import from_simulation, simulate_multiple_experiments
from ptycho_torch.datagen.objects import simulate_synthetic_objects
from ptycho_torch.datagen.probes import simulate_synthetic_probes

__all__ = [
    "from_simulation",
    "simulate_multiple_experiments",
    "simulate_synthetic_objects",
    "simulate_synthetic_probes",
]

"""Simulation (`ptycho.legacy.nongrid_simulation`), under the name that callers import."""

from ptycho.legacy.nongrid_simulation import (
    from_simulation,
    generate_simulated_data,
    load_probe_object,
    simulate_from_npz,
)

__all__ = ["from_simulation", "generate_simulated_data", "load_probe_object", "simulate_from_npz"]

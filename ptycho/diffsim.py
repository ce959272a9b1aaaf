"""Simulation (`ptycho.legacy.diffsim`), under the name that callers import."""

from ptycho.legacy.diffsim import SimulatedPatches, illuminate_and_diffract, mk_simdata, scale_nphotons

__all__ = ["SimulatedPatches", "illuminate_and_diffract", "mk_simdata", "scale_nphotons"]

"""The network prior of an iteration: what it makes of a result is what the refinement is then pulled towards.

How strongly, photons decide that nobody saw: an object is made of nine tenths of those of every pattern, is held to
what the network makes of it, and foretells the others. What is better there by more than chance, also than as many
iterations without it, is taken for all. Where the scan is to teach the network first (`prior_lessons`), the halves of
these nine tenths do it, and the photons that decide are unseen by the training as well.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptycho.core.refinement.priors.network_prior import expected_noise, posterior
from ptycho.core.refinement.priors.noise_map import NoiseMap
from ptycho.core.refinement.priors.object_prior import Belief, ObjectPrior
from ptycho.core.refinement.priors.prior_unet import Weights
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.refinement.trust import TrustEngine
from ptycho.core.result import plural
from ptycho.errors import ConfigError, DataError
from ptycho.raw_data import RawData
from ptycho.workflows.effects.object_prior import prior_note
from ptycho.workflows.effects.prior_lessons import network_of_scan
from ptycho.workflows.photon_parts import photon_parts
from ptycho.workflows.trust import NOMINAL_PHOTONS, photon_scale, scan_trust

__all__ = ["belief_of", "check_network_prior", "held_by_network"]

logger = logging.getLogger(__name__)

Array = NDArray[Any]
Held = Callable[[Refinement, ObjectPrior, Array, RawData], Refinement]
"""`held(found, prior, image, data)`: a refinement that goes on from a result, with another object, held to a prior."""

LIKELY = "What it adds to the patterns is likely, not measured, and the trust map does not see it"
"""Told of a result that is held."""
ENOUGH = 1e-3
"""Expected noise of a pixel of modulus 1, in the median, below which data suffice and nothing is tried."""
STRENGTHS = (1.0, 0.25)
"""1 is what the network says of its own error; a weaker one is taken where it is better by more than chance."""
TAUGHT_STRENGTH = 16.0
"""Of the network that the scan taught: it heeds the patterns already, and what iterations then add to it is noise."""
KEPT = 0.1
"""Share of the photons that stay unseen."""
SURE = 3.0
"""Standard deviations, by the scatter from pattern to pattern, that unseen photons have to prefer it by."""
LIKELIER = 1.0
"""The same for a taught network over one that is better than none already: either does no harm."""


def check_network_prior(data: RawData) -> None:
    """What it cannot be asked for.

    Raises:
        ConfigError: several scans, or a near field. DataError: a scan that does not tell how many photons it has.
    """
    if data.scans or data.near_field is not None:
        found = "a near field" if data.near_field is not None else f"{len(data.scans)} scans that share an object"
        raise ConfigError(f"object_prior='network': expected one scan of a far field, found {found}; leave it out")
    if photon_scale(data, NOMINAL_PHOTONS)[1] == "nominal":
        raise DataError(
            f"{data.name}: object_prior='network': expected counts, or amplitudes with the dose in the metadata "
            "(nphotons), found neither, so that the noise is not known; state the dose"
        )


class _Choice(NamedTuple):
    """What a result is held to."""

    strength: float
    """0: nothing."""
    own: Weights | None
    """Of the network that the scan taught; None: it is as it comes."""
    why: str


def belief_of(found: Refinement, data: RawData, own: Weights | None = None) -> Belief:
    """The posterior mean of a result by the network, and how sure that is.

    With the strength 1 the term of the error (`ptycho.core.refinement.priors.penalty`) is that of a Gaussian of complex
    standard deviation s about it: `w = 1 / (2 n s^2)`, n the photons of a pattern.

    Args:
        found: in the scale of the result.
        data: the scan, which tells how many photons it has.
        own: weights that the scan taught, for the mean; s is what the network as it comes says.
    """
    scale, noise = _light_on(found, data)
    mean, spread = posterior(found.object, scale * noise.light, noise.sharing, own=own)
    sure = 1 / (2 * scale * data.mean_energy * spread**2)
    return Belief(mean, np.where(noise.lit, sure, 0), found.frame)


def _light_on(found: Refinement, data: RawData) -> tuple[float, NoiseMap]:
    """Photons per unit of intensity, and the light on the pixels of a result."""
    scale, _ = photon_scale(data, NOMINAL_PHOTONS)
    return scale, NoiseMap.of(found.probe, found.xcoords, found.ycoords, found.object.shape)


def held_by_network(
    found: Refinement,
    data: RawData,
    held: Held,
    without: Callable[[RawData], Refinement],
    engine: TrustEngine,
    strength: Literal["auto"] | float,
    seconds: float = 0.0,
    tell: Callable[[str], None] = logger.info,
) -> tuple[Refinement, str]:
    """A result pulled towards what the network makes of it, and why, or why not.

    Args:
        found: without the prior.
        data: the scan.
        held: goes on with a prior.
        without: what the iteration makes of another scan, without the prior.
        engine: what works out the deviance of unseen photons.
        strength: 'auto' lets these choose.
        seconds: for which the scan teaches the network first; 0: it is as it comes.
        tell: told before it does.
    """
    if strength == "auto":
        left = _noise_left(found, data)
        enough = f"photons and overlap leave a noise of {left:.1g} of a clear pixel"
        choice = _Choice(0.0, None, enough) if left < ENOUGH else _chosen(data, held, without, engine, seconds, tell)
    else:
        own, said = _taught(data, without, seconds if strength else 0.0, tell)
        choice = _Choice(strength, own, f"as asked for{said}")
    if not choice.strength:
        return found, f"Nothing is held of the object: {choice.why}"
    belief = belief_of(found, data, choice.own)
    note = prior_note(ObjectPrior("network", choice.strength, belief=belief), choice.why)
    return _pulled(found, data, held, belief, choice.strength), f"{note}. {LIKELY}"


def _taught(
    data: RawData, without: Callable[[RawData], Refinement], seconds: float, tell: Callable[[str], None]
) -> tuple[Weights | None, str]:
    """The network that a scan taught, and a clause that says so; None where it is not to."""
    if not seconds:
        return None, ""
    tell(f"The two halves of the photons teach the network the scan for {seconds:g} s")
    own, steps = network_of_scan(data, without, seconds)
    return own, f"; the network was taught by the scan itself for {seconds:g} s, {plural(steps, 'step')}"


def _pulled(found: Refinement, data: RawData, held: Held, belief: Belief, strength: float) -> Refinement:
    """Iterations from what the network thinks, held to it."""
    image = np.where(belief.weight > 0, belief.mean, found.object)
    return held(found, ObjectPrior("network", strength, belief=belief), image, data)


def _noise_left(found: Refinement, data: RawData) -> float:
    """The median expected noise of the pixels that have light."""
    scale, noise = _light_on(found, data)
    return float(np.median(expected_noise(scale * noise.light[noise.lit], noise.sharing[noise.lit])))


def _chosen(
    data: RawData,
    held: Held,
    without: Callable[[RawData], Refinement],
    engine: TrustEngine,
    seconds: float,
    tell: Callable[[str], None],
) -> _Choice:
    """Network and strength with which unseen photons are foretold best, 0 where that is without, and why."""
    seen, unseen = photon_parts(data, (1 - KEPT, KEPT))
    plain = without(seen)
    own, said = _taught(seen, without, seconds, tell)
    beliefs = {"": belief_of(plain, seen)}
    tried = [("", strength) for strength in STRENGTHS]
    if own is not None:
        beliefs["taught "] = belief_of(plain, seen, own)
        tried.append(("taught ", TAUGHT_STRENGTH))

    def deviance(one: Refinement) -> NDArray[np.float64]:
        where, known = (one.xcoords, one.ycoords), one.recording
        trust = scan_trust(one.object, one.probe, *where, unseen, NOMINAL_PHOTONS, engine, recording=known)
        return trust.deviance

    # as many iterations without it may gain as well, or fit noise: it has to be better than both
    gone_on = held(plain, ObjectPrior("network", 0.0, belief=beliefs[""]), plain.object, seen)
    first = min(deviance(plain), deviance(gone_on), key=np.sum)
    gains = {each: first - deviance(_pulled(plain, seen, held, beliefs[each[0]], each[1])) for each in tried}
    better = [each for each in tried if _by_chances(gains[each]) > SURE]
    best = better[0] if better else ("", 0.0)
    for other in better[1:]:
        best = other if _by_chances(gains[other] - gains[best]) > (LIKELIER if other[0] else SURE) else best
    told = ", ".join(
        f"{gain.sum():.3g} +- {_chance(gain):.2g} less with {network}{strength:g}"
        for (network, strength), gain in gains.items()
    )
    why = f"{KEPT:.0%} of the photons, unseen, have the deviance {first.sum():.6g} without it, {told}"
    network, strength = best
    if network:
        return _Choice(strength, own, f"{why}{said}")
    return _Choice(strength, None, why if own is None else f"{why}; what the scan taught the network was not taken")


def _chance(gain: NDArray[np.float64]) -> float:
    """Standard deviation of the sum of a gain (n,), by its scatter from pattern to pattern."""
    return float(np.std(gain) * np.sqrt(len(gain)))


def _by_chances(gain: NDArray[np.float64]) -> float:
    """The sum of a gain in standard deviations; 0 where there is none."""
    chance = _chance(gain)
    return float(gain.sum()) / chance if chance else 0.0

"""What neighbours foretell: everything of a clean scan, nothing of patterns that they share nothing with."""

from functools import partial

import numpy as np
import pytest

from ptycho.core.refinement.run import refine_scan
from ptycho.core.refinement.trust import ON_HOST
from ptycho.raw_data import RawData
from ptycho.workflows.iteration.refined_result import measured_reconstruction
from ptycho.workflows.solver import Solver
from ptycho.workflows.validation.foretell import KEPT_BACK, NEIGHBOURS, clusters_of, foretell

REFINE = partial(refine_scan, dtype=np.float32)
SOLVER = Solver(REFINE, ON_HOST)


@pytest.fixture(scope="module")
def found(plain):
    return measured_reconstruction(REFINE(plain, None, 40), plain, ON_HOST)


def test_a_clean_scan_is_foretold(found, plain):
    clusters = clusters_of(found, plain)
    told = foretell(found, clusters, plain, SOLVER)
    assert len(told.patterns) == KEPT_BACK and told.telling and told.share > 0.95
    assert (told.blank > 5 * told.noise).all()


def test_clusters_are_those_of_the_scan_side_by_side(found, plain):
    """The result predicts every pattern of the clusters as it predicts it in the scan; holes hide those kept back."""
    clusters = clusters_of(found, plain)
    size = NEIGHBOURS + 1
    assert len(clusters.scan) == KEPT_BACK * size and (clusters.kept_back % size == 0).all()
    np.testing.assert_array_equal(clusters.scan.amplitude(), plain.amplitude(clusters.places))
    side = clusters.frame.height
    for place in (0, size + 3, 7 * size):
        j, tile = clusters.places[place], place // size
        x, y = round(float(clusters.scan.xcoords[place])), round(float(clusters.scan.ycoords[place]))
        u, v = round(float(found.xcoords[j])), round(float(found.ycoords[j]))
        assert tile * side <= x < (tile + 1) * side
        np.testing.assert_array_equal(
            clusters.found[y - 5 : y + 5, x - 5 : x + 5], found.object[v - 5 : v + 5, u - 5 : u + 5]
        )
    for place in clusters.kept_back:
        x, y = round(float(clusters.scan.xcoords[place])), round(float(clusters.scan.ycoords[place]))
        hidden = clusters.blank[y - 3 : y + 3, x - 3 : x + 3]
        assert np.ptp(hidden.real) == np.ptp(hidden.imag) == 0
    assert 0.4 < (clusters.blank == clusters.found).mean() < 0.95


def test_patterns_without_overlap_foretell_nothing(simulated):
    """They are explained all the same, each by an object of its own."""
    sparse = simulated(shape=(130, 130), step=14.0)
    found = measured_reconstruction(REFINE(sparse, None, 60), sparse, ON_HOST)
    assert found.trust.overall_ratio < 1.25 and found.trust.unexplained < 0.1
    assert foretell(found, clusters_of(found, sparse), sparse, SOLVER).share < 0.25


def test_a_mask_per_pattern_goes_along(found, plain):
    mask = np.ones((len(plain), plain.N, plain.N), bool)
    mask[:, 3] = False
    masked = RawData(
        plain.xcoords, plain.ycoords, None, None, plain.diff3d, plain.probeGuess, mask=mask, units="counts"
    )
    clusters = clusters_of(found, masked)
    assert clusters.scan.mask.shape == (len(clusters.scan), plain.N, plain.N) and not clusters.scan.mask[:, 3].any()
    assert foretell(found, clusters, masked, SOLVER).share > 0.9

"""Maps of numbers of patterns."""

import numpy as np

from ptycho.core.physics.probes import zone_plate_probe
from ptycho.core.quality.trust_map import trust_map
from ptycho.core.stitching.stitch import probe_weight


class TestMap:
    def test_agrees_with_a_loop(self, rng):
        weight = rng.random((6, 6)) * (rng.random((6, 6)) < 0.7)
        x, y, values = rng.uniform(4, 16, 9), rng.uniform(4, 10, 9), rng.standard_normal(9)
        light, total = np.zeros((2, 20, 26))
        for j in range(9):
            r, c = round(y[j]) - 3 + 3, round(x[j]) - 3 + 3
            light[r : r + 6, c : c + 6] += weight
            total[r : r + 6, c : c + 6] += weight * values[j]
        light, total = light[3:17, 3:23], total[3:17, 3:23]
        found = trust_map(values, weight, x, y, (14, 20))
        lit = light > 1e-3 * light.max()
        assert found.dtype == np.float32 and 0 < lit.mean() < 1
        np.testing.assert_array_equal(np.isnan(found), ~lit)
        np.testing.assert_allclose(found[lit], total[lit] / light[lit], rtol=1e-5, atol=1e-6)

    def test_positions_outside_are_left_out(self):
        weight = probe_weight(zone_plate_probe(32, 7, defocus=1.3))
        inside = trust_map(np.ones(1), weight, np.array([20.0]), np.array([20.0]), (40, 40))
        both = trust_map(np.ones(2), weight, np.array([20.0, -9]), np.array([20.0, 5]), (40, 40))
        np.testing.assert_array_equal(inside, both)

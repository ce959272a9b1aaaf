"""A small result with everything that a report shows, and names that try to be markup."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ptycho.core.geometry import ObjectFrame
from ptycho.core.physics.near_field import NearField
from ptycho.core.quality.comparison import PlacedObject, compare
from ptycho.core.quality.residuals import residuals
from ptycho.core.quality.resolution import Resolution
from ptycho.core.quality.ring_correlation import frc
from ptycho.core.quality.trust import Trust
from ptycho.core.quality.uncertainty import Uncertainty
from ptycho.core.reconstruction import Reconstruction
from ptycho.report.content import Compared, Content, LinkedFile

HEIGHT, WIDTH, N = 48, 60, 16
HOSTILE = '"><img src=https://example.org/a.png onerror=alert(1)><script>alert(2)</script>$title'


@pytest.fixture
def pictures() -> None:
    """Pictures are drawn: they are looked at here."""


@pytest.fixture
def result(rng: np.random.Generator) -> Reconstruction:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    image = (0.8 + 0.2 * np.sin(x / 3)) * np.exp(0.5j * np.cos(y / 4))
    coverage = np.zeros((HEIGHT, WIDTH), np.float32)
    coverage[4:-4, 6:-6] = 3.0
    rows, columns = (a.ravel() for a in np.mgrid[12:37:6, 14:47:8])
    n = rows.size
    each, ratio = np.full(n, 256.0), 1 + 0.02 * rng.normal(size=n)
    ratio[3] = 6.0
    trust = Trust(ratio * each, each, np.sqrt(2 * each), ratio * 64, each / 4, 50 * each, 400 * each, "stated")
    disc = np.hypot(*np.mgrid[-8:8, -8:8]) < 5
    probe = 20 * np.stack([disc, 0.5 * disc * np.sign(np.arange(-8, 8) + 0.5)]).astype(np.complex64)
    return Reconstruction(
        object=image.astype(np.complex64),
        coverage=coverage,
        probe=probe,
        xcoords=columns.astype(float),
        ycoords=rows.astype(float),
        frame=ObjectFrame(height=HEIGHT, width=WIDTH, x0=4, y0=-2),
        backend="pytorch",
        method="refined",
        subpixel="fourier",
        network_object=None,
        error_history=(0.4, 0.1, 0.0105, 0.0085, 0.008),
        counts_from=3,
        timings={"refinement": 1.5},
        synchronised=False,
        agreement=(float("nan"), float("nan")),
        trust=trust,
        uncertainty=Uncertainty(*np.full((2, HEIGHT, WIDTH), 0.0125, np.float32), 4, 8, 0.31, 1.01, True, (HOSTILE,)),
        metadata={"name": "star", "object_pixel_m": 2e-8},
        provenance={"version": "0.2.0", "command": "ptycho reconstruct", "settings": {"iterations": 4}, "model": None},
    )


@pytest.fixture
def content(result: Reconstruction, rng: np.random.Generator) -> Content:
    """Everything there is, slices too, of a scan whose name is hostile, as are the lines and files."""
    amplitudes = rng.poisson(4, (len(result.xcoords), N, N)).astype(np.float64) ** 0.5
    ours = PlacedObject("this", result.object, (-2.0, 4.0), result.xcoords, result.ycoords)
    found = compare(ours, PlacedObject(HOSTILE, result.object * np.exp(0.1j), (-2.0, 4.0)))
    noise = [result.object + 0.1 * rng.normal(size=(HEIGHT, WIDTH)) for _ in range(2)]
    return Content(
        reconstruction=replace(
            result,
            slices=np.stack([result.object, np.ones_like(result.object)]),
            gap=NearField(0.25, 0.01),
            metadata={**result.metadata, "name": HOSTILE},
            provenance={**result.provenance, HOSTILE: HOSTILE},
        ),
        home=(result.xcoords - 0.5, result.ycoords),
        told=("Checks: nothing wrong found", HOSTILE),
        mean_pattern=np.mean(np.square(amplitudes), axis=0),
        residuals=residuals(
            result.object, result.probe, (result.xcoords, result.ycoords), [3, 1, 0], lambda chosen: amplitudes[chosen]
        ),
        photon_scale=1.0,
        resolution=Resolution(frc(*noise), (15, 15), 2e-8),
        compared=(Compared(HOSTILE, found), Compared("another", None, HOSTILE)),
        files=(LinkedFile("summary.png", 1982, "one sheet"), LinkedFile(HOSTILE, 1234567, HOSTILE)),
    )

"""Scans of any type, layout, number of points and values: examined, written and refined, or refused in one line."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ptycho.core.doctor.preflight import preflight
from ptycho.core.refinement.run import refine_scan
from ptycho.core.scaling import mean_energy, to_amplitude
from ptycho.core.scan.npz_file import write_scan
from ptycho.core.scan.scan import ScanFile
from ptycho.core.scan.stream import ScanStream
from ptycho.errors import PtychoError
from ptycho.raw_data import RawData

FEW = settings(
    max_examples=30,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
TYPES = ("u1", "<u2", ">u2", "<i4", ">i8", "<f2", ">f4", "<f8")
FILLS = ("photons", "dark", "saturated", "one bright", "negative", "normalised", "nan")
PLACES = ("raster", "line", "equal", "random", "outside", "negative")
LAYOUTS = ("plain", "strided", "reversed", "fortran", "read only")


@dataclass(frozen=True)
class Odd:
    """What is odd about a scan."""

    n: int
    side: int
    dtype: str
    fill: str
    places: str
    layout: str
    mask: str
    units: str | None
    probe: bool

    def patterns(self) -> NDArray[Any]:
        rng = np.random.default_rng(self.n)
        values = rng.poisson(6.0, (self.n, self.side, self.side)).astype(np.float64)
        dtype = np.dtype(self.dtype)
        largest = float(np.iinfo(dtype).max if dtype.kind in "iu" else np.finfo(dtype).max)
        if self.fill == "dark":
            values[:] = 0
        elif self.fill == "saturated":
            values[:] = min(largest, 2.0**40)
        elif self.fill == "one bright":
            values[0, 0, 0] = min(1e12, largest)
        elif self.fill == "negative" and dtype.kind != "u":
            values -= 5
        elif self.fill == "normalised" and dtype.kind == "f":
            values /= values.max()
        elif self.fill == "nan" and dtype.kind == "f":
            values[-1] = np.nan
        return laid_out(values.astype(dtype), self.layout)

    def positions(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        order, start = np.arange(self.n, dtype=float), self.side / 2 + 1
        rng = np.random.default_rng(self.n + 1)
        x, y = {
            "raster": (start + order % 2, start + order // 2),
            "line": (start + order, np.full(self.n, start)),
            "equal": (np.full(self.n, start), np.full(self.n, start)),
            "random": (start + rng.random(self.n), start + rng.random(self.n)),
            "outside": (start + 3 * order, np.full(self.n, 40.0)),
            "negative": (-start - order, start - 2 * order),
        }[self.places]
        return x, y

    def scan(self) -> ScanFile:
        x, y = self.positions()
        rng = np.random.default_rng(3)
        mask = {"none": None, "all bad": np.zeros((self.side,) * 2, bool), "some": rng.random((self.side,) * 2) > 0.2}
        probe = np.exp(-np.square(np.mgrid[: self.side, : self.side] - self.side / 2).sum(axis=0) / self.side) + 0j
        fields = {"mask": mask[self.mask], "units": self.units, "probeGuess": probe if self.probe else None}
        return ScanFile(self.patterns(), x, y, **fields)


def laid_out(values: NDArray[Any], layout: str) -> NDArray[Any]:
    """The same values, laid out in memory in another way."""
    if layout == "strided":
        wide = np.zeros((len(values), values.shape[1], 2 * values.shape[2]), values.dtype)
        wide[..., ::2] = values
        return wide[..., ::2]
    if layout == "reversed":
        return np.ascontiguousarray(values[:, ::-1])[:, ::-1]
    if layout == "fortran":
        return np.asfortranarray(values)
    if layout == "read only":
        values.flags.writeable = False
    return values


odd = st.builds(
    Odd,
    n=st.integers(1, 4),
    side=st.sampled_from((4, 6, 8, 12)),
    dtype=st.sampled_from(TYPES),
    fill=st.sampled_from(FILLS),
    places=st.sampled_from(PLACES),
    layout=st.sampled_from(LAYOUTS),
    mask=st.sampled_from(("none", "none", "all bad", "some")),
    units=st.sampled_from((None, "counts", "amplitude")),
    probe=st.booleans(),
)


def refused(error: PtychoError) -> None:
    assert "\n" not in str(error) and len(str(error)) < 600


@FEW
@given(odd=odd)
def test_the_doctor_says_something_about_each(odd: Odd) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        found = preflight(ScanStream.of(odd.scan()))
    assert {one.name for one in found.findings} >= {"pattern size", "numbers", "units", "mask"}
    if odd.fill == "dark" or odd.mask == "all bad":
        assert not found.healthy


@FEW
@given(odd=odd)
def test_what_is_written_is_what_was_given(odd: Odd, tmp_path: Path) -> None:
    scan = odd.scan()
    try:
        write_scan(tmp_path / "odd.npz", scan)
        data = RawData.from_file(tmp_path / "odd.npz")
        amplitude = data.amplitude()
    except PtychoError as error:
        refused(error)
        return
    assert len(data) == odd.n and np.isfinite(amplitude).all() and (amplitude >= 0).all()
    np.testing.assert_array_equal(data.xcoords, scan.xcoords)
    if odd.fill == "photons":
        np.testing.assert_array_equal(data.diff3d, scan.diff3d)


@FEW
@given(odd=odd)
def test_amplitudes_do_not_depend_on_type_and_layout(odd: Odd) -> None:
    patterns = odd.patterns()
    plain = np.ascontiguousarray(patterns.astype(patterns.dtype.newbyteorder("=")))
    for units in ("counts", "amplitude"):
        np.testing.assert_array_equal(to_amplitude(patterns, units), to_amplitude(plain, units))
        first, second = (mean_energy(values, units=units) for values in (patterns, plain))
        assert first == pytest.approx(second, rel=1e-12, nan_ok=True)  # sums in another order


@FEW
@given(odd=odd)
def test_a_refinement_is_finite_or_refused(odd: Odd, tmp_path: Path) -> None:
    try:
        write_scan(tmp_path / "odd.npz", odd.scan())
        data = RawData.from_file(tmp_path / "odd.npz")
        found = refine_scan(data, None, 2)
    except PtychoError as error:
        refused(error)
        return
    assert np.isfinite(found.object).all() and np.isfinite(found.probe).all() and np.isfinite(found.error_history).all()

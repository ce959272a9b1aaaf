"""A refinement without a network is a result like any other."""

from pathlib import Path

import numpy as np
import pytest

from ptycho.core.formats.reconstruction_npz import read_npz
from ptycho.core.formats.registry import read
from ptycho.core.refinement.refinement import Refinement
from ptycho.core.refinement.run import refine_scan
from ptycho.core.refinement.trust import ON_HOST
from ptycho.core.simulation.plan import make_scan
from ptycho.errors import DataError
from ptycho.raw_data import RawData
from ptycho.workflows.iteration.refined_result import measured_reconstruction
from ptycho.workflows.outputs import remove_results, save_reconstruction

PHOTONS = 1e6


def scan_of(size: int) -> RawData:
    made = make_scan("lines", size, 32, 4.0, 0.5, PHOTONS, 4)
    return RawData(
        made.xcoords, made.ycoords, None, None, made.diffraction, made.probe, units="amplitude",
        metadata={"nphotons": PHOTONS},
    )  # fmt: skip


@pytest.fixture(scope="module")
def scan() -> RawData:
    return scan_of(64)


@pytest.fixture(scope="module")
def refinement(scan: RawData) -> Refinement:
    return refine_scan(scan, None, 20, engine="numpy", dtype=np.float32)


def test_it_has_what_the_refinement_found(scan: RawData, refinement: Refinement) -> None:
    found = measured_reconstruction(refinement, scan, ON_HOST)
    assert (found.backend, found.method, found.subpixel) == ("numpy", "refined", "fourier")
    assert found.network_object is found.spread is None
    lit = found.coverage > 0
    np.testing.assert_array_equal(found.object[lit], refinement.object[lit])
    np.testing.assert_array_equal(found.object[~lit], 1)
    np.testing.assert_array_equal(found.probe, refinement.probe)
    np.testing.assert_array_equal(found.xcoords + found.frame.x0, scan.xcoords)
    assert found.error_history == refinement.error_history[: refinement.kept + 1]


def test_it_tells_where_it_is_from(scan: RawData, refinement: Refinement) -> None:
    found = measured_reconstruction(refinement, scan, ON_HOST, settings={"iterations": 20, "seed": 4}, device="cpu")
    assert found.metadata == {"name": "scan", "nphotons": PHOTONS}
    block = found.provenance
    assert (block["settings"], block["seeds"], block["device"]) == ({"iterations": 20}, {"refinement": 4}, "cpu")
    assert block["scan"]["content_sha256"] == scan.identity.sha256
    assert block["model"] is None


def test_the_coverage_is_the_light_of_the_scan(scan: RawData, refinement: Refinement) -> None:
    found = measured_reconstruction(refinement, scan, ON_HOST)
    assert 0.5 < (found.coverage > 0).mean() < 1
    energy = float((np.abs(refinement.probe) ** 2).sum()) * len(scan)
    assert found.coverage.sum() == pytest.approx(energy, rel=1e-4)
    assert found.coverage[found.coverage > 0].min() > 1e-6 * found.coverage.max()


def test_its_trust_is_measured_with_the_dose_of_the_scan(scan: RawData, refinement: Refinement) -> None:
    found = measured_reconstruction(refinement, scan, ON_HOST)
    assert found.trust is not None
    assert found.trust.dose == "measured"  # by the steps of the squared amplitudes
    assert found.trust.fourier_error == pytest.approx(refinement.error_history[refinement.kept], rel=1e-3)
    assert found.trust.verdict.startswith("explains the data to the noise")


def test_it_is_saved_and_read_like_any_result(scan: RawData, refinement: Refinement, tmp_path: Path) -> None:
    found = measured_reconstruction(refinement, scan, ON_HOST)
    written = save_reconstruction(found, tmp_path, scan)
    assert {path.name for path in written} == {
        *("reconstruction.npz", "reconstruction.h5", "reconstructed_amplitude.png", "reconstructed_phase.png"),
        *("summary.png", "trust.png", "report.html"),
    }
    back = read_npz(tmp_path / "reconstruction.npz")
    assert (back.method, back.backend) == ("refined", "numpy")
    assert np.isnan(back.agreement).all()
    np.testing.assert_array_equal(back.object, found.object)
    for name in ("reconstruction.npz", "reconstruction.h5"):
        record = read(tmp_path / name)
        assert record.metadata["comments"].startswith("refined by the numpy backend, sub-pixel shifts fourier.")
        np.testing.assert_array_equal(np.squeeze(record.object), found.object)


def test_it_starts_another_refinement(scan: RawData, refinement: Refinement) -> None:
    on = refine_scan(scan, measured_reconstruction(refinement, scan, ON_HOST), 1, dtype=np.float32)
    assert on.error_history[0] == pytest.approx(refinement.error_history[refinement.kept], rel=1e-3)


def test_another_scan_is_refused(refinement: Refinement) -> None:
    with pytest.raises(DataError, match="patterns of 32 pixels as in the scan"):
        measured_reconstruction(refinement, scan_of(56), ON_HOST)


def test_results_of_an_earlier_training_go_and_nothing_else(tmp_path: Path) -> None:
    own = [tmp_path / "notes.txt", tmp_path / "trust.png", tmp_path / "experiment_3" / "notes.txt"]
    stale = [tmp_path / "experiment_1" / "reconstruction.npz", tmp_path / "experiment_3" / "summary.png"]
    for path in (*own, *stale):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    remove_results(tmp_path, 1)
    assert all(path.exists() for path in own) and not any(path.exists() for path in stale)
    assert not (tmp_path / "experiment_1").exists()
    remove_results(tmp_path, 0)
    assert not (tmp_path / "trust.png").exists() and (tmp_path / "notes.txt").exists()

"""The benchmark of the network prior and the script that trains it: the table, the picture, a crop."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ptycho.core.physics.probes import make_probe
from ptycho.core.refinement.priors.prior_unet import CHANNELS

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS / "benchmarks"))
    return _module(SCRIPTS / "benchmarks/object_prior.py", "object_prior_benchmark")


@pytest.fixture
def training() -> Any:
    return _module(SCRIPTS / "training/train_object_prior.py", "object_prior_training")


def _module(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_has_medians_and_says_where_it_is_worse(bench: Any) -> None:
    said = "The object is held to what a network makes of its noise (network), with the strength 0.25: 10% of"
    rows = [
        {"case": "a", "seed": k, "without": 0.2, "with": error, "said": said}
        for k, error in enumerate((0.1, 0.15, 0.3))
    ]
    rows.append({"case": "b", "seed": 0, "without": 0.01, "with": 0.01, "said": "Nothing is held of the object: few"})
    lines = bench.table(rows).splitlines()
    assert lines[2] == "| a | 0.2000 | 0.1500 | 1 of 3 | 0.25, 0.25, 0.25 |"
    assert lines[3] == "| b | 0.0100 | 0.0100 | 0 of 1 | 0 |"
    more = [{**row, "taught": 0.12, "said_taught": said} for row in rows]
    assert bench.table(more).splitlines()[2].endswith("| 0.1200 | 1 of 3 | 0.25, 0.25, 0.25 |")


def test_a_lattice_is_seen_as_the_cases_are(bench: Any) -> None:
    data = bench.scan_of(bench.LATTICES[0], 0)
    assert data.objectGuess.shape == (256, 256) and data.N == 64
    assert data.photons() == pytest.approx(1e4, rel=0.1)
    image = bench.lattice(0)
    assert 0.9 < image.max() < 1.3 and not np.array_equal(image, bench.lattice(1))


def test_a_crop_is_the_error_in_units_of_the_noise(training: Any, tmp_path: Path, rng: np.random.Generator) -> None:
    """However it is turned; the phase of all of it is no error."""
    truth = np.exp(0.3j * rng.standard_normal((20, 24))).astype(np.complex64)
    photons, share = np.full((20, 24), 100, np.float32), np.full((20, 24), 9, np.float32)
    np.savez(tmp_path / "000001.npz", found=truth * np.exp(1j), truth=truth, photons=photons, share=share)
    scans = training.Scans(tmp_path, kept_back=False)
    seen, wanted = scans.crop(rng, 16)
    assert seen.shape == (CHANNELS, 16, 16) and wanted.shape == (3, 16, 16)
    assert abs(wanted[:2]).max() < 1e-4 and (wanted[2] == 1).all()
    with pytest.raises(SystemExit, match="expected scans, found none"):
        training.Scans(tmp_path, kept_back=True)


def test_what_is_trained_on_follows_from_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    scans = _module(SCRIPTS / "training/object_prior_scans.py", "object_prior_scans")
    first, again, other = (scans.draw_probe(np.random.default_rng([seed, 18])) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert first.shape == make_probe("disk", scans.N).shape and not np.array_equal(first, other)

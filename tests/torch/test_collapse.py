"""The network must not collapse to a flat object: one seed of the benchmark, shortened."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmarks" / "collapse.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("collapse_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize(("gridsize", "epochs"), [(1, 1), (2, 1)])
def test_an_epoch_gives_structure(gridsize: int, epochs: int, benchmark: ModuleType, tmp_path: Path) -> None:
    row = benchmark.run(benchmark.simulated(64), gridsize, seed=0, seconds=None, folder=tmp_path, epochs=epochs)
    assert row.std_ratio >= 0.3
    assert row.unseen_loss < 0.5 * row.unseen_loss_flat
    assert row.amp_ssim >= 0.30


@pytest.mark.slow
def test_a_flat_object_does_not_pass(benchmark: ModuleType) -> None:
    data = benchmark.simulated(64)
    truth = data.objectGuess
    y0, y1, x0, x1 = benchmark._region(data)
    quality = benchmark.score(truth * 0 + 1, truth, (y0, y1, x0, x1))
    assert quality.amplitude_ssim < 0.30

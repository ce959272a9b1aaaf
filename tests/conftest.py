"""Options and fixtures that every test may use."""

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ptycho.raw_data import RawData

FIXTURE = Path(__file__).parent / "fixtures" / "pytorch_integration" / "minimal_dataset_v1.npz"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--scan-dir", type=Path, default=None, help="folder with the real scans (see docs/benchmarks.md)")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20261120)


@pytest.fixture
def scan_dir(request: pytest.FixtureRequest) -> Path:
    folder = request.config.getoption("--scan-dir")
    if folder is None or not folder.is_dir():
        pytest.skip("no real scans: give their folder with --scan-dir=FOLDER (docs/benchmarks.md names them)")
    return folder


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Python's own handler of SIGINT, also where the tests run in the background, which switches interrupts off."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def fixture_file() -> Path:
    return FIXTURE


@pytest.fixture
def scan() -> RawData:
    return RawData.from_file(FIXTURE)

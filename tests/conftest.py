"""Options and fixtures that every test may use."""

import functools
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from ptycho import params
from ptycho.core.geometry import ObjectFrame
from ptycho.core.physics.fourier_ptychography import Microscope, bright_field_start, pupil_functions
from ptycho.core.simulation.exposure import SimulatedScan, expose
from ptycho.core.simulation.fourier import lit_sample
from ptycho.core.simulation.plan import ScanSettings, make_scan, plan_scan
from ptycho.raw_data import RawData

ROOT = Path(__file__).parents[1]
FIXTURE = ROOT / "tests" / "fixtures" / "pytorch_integration" / "minimal_dataset_v1.npz"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--scan-dir", type=Path, default=None, help="folder with the real scans (see docs/benchmarks.md)")


def pytest_configure() -> None:
    """Signals do what they do in a terminal, also where a shell runs the tests in the background and ignores some."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None, object, object]:
    """Files with slow tests come first, so that no long one is left to a single process at the end.

    Last of all: the order within, and that of the other files, is by chance where pytest-randomly is installed. Which
    files are long is seen before slow tests are left out.
    """
    long = {item.path for item in items if item.get_closest_marker("slow")}
    try:
        return (yield)
    finally:
        items.sort(key=lambda item: item.path not in long)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """After a failure: how to have the tests in the same order again."""
    seed = config.getoption("randomly_seed", None)
    if seed is not None and any(terminalreporter.stats.get(kind) for kind in ("failed", "error")):
        terminalreporter.write_line(f"The order was by chance; the same one again: --randomly-seed={seed}")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What the tests import stays: no search for garbage goes through it, now or later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="module", autouse=True)
def _params_of_a_module() -> Iterator[None]:
    """The legacy dictionary is put back after each file, whatever its fixtures have written."""
    before = dict(params.cfg)
    yield
    params.cfg.clear()
    params.cfg.update(before)


@pytest.fixture(autouse=True)
def _own_params(monkeypatch: pytest.MonkeyPatch) -> None:
    """The legacy dictionary of a test, put back afterwards."""
    monkeypatch.setattr(params, "cfg", dict(params.cfg))


@pytest.fixture(scope="session")
def recorded() -> SimulatedScan:
    """49 patterns of two incoherent modes, behind a detector with gaps and bad pixels."""
    settings = ScanSettings(shape=(116, 116), modes=(0.8, 0.2), photons=1e6, gap_width=2, gap_offset=9, bad_pixels=0.01)
    return expose(*plan_scan(settings))


@pytest.fixture
def patterns(recorded: SimulatedScan) -> RawData:
    return RawData(
        recorded.xcoords,
        recorded.ycoords,
        None,
        None,
        recorded.diffraction,
        recorded.probe,
        objectGuess=recorded.object,
        mask=recorded.mask,
        metadata={"nphotons": recorded.recorded},
        units=recorded.units,
    )


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20261120)


@pytest.fixture
def masked_scan(rng: np.random.Generator) -> RawData:
    """Patterns of 16 x 16 of an object of 44 x 44, with a mask each."""
    made = make_scan("lines", 44, 16, 5.0, 0.5, 1e4, 4)
    masks = rng.random(made.diffraction.shape) > 0.2
    return RawData(made.xcoords, made.ycoords, None, None, made.diffraction, made.probe, mask=masks, units="amplitude")


class LitScan(NamedTuple):
    """Pictures of a sample that is lit by nine LEDs, as the solver takes them."""

    data: RawData
    start: np.ndarray
    """Of the spectrum."""
    settings: dict[str, Any]
    """Its frame and the functions of its pupil."""


@pytest.fixture
def lit_scan() -> LitScan:
    """Of a board of LEDs that is turned, by a microscope with aberrations; pictures of 16 x 16."""
    n, optics = 16, Microscope(na=0.1, magnification=4.0, wavelength_m=632e-9, camera_pixel_m=6.5e-6)
    steps = np.array([-0.05, 0.0, 0.05])
    sines = np.stack([each.ravel() for each in np.meshgrid(steps, steps)], axis=1)
    made = lit_sample(optics, sines, n, aberrations=0.3, turned_deg=1.0)
    x, y, side = optics.places(sines, n)
    start, pupil = bright_field_start(np.sqrt(made.images[4].astype(float)), optics, side)
    data = RawData(x, y, None, None, made.images, pupil, units="counts")
    return LitScan(data, start, {"frame": ObjectFrame(side, side, 0, 0), "pupil": pupil_functions(optics.disk(n), 4)})


@pytest.fixture
def scan_dir(request: pytest.FixtureRequest) -> Path:
    folder = request.config.getoption("--scan-dir")
    if folder is None or not folder.is_dir():
        pytest.skip("no real scans: give their folder with --scan-dir=FOLDER (docs/benchmarks.md names them)")
    return folder


@pytest.fixture
def without_graphs() -> Iterator[None]:
    """TensorFlow takes every step operation by operation: for a few of them making a graph takes far longer."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(autouse=True)
def pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are made and written, but blank: to draw one takes half a second.

    Tests that look at them have a fixture of this name, which does nothing.
    """
    from matplotlib.image import imsave

    from ptycho.figures import drawing

    def blank(figure: object, to: object, form: str, **settings: object) -> None:
        imsave(to, np.zeros((1, 1)), format=form)

    monkeypatch.setattr(drawing, "_print", blank)


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Python's own handler of SIGINT, also where the tests run in the background, which switches interrupts off."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def fixture_file() -> Path:
    return FIXTURE


@pytest.fixture
def scan() -> RawData:
    return RawData.from_file(FIXTURE)


class Chain(NamedTuple):
    """What the command lines of a backend left: the trained model, the reconstruction, and what they said."""

    scan: Path
    model: Path
    result: Path
    settings: tuple[str, ...]
    """Flags of the training, without those of files."""
    training_log: str
    inference_log: str


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Chain]:
    """`chain(backend)`: train, save, load and infer as a user does, each command in a process of its own; once each."""

    def command(script: str, *arguments: object) -> str:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE"}
        line = [sys.executable, str(ROOT / "scripts" / script), *map(str, arguments)]
        return subprocess.run(line, capture_output=True, text=True, env=environment, check=True, timeout=600).stderr

    @functools.cache
    def run(backend: str) -> Chain | str:
        """The chain, or what the command that failed said: it is not run again for every test."""
        try:
            return commands(backend)
        except subprocess.CalledProcessError as error:
            return str(error.stderr)

    def commands(backend: str) -> Chain:
        folder = tmp_path_factory.mktemp(backend)
        model, result = folder / "model", folder / "result"
        of_pytorch = ("--torch-accelerator", "cpu") if backend == "pytorch" else ()
        settings = ("--gridsize", "2", "--n_filters_scale", "1", "--nepochs", "4", "--batch_size", "8")
        settings = ("--backend", backend, *settings, *of_pytorch)
        trained = command("training/train.py", "--train_data_file", FIXTURE, "--output_dir", model, *settings)
        inference = (
            "--backend",
            backend,
            *of_pytorch,
            *(("--refine", "10") if backend == "pytorch" else ("--no-refine",)),
        )
        files = ("--model_path", model, "--test_data", FIXTURE, "--output_dir", result)
        return Chain(FIXTURE, model, result, settings, trained, command("inference/inference.py", *files, *inference))

    def succeeded(backend: str) -> Chain:
        found = run(backend)
        assert isinstance(found, Chain), found
        return found

    return succeeded

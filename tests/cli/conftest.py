"""What the command lines are tested with: workflows that record their calls instead of working."""

import sys
import types
from contextlib import nullcontext

import numpy as np
import pytest

from ptycho.workflows.sharing.team import SINGLE


class Calls(list):
    """What the command line asked of the workflows, in order."""

    @property
    def names(self):
        return [name for name, _ in self]

    def of(self, wanted):
        return next(arguments for name, arguments in self if name == wanted)


class StandInScan:
    """What the command line needs of a scan."""

    N = 128
    name = "scan.npz"
    has_probe = True

    def __len__(self):
        return 200

    def fitted(self, sizes):
        assert self.N in sizes
        return self

    def photons(self, configured=None):
        return 1234.0

    def amplitude(self, indices):
        assert len(indices) <= 64
        return np.zeros((len(indices), 128, 128), np.float32)


@pytest.fixture
def workflows(monkeypatch):
    """Workflows that record their calls instead of working; `workflows.fail[name]`, an error or what makes one, is
    raised.
    """
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")  # said by the user: TensorFlow is not loaded to keep it quiet
    calls = Calls()
    calls.fail = {}
    reconstruction = types.SimpleNamespace(
        object=np.ones((5, 7), np.complex64),
        coverage=np.ones((5, 7), np.float32),
        method="network+refined",
        metadata={},
        error_history=(0.5, 0.125),
        uncertainty=None,
        trust=types.SimpleNamespace(grade="usable", verdict="usable, with numbers", fourier_error=0.125),
    )

    def step(name, result):
        def call(*args, **kwargs):
            calls.append((name, (args, kwargs)))
            if name in calls.fail:
                failure = calls.fail[name]
                raise failure() if callable(failure) else failure
            return result(*args, **kwargs)

        return call

    def example(
        train_data,
        test_data,
        config,
        *,
        do_stitching=False,
        learning_rate=None,
        execution_config=None,
        resume=None,
        max_seconds=None,
        diagnostics=None,
        watch=None,
        start_from=None,
    ):
        results = {"history": {"train_loss": [3.0, 1.25], "val_loss": []}}
        return None, None, {**results, **({"reconstructions": [reconstruction]} if do_stitching else {})}

    def write(folder, name):
        (folder / name).write_text("written")
        return folder / name

    selector = types.SimpleNamespace(
        require_backend=step("require_backend", lambda name: None),
        backend_named=lambda name: types.SimpleNamespace(team=lambda _run: nullcontext(SINGLE)),
        run_cdi_example_with_backend=step("train", example),
        refine_probe_with_backend=step("refine_probe", lambda *args, **kwargs: "the scan with its own probe"),
        save_bundle_with_backend=step("archive", lambda results, config, folder: write(folder, "wts.h5.zip")),
        reconstruct_with_backend=step("reconstruct", lambda *args, **kwargs: reconstruction),
    )

    def save_all(made, folder, pdf=False):
        return [path for found in made for path in outputs.save_reconstruction(found, folder, pdf=pdf)]

    outputs = types.SimpleNamespace(
        save_reconstruction=step("save", lambda made, folder, *_, **__: [write(folder, "reconstruction.npz")]),
        save_reconstructions=save_all,
        remove_results=step("remove", lambda folder, kept: None),
    )
    data = calls.scan = StandInScan()
    load = step("load", lambda path, units=None, memory_map="auto": data)
    scans = types.SimpleNamespace(RawData=types.SimpleNamespace(from_file=load))

    def read_experiments(files, units=None, memory_map="auto"):
        return tuple([path and load(path, units, memory_map) for path in paths] for paths in zip(*files, strict=True))

    monkeypatch.setattr("ptycho.workflows.experiments.read_experiments", read_experiments)
    calls.choice = types.SimpleNamespace(
        settle_by_scan=step("settle", lambda config, stated, scan: ""),
        probe_fits=step("probe_fits", lambda scan: True),
    )
    monkeypatch.setitem(sys.modules, "ptycho.workflows.choose_method", calls.choice)
    monkeypatch.setitem(sys.modules, "ptycho.workflows.backend_selector", selector)
    monkeypatch.setitem(sys.modules, "ptycho.workflows.outputs", outputs)
    monkeypatch.setitem(sys.modules, "ptycho.raw_data", scans)
    return calls


@pytest.fixture
def scan(tmp_path):
    path = tmp_path / "scan.npz"
    path.write_bytes(b"")
    return path


@pytest.fixture
def train_flags(tmp_path, scan):
    return [
        "--backend",
        "pytorch",
        "--train_data_file",
        str(scan),
        "--output_dir",
        str(tmp_path / "new" / "run"),
    ]


@pytest.fixture
def inference_flags(tmp_path, scan):
    model = tmp_path / "model"
    model.mkdir()
    out = str(tmp_path / "out")
    return ["--backend", "pytorch", "--model_path", str(model), "--test_data", str(scan), "--output_dir", out]


@pytest.fixture
def last_line(capsys):
    """The last line on stderr, where no traceback may stand."""

    def read():
        lines = capsys.readouterr().err.splitlines()
        assert lines, "nothing on stderr"
        assert not any("Traceback" in line for line in lines)
        return lines[-1]

    return read

"""`ptycho reconstruct`: from a file to a folder with the object, with what is wrong said before anything is done."""

import os
import shutil
import signal
import threading

import numpy as np
import pytest

import ptycho
from ptycho.cli import progress
from ptycho.cli.command import main
from ptycho.core.files.folder_lock import one_run_in

QUICK = ["--iterations", "24", "--modes", "none", "--refine-probe", "true"]


@pytest.fixture
def scan(tmp_path, fixture_file, monkeypatch):
    """A scan in the working directory."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(fixture_file, "scan.npz")
    return "scan.npz"


def changed(scan, name, **arrays):
    """The scan with other arrays, in a file of that name."""
    with np.load(scan) as file:
        stored = {key: file[key] for key in file.files}
    np.savez(name, **{key: value for key, value in (stored | arrays).items() if value is not None})
    return name


def run(*arguments):
    return main(["reconstruct", *arguments])


def test_no_flag_but_the_scan(scan, tmp_path, capsys):
    assert run(scan, *QUICK) == 0
    folder = tmp_path / "scan_reconstruction"
    told = capsys.readouterr().err
    for line in (
        "Checks: nothing wrong found",
        "Method: iteration alone (",
        "Backend: pytorch, the first that is",
        "Trust: ",
    ):
        assert line in told
    assert told.splitlines()[-1].endswith(f"Look at {folder.relative_to(tmp_path) / 'report.html'}")
    written = {path.name for path in folder.iterdir()}
    assert written >= {"reconstruction.npz", "reconstruction.h5", "report.html", "trust.png", "run.json", "run.log"}
    assert "state" not in written
    assert ptycho.load_reconstruction(folder).trust.unexplained < 0.1
    logged = (folder / "run.log").read_text()
    assert "Checks: nothing wrong found" in logged and "Trust: " in logged


def test_error_bars_are_told_and_stored(scan, tmp_path, capsys):
    assert run(scan, *QUICK, "--uncertainty") == 0
    told, found = capsys.readouterr().err, ptycho.load_reconstruction(tmp_path / "scan_reconstruction")
    assert f"Uncertainty: {found.uncertainty.summary}" in told
    assert "Uncertainty by counts drawn anew from the solution 4 times, 8 iterations from there after each" in told
    assert found.uncertainty.amplitude.shape == found.object.shape and found.timings["uncertainty"] > 0
    assert "Uncertainty of the phase" in (tmp_path / "scan_reconstruction" / "report.html").read_text()


def test_what_has_no_error_bars_is_refused_before_anything_is_done(scan, tmp_path, capsys):
    assert run(scan, "--uncertainty", "--variable-probe") == 2
    assert "--uncertainty: expected the same probe in all patterns, found --variable-probe" in capsys.readouterr().err
    assert not (tmp_path / "scan_reconstruction" / "reconstruction.npz").exists()


def test_a_comparison_with_nothing_is_refused_before_anything_is_done(scan, tmp_path, capsys):
    blind = changed(scan, "blind.npz", objectGuess=None)
    assert run(scan, "--compare", blind, "-o", "result") == 2
    assert "blind.npz: expected an object to compare, found none" in capsys.readouterr().err
    assert not (tmp_path / "result").exists()


@pytest.fixture
def halves(scan):
    """Every other pattern of the scan, and the rest."""
    patterns = ("diffraction", "diff3d", "xcoords", "ycoords", "xcoords_start", "ycoords_start", "scan_index")
    with np.load(scan) as file:
        cut = [{key: file[key][k::2] for key in patterns if key in file} for k in (0, 1)]
    return [changed(scan, f"{name}.npz", **arrays) for name, arrays in zip("ab", cut, strict=True)]


@pytest.mark.slow
def test_one_object_from_several_scans(halves, tmp_path, capsys):
    assert run(*halves, *QUICK[2:], "--iterations", "12", "--no-scan-offsets", "-o", "both") == 0
    told = capsys.readouterr().err
    for line in ("One object from 2 scans: ", "a.npz: Checks: nothing", "b.npz: Checks: nothing"):
        assert line in told
    found = ptycho.load_reconstruction(tmp_path / "both")
    assert found.probes.shape == (2, 1, 64, 64) and found.metadata["scans"] == ["a.npz", "b.npz"]
    assert found.trust.unexplained < 0.2
    page = (tmp_path / "both" / "report.html").read_text()
    assert "b.npz, mode 1" in page and "a.npz: 32 positions" in page


def test_what_several_scans_cannot_have_is_said(halves, capsys):
    for flags, words in (
        (["--frc"], "--frc: expected one scan, found 2"),
        (["--variable-probe"], "--variable-probe: expected one scan, found several"),
    ):
        assert run(*halves, *flags, "-o", "none") == 2
        assert words in capsys.readouterr().err


@pytest.mark.slow
def test_nothing_is_written_over_unasked(scan, tmp_path):
    for _ in range(2):
        assert run(scan, *QUICK[2:], "--iterations", "1", "-o", "out") == 0
    assert (tmp_path / "out-2" / "reconstruction.npz").exists()
    before = (tmp_path / "out" / "reconstruction.npz").stat().st_mtime_ns
    assert run(scan, *QUICK[2:], "--iterations", "1", "-o", "out", "--overwrite") == 0
    assert (tmp_path / "out" / "reconstruction.npz").stat().st_mtime_ns > before
    assert not (tmp_path / "out-3").exists()


@pytest.mark.slow
def test_a_run_that_was_cut_off_ends_as_the_whole_one(scan, tmp_path, monkeypatch, capsys):
    assert run(scan, *QUICK, "-o", "whole") == 0
    monkeypatch.setattr("ptycho.core.refinement.state_file.StateFile.due", lambda self: True)

    def stop(progress):
        if progress.done == 17:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(progress, "log_progress", stop)
        assert run(scan, *QUICK, "-o", "cut") == 143
    said = capsys.readouterr().err.splitlines()[-1]
    assert "terminated: the object so far is in cut/so_far.npz; go on with ptycho reconstruct --resume cut" in said
    so_far = ptycho.load_reconstruction(tmp_path / "cut" / "so_far.npz")
    assert len(so_far.error_history) == 18 and so_far.error_history[-1] < 0.5 * so_far.error_history[0]
    assert (tmp_path / "cut" / "preview.png").exists()
    assert not (tmp_path / "cut" / "reconstruction.npz").exists()
    seen = []
    monkeypatch.setattr(progress, "log_progress", lambda progress: seen.append(progress.done))
    assert run("--resume", "cut") == 0
    assert seen[0] == 10
    whole, cut = (ptycho.load_reconstruction(tmp_path / name) for name in ("whole", "cut"))
    assert np.array_equal(whole.object, cut.object) and np.array_equal(whole.probe, cut.probe)
    assert whole.error_history == cut.error_history
    assert not {"so_far.npz", "preview.png", "state"} & {path.name for path in (tmp_path / "cut").iterdir()}
    assert run("--resume", "cut") == 2
    assert "--resume cut: this run is finished; --start cut goes on from its result" in capsys.readouterr().err


def cut_off(monkeypatch, *arguments, at=12, number=signal.SIGTERM):
    """Run, and end it by a signal at an iteration; its exit status."""

    def stop(progress):
        if progress.done == at:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(progress, "log_progress", stop)
        return run(*arguments)


@pytest.mark.slow
def test_a_new_run_takes_nothing_of_one_that_was_cut_off(scan, tmp_path, monkeypatch):
    """Of another scan with the same numbers: its steps and its state would fit."""
    monkeypatch.setattr("ptycho.core.refinement.state_file.StateFile.due", lambda self: True)
    settings = [*QUICK, "--backend", "pytorch"]
    with np.load(scan) as file:
        name = "diffraction" if "diffraction" in file else "diff3d"
        other = changed(scan, "other.npz", **{name: file[name][::-1], "Y": None})
    assert run(scan, *settings, "-o", "whole") == 0
    assert cut_off(monkeypatch, other, *settings, "--force", "-o", "cut", number=signal.SIGUSR1) == 138
    assert (tmp_path / "cut" / "state" / "running.npz").exists()
    assert run(scan, *settings, "-o", "cut", "--overwrite") == 0
    whole, cut = (ptycho.load_reconstruction(tmp_path / name) for name in ("whole", "cut"))
    assert np.array_equal(whole.object, cut.object)


@pytest.mark.slow
def test_a_run_that_is_cut_off_over_a_result_is_unfinished(scan, tmp_path, monkeypatch, capsys):
    assert run(scan, *QUICK[2:], "--iterations", "1", "-o", "out") == 0
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.*")}
    assert cut_off(monkeypatch, scan, *QUICK, "-o", "out", "--overwrite", at=3, number=signal.SIGINT) == 130
    assert "go on with ptycho reconstruct --resume out" in capsys.readouterr().err
    kept = [name for name in before if name not in ("run.json", "run.log")]
    assert {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in kept} == {
        name: before[name] for name in kept
    }
    assert run("--resume", "out") == 0


def test_an_interrupt_before_a_run_began_says_nothing_of_an_older_one(scan, tmp_path, monkeypatch, capsys):
    assert cut_off(monkeypatch, scan, *QUICK, "-o", "out", at=3) == 143
    asked = (tmp_path / "out" / "run.json").read_bytes()
    capsys.readouterr()

    def stop(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("ptycho.cli.reconstruct.scan_asked_for", stop)
    assert run(scan, *QUICK, "-o", "out", "--overwrite") == 143
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "ptycho reconstruct: terminated: start again with the same command"
    assert (tmp_path / "out" / "run.json").read_bytes() == asked and (tmp_path / "out" / "state").is_dir()


def test_a_fault_of_the_input_takes_nothing_of_an_older_run(scan, tmp_path, monkeypatch, capsys):
    assert cut_off(monkeypatch, scan, *QUICK, "-o", "out", at=3) == 143
    np.savez(tmp_path / "broken.npz", probeGuess=np.ones((8, 8)))
    assert run("broken.npz", *QUICK, "-o", "out", "--overwrite") == 2
    assert {"run.json", "run.log", "state"} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_two_runs_do_not_share_a_folder(scan, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    held, go_on = threading.Event(), threading.Event()

    def other():
        with one_run_in(tmp_path / "out"):
            held.set()
            go_on.wait(60)

    thread = threading.Thread(target=other)
    thread.start()
    held.wait(60)
    assert run(scan, *QUICK, "-o", "out") == 2
    go_on.set()
    thread.join()
    said = capsys.readouterr().err.splitlines()[-1]
    assert "cannot write to out: expected a folder that no other run is writing to" in said
    assert f"found that of process {os.getpid()} on" in said
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("command", ["reconstruct", "train"])
def test_one_stray_position_is_refused_before_work(command, scan, tmp_path, capsys):
    with np.load(scan) as file:
        x = file["xcoords"].copy()
    x[17] = 1e5
    changed(scan, "stray.npz", xcoords=x, ycoords=x[::-1].copy(), objectGuess=None, Y=None)
    x, y = np.load("stray.npz")["xcoords"], np.load("stray.npz")["ycoords"]
    arguments = {
        "reconstruct": ["stray.npz", "--force", "-o", "out"],
        "train": ["--train-data-file", "stray.npz", "--output-dir", "out", "--n-groups", "8", "--nepochs", "1"],
    }
    assert main([command, *arguments[command], "--backend", "pytorch"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "pattern 17 at (100000, " in said and "far from all others; leave it out (ptycho dataset subsample" in said
    assert x[17] == 1e5 and y[-18] == 1e5


@pytest.mark.slow
def test_goes_on_from_a_result(scan, tmp_path):
    assert run(scan, *QUICK, "-o", "first") == 0
    assert run(scan, *QUICK, "-o", "second", "--start", "first") == 0
    first, second = (ptycho.load_reconstruction(tmp_path / name) for name in ("first", "second"))
    assert second.error_history[0] == pytest.approx(first.trust.fourier_error, rel=1e-3)
    assert second.trust.overall_ratio < first.trust.overall_ratio


@pytest.mark.slow
def test_crop_is_of_the_detector(scan, tmp_path):
    """Not of what the light alone would leave of it."""
    with np.load(scan) as file:
        name = "diffraction" if "diffraction" in file else "diff3d"
        wide = np.pad(file[name], ((0, 0), (30, 30), (24, 24)))
    wider = changed(scan, "wide.npz", **{name: wide, "probeGuess": None, "objectGuess": None, "Y": None})
    assert run(wider, "--crop", "100", "--iterations", "1", "--modes", "none", "-o", "cropped") == 0
    assert ptycho.load_reconstruction(tmp_path / "cropped").probe.shape[-1] == 100
    assert run(wider, "--crop", "100", "--bin", "2", "--iterations", "1", "--modes", "none", "-o", "binned") == 0
    assert ptycho.load_reconstruction(tmp_path / "binned").probe.shape[-1] == 50


def metres(scan):
    with np.load(scan) as file:
        return {"xcoords": file["xcoords"] * 3e-8, "ycoords": file["ycoords"] * 3e-8, "objectGuess": None}


def shuffled(scan):
    with np.load(scan) as file:
        order = np.random.default_rng(0).permutation(len(file["xcoords"]))
        return {"xcoords": file["xcoords"][order], "ycoords": file["ycoords"][order]}


def not_a_number(scan):
    with np.load(scan) as file:
        patterns = file["diffraction" if "diffraction" in file else "diff3d"].astype(np.float32)
    patterns[3, 5, 7] = np.nan
    return {"diffraction": patterns, "diff3d": None}


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (metres, ("place: All positions lie within", "--unit um (or m,")),
        (shuffled, ("order: ", "--scan-positions")),
    ],
)
def test_a_fault_stops_with_what_mends_it(fault, said, scan, tmp_path, capsys):
    bad = changed(scan, "bad.npz", **fault(scan))
    assert run(bad, *QUICK) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("ptycho reconstruct: error: bad.npz: ") and "or go on with --force" in last
    assert all(text in last for text in said)
    assert not (tmp_path / "bad_reconstruction").exists()


def test_nan_stops_too(scan, capsys):
    assert run(changed(scan, "bad.npz", **not_a_number(scan)), *QUICK) == 2
    assert "bad.npz: diffraction: expected finite numbers, found 1 NaN or infinite" in capsys.readouterr().err


def test_force_goes_on_and_says_so(scan, tmp_path, capsys):
    bad = changed(scan, "bad.npz", **shuffled(scan))
    assert run(bad, *QUICK[2:], "--iterations", "1", "--force") == 0
    assert "(--force: gone on all the same)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "m", "--train", "3"], "--model and --train each say where to begin: give one of them"),
        (["--start", "absent"], "--start absent: no such file"),
        (["--model", "absent"], "--model absent: no such file"),
        (["--modes", "0"], "--modes: expected"),
        (["--iteration", "3"], "unknown argument --iteration; did you mean --iterations"),
    ],
)
def test_bad_input_is_one_line(flags, message, scan, tmp_path, capsys):
    assert run(scan, *flags) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and message in lines[0]
    assert [path.name for path in tmp_path.iterdir()] == ["scan.npz"]


def test_the_scan_is_required(scan, capsys):
    assert run() == 2
    assert "SCAN is required, a file: name the scan to reconstruct" in capsys.readouterr().err

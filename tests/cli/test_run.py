"""What the command lines share: folders, the workflows they call, help that loads nothing."""

import inspect
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ptycho.cli import run as run_module
from ptycho.cli.command import main
from ptycho.cli.console import drawing_to_files, resumable
from ptycho.cli.infer import inference_main
from ptycho.cli.train import train_main
from ptycho.errors import LostProcessError


@pytest.mark.parametrize("main", ["train", "inference"])
def test_output_folder_that_cannot_be_written(main, workflows, request, scan, last_line):
    flags = [*request.getfixturevalue(f"{main}_flags"), "--output_dir", str(scan / "out")]
    assert {"train": train_main, "inference": inference_main}[main](flags) == 2
    line = last_line()
    assert f"error: --output-dir {scan / 'out'}: cannot be written: " in line
    assert workflows.names == ["require_backend"]


def test_workflows_take_the_calls_that_the_command_lines_make():
    from ptycho.raw_data import RawData
    from ptycho.workflows import backend_selector, outputs

    for call, args, options in [
        (RawData.from_file, ["scan"], ["units"]),
        (backend_selector.require_backend, ["name"], []),
        (
            backend_selector.run_cdi_example_with_backend,
            ["train", "test", "config"],
            [
                "do_stitching",
                "learning_rate",
                "execution_config",
                "resume",
                "max_seconds",
                "diagnostics",
                "watch",
                "start_from",
            ],
        ),
        (backend_selector.refine_probe_with_backend, ["data", "config", 3], ["execution_config"]),
        (backend_selector.save_bundle_with_backend, ["results", "config", "folder"], []),
        (
            backend_selector.reconstruct_with_backend,
            ["data", "config"],
            ["refine", "refinement", "execution_config", "diagnostics", "watch"],
        ),
        (outputs.save_reconstruction, ["reconstruction", "folder", "data"], ["compare_with", "pdf"]),
        (outputs.save_reconstructions, [["reconstruction"], "folder", True], []),
    ]:
        inspect.signature(call).bind(*args, **dict.fromkeys(options))


@pytest.mark.parametrize("script", ["scripts/training/train.py", "scripts/inference/inference.py"])
def test_help_is_quick_and_loads_nothing_heavy(script):
    root = Path(__file__).parents[2]
    code = (
        "import runpy, sys\n"
        "sys.argv = [sys.argv[1], '--help']\n"
        "try:\n"
        "    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as stop:\n"
        "    heavy = {'torch', 'tensorflow', 'lightning', 'numpy', 'scipy', 'h5py'} & set(sys.modules)\n"
        "    sys.exit(f'loaded {heavy}, status {stop.code}' if heavy or stop.code else 0)\n"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, script], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--output-dir" in done.stdout
    assert time.perf_counter() - started < 5.0  # a tenth of a second on an idle machine


def test_the_log_of_libraries_is_not_shown(capfd):
    with run_module._without_chatter():
        os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n")
        os.write(2, b"I0000 00:00:1795912204.3 2079 port.cc:153] oneDNN custom operations are on.\n")
        os.write(2, b"F0000 00:00:1795912204.3 2079 port.cc:153] no such instruction\n")
        os.write(2, b"something else\n")
    os.write(2, b"after\n")
    shown = capfd.readouterr().err
    assert sorted(line.split()[0] for line in shown.splitlines()) == ["F0000", "after", "something"]


def test_a_cache_that_cannot_be_made_is_elsewhere_for_the_run(tmp_path, monkeypatch, caplog):
    """PyTorch's compiler cannot be loaded without one."""
    name = "TORCHINDUCTOR_CACHE_DIR"
    monkeypatch.setenv(name, str(tmp_path / "cache"))
    with run_module.usable_cache():
        assert os.environ[name] == str(tmp_path / "cache")
    (tmp_path / "file").touch()
    monkeypatch.setenv(name, str(tmp_path / "file" / "cache"))
    with run_module.usable_cache():
        instead = Path(os.environ[name])
        assert instead.is_dir()
    assert os.environ[name] == str(tmp_path / "file" / "cache") and not instead.exists()
    assert caplog.messages == [f"{name}={os.environ[name]} cannot be written: compiled code is kept for this run alone"]
    monkeypatch.delenv(name)
    with run_module.usable_cache():
        assert name not in os.environ


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_log_that_cannot_be_written_ends_nothing_and_says_nothing(tmp_path, capsys):
    (tmp_path / "run.log").symlink_to("/dev/full")
    with run_module.run_log(tmp_path / "run.log"):
        logging.getLogger("ptycho").warning("said")
    assert capsys.readouterr() == ("", "")


def test_pictures_are_drawn_whatever_jupyter_says(monkeypatch):
    """Its backend is a module that another environment lacks: matplotlib then cannot even be imported."""
    for named, within in (("module://no_such_module.backend", "agg"), ("module://json.tool", "module://json.tool")):
        monkeypatch.setenv("MPLBACKEND", named)
        with drawing_to_files():
            assert not logging.getLogger("matplotlib.font_manager").isEnabledFor(logging.WARNING)
            assert os.environ["MPLBACKEND"] == within
        assert os.environ["MPLBACKEND"] == named


def test_a_training_that_loses_a_process_says_how_to_go_on(tmp_path):
    checkpoint = tmp_path / "last.ckpt"
    for write, said in (
        (False, "process 1 is gone"),
        (True, "process 1 is gone; go on with the same command and --res"),
    ):
        with pytest.raises(LostProcessError) as lost, resumable(checkpoint):
            if write:
                checkpoint.write_text("weights")
            raise LostProcessError("process 1 is gone")
        assert str(lost.value).startswith(said) and (write or str(lost.value) == said)


@pytest.mark.parametrize("command", ["reconstruct", "fourier", "live", "inference"])
def test_what_a_result_is_compared_with_is_read_before_all_else(command, tmp_path, monkeypatch, capsys):
    """An hour later the report is too late to find that there is nothing to compare with."""
    monkeypatch.chdir(tmp_path)
    Path("text.npz").write_text("no archive")
    named = ["--test-data", "text.npz"] if command == "inference" else ["text.npz"]
    assert main([command, *named, "--compare", "absent", "-o", "result"]) == 2
    assert "--compare absent: no such file" in capsys.readouterr().err
    assert main([command, *named, "--compare", "text.npz", "-o", "result"]) == 2
    assert "text.npz" in capsys.readouterr().err and not Path("result").exists()

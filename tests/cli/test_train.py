"""`ptycho_train`: bad input is one line and status 2, a run says what it did."""

import logging
import re
import sys
import types
import warnings

import pytest

from ptycho.cli.train import train_main
from ptycho.config.config import ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho.config.schema import is_stated, settings_of
from ptycho.core.files.atomic import atomic_path
from ptycho.errors import BackendError, DataError


class TestTrain:
    def test_order_of_a_run(self, workflows, train_flags, tmp_path):
        assert train_main(train_flags) == 0
        assert workflows.names == ["require_backend", "load", "settle", "probe_fits", "train", "archive"]
        assert workflows.of("require_backend") == (("pytorch",), {})
        assert (tmp_path / "new" / "run" / "wts.h5.zip").is_file()

    def test_stitching_validation_scan_and_units(self, workflows, train_flags, scan):
        flags = ["--test_data", str(scan), "--do_stitching", "--units", "counts"]
        assert train_main(train_flags + flags) == 0
        order = ["require_backend", "load", "load", "settle", "probe_fits", "train", "archive", "save"]
        assert workflows.names == order
        assert workflows.of("load") == ((scan, "counts", "auto"), {})
        (_, (test_data,), config), options = workflows.of("train")
        assert test_data is not None
        assert options["do_stitching"] is True
        assert options["execution_config"] == PyTorchExecutionConfig()
        assert config.train_data_file == scan

    def test_an_earlier_model_is_left_alone(self, workflows, train_flags, tmp_path, capsys):
        run = tmp_path / "new" / "run"
        for flags in ([], [], ["--overwrite"], []):
            assert train_main([*train_flags, *flags]) == 0
        folders = [arguments[2] for name, (arguments, _) in workflows if name == "archive"]
        assert folders == [run, run.with_name("run-2"), run, run.with_name("run-3")]
        assert f"{run} holds a model: writing to {run}-2 (--overwrite writes over it)" in capsys.readouterr().err

    def test_results_of_the_model_that_is_overwritten_go(self, workflows, train_flags, scan, tmp_path):
        run = tmp_path / "new" / "run"
        run.mkdir(parents=True)
        (run / "preview.png").touch()
        assert train_main(train_flags) == 0
        assert "remove" not in workflows.names and not (run / "preview.png").exists()
        assert train_main([*train_flags, "--overwrite"]) == 0
        assert workflows.of("remove") == ((run, 0), {})

    @pytest.mark.parametrize("of", ["run", "run-2"])
    def test_a_training_goes_on_in_its_own_folder(self, of, workflows, train_flags, tmp_path):
        checkpoint = tmp_path / "new" / of / "checkpoints" / "last.ckpt"
        checkpoint.parent.mkdir(parents=True)
        checkpoint.write_bytes(b"")
        (tmp_path / "new" / "run").mkdir(exist_ok=True)
        (tmp_path / "new" / "run" / "wts.h5.zip").write_bytes(b"of before")
        assert train_main([*train_flags, "--resume", str(checkpoint)]) == 0
        assert workflows.of("archive")[0][2] == tmp_path / "new" / of

    def test_pattern_size_comes_from_the_scan_unless_given(self, workflows, train_flags):
        train_main(train_flags)
        assert workflows.of("train")[0][2].model.N == 128
        workflows.clear()
        train_main([*train_flags, "--N", "64"])
        assert workflows.of("train")[0][2].model.N == 64

    def test_the_network_is_chosen_by_the_scan_where_nothing_is_said(self, workflows, train_flags):
        assert train_main([*train_flags, "--gridsize", "1"]) == 0
        (config, stated, data), _ = workflows.of("settle")
        assert data is workflows.scan and "gridsize" in stated and "architecture" not in stated
        assert config is workflows.of("train")[0][2]

    @pytest.mark.parametrize(
        ("flags", "fits", "iterations"), [([], True, 0), ([], False, 40), (["--find-probe", "7"], True, 7)]
    )
    def test_a_probe_that_does_not_fit_is_found_first(self, flags, fits, iterations, workflows, train_flags):
        workflows.choice.probe_fits = lambda scan: fits
        assert train_main([*train_flags, *flags]) == 0
        assert ("refine_probe" in workflows.names) == bool(iterations)
        if iterations:
            assert workflows.of("refine_probe")[0][2] == iterations

    def test_configuration_file(self, workflows, train_flags, tmp_path):
        path = tmp_path / "c.toml"
        path.write_text("nepochs = 7\nbatch_size = 8\n[model]\nN = 256\n")
        assert train_main([*train_flags, "--config", str(path), "--batch_size", "4"]) == 0
        config = workflows.of("train")[0][2]
        assert (config.nepochs, config.batch_size, config.model.N) == (7, 4, 256)

    def test_report_names_files_and_numbers(self, workflows, train_flags, tmp_path, capsys):
        assert train_main([*train_flags, "--do_stitching"]) == 0
        captured = capsys.readouterr()
        assert captured.out == ""
        for text in (
            "train_loss 1.25",
            "5 x 7 pixels, 100.0 % covered (network+refined)",
            "0.5 before",
            "0.125 after",
            "wts.h5.zip",
            "reconstruction.npz",
        ):
            assert text in captured.err

    def test_quiet(self, workflows, train_flags, capsys):
        assert train_main([*train_flags, "--quiet"]) == 0
        assert capsys.readouterr().err == ""
        assert workflows.of("train")[1]["execution_config"].enable_progress_bar is False

    def test_logging_is_left_as_it_was(self, workflows, train_flags):
        loggers = [logging.getLogger(name) for name in ("ptycho", "ptycho_torch")]
        before = [(logger.level, list(logger.handlers)) for logger in loggers] + [warnings.showwarning]
        train_main([*train_flags, "--debug"])
        after = [(logger.level, list(logger.handlers)) for logger in loggers] + [warnings.showwarning]
        assert after == before

    def test_rich_log_on_a_terminal(self, workflows, train_flags, monkeypatch, capsys):
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        assert train_main(train_flags) == 0
        text = re.sub("\x1b\\[[0-9;]*m", "", capsys.readouterr().err)
        assert re.search(r"\[\d\d/\d\d/\d\d .*INFO +Last of 2 epochs", text)

    def test_deprecated_name_is_one_warning_in_the_log(self, workflows, train_flags, capsys):
        assert train_main([*train_flags, "--n_images", "9", "--n_groups", "5"]) == 0
        assert workflows.of("train")[0][2].n_groups == 5
        lines = [line for line in capsys.readouterr().err.splitlines() if "is deprecated" in line]
        assert len(lines) == 1
        assert "WARNING" in lines[0]
        assert "n_images=9 gives way to n_groups=5" in lines[0]

    def test_the_time_is_limited(self, workflows, train_flags, last_line):
        assert train_main([*train_flags, "--max_seconds", "90"]) == 0
        assert workflows.of("train")[1]["max_seconds"] == 90.0
        assert train_main([*train_flags, "--max_seconds", "0"]) == 2
        assert "--max-seconds: expected a finite number above 0 or none, found 0" in last_line()

    def test_it_begins_with_given_weights_and_in_their_shape(self, workflows, train_flags, last_line):
        assert train_main([*train_flags, "--start_from", "universal"]) == 0
        config, start = workflows.of("train")[0][2], workflows.of("train")[1]["start_from"]
        assert (config.model.architecture, str(start)) == ("unrolled", "universal")
        assert "settle" not in workflows.names
        assert train_main([*train_flags, "--start_from", "absent"]) == 2
        assert "--start-from absent: no such file" in last_line()

    def test_simulated_objects_train_and_the_scan_validates(self, workflows, train_flags, monkeypatch):
        made, calls = object(), []

        def simulated_scan_like(data, objects, photons, seed):
            calls.append((objects, photons, seed))
            return made

        stand_in = types.SimpleNamespace(simulated_scan_like=simulated_scan_like)
        monkeypatch.setitem(sys.modules, "ptycho.workflows.networks.simulated_training", stand_in)
        assert train_main([*train_flags, "--simulated_objects", "3", "--subsample_seed", "8"]) == 0
        (train_data,), (test_data,), _ = workflows.of("train")[0]
        assert train_data is made and test_data is workflows.scan
        assert calls == [(3, 1234.0, 8)]

    def test_the_older_name_of_find_probe_warns(self, workflows, train_flags, capsys):
        assert train_main([*train_flags, "--refine_probe", "7"]) == 0
        assert capsys.readouterr().err.count("--refine-probe is deprecated: use --find-probe 7") == 1
        assert workflows.of("refine_probe")[0][2] == 7

    @pytest.mark.parametrize("stated", [True, False])
    def test_a_dose_counts_as_a_claim_where_it_was_stated(self, stated, workflows, train_flags):
        assert train_main([*train_flags, *(["--nphotons", "1e9"] if stated else [])]) == 0
        config = workflows.of("train")[0][2]
        assert (config.nphotons, is_stated(config, "nphotons")) == (1e9, stated)

    def test_what_an_earlier_result_knows_of_the_recording(
        self, workflows, train_flags, tmp_path, monkeypatch, last_line
    ):
        earlier = tmp_path / "earlier"
        earlier.mkdir()
        known = type(workflows.scan)()
        monkeypatch.setattr("ptycho.workflows.iteration.start_from.recorded_as", lambda data, path: known)
        flags = [*train_flags, "--recording", str(earlier)]
        assert train_main(flags) == 0
        assert workflows.of("train")[0][0] == [known]
        assert train_main([*flags, "--training-directories", str(earlier)]) == 2
        assert "--recording is a result of one scan, and several experiments are trained on" in last_line()

    def test_the_probe_is_refined_before_anything_is_trained(self, workflows, train_flags):
        assert train_main([*train_flags, "--find-probe", "7"]) == 0
        (data, config, iterations), options = workflows.of("refine_probe")
        assert data is workflows.scan and iterations == 7
        assert options["execution_config"] is workflows.of("train")[1]["execution_config"]
        assert workflows.of("train")[0][0] == ["the scan with its own probe"]
        assert config is workflows.of("train")[0][2]

    @pytest.mark.parametrize("backend", ["tensorflow", "pytorch"])
    def test_the_learning_rate_is_for_either_backend(self, backend, workflows, train_flags):
        flags = [*train_flags, "--backend", backend]
        assert train_main([*flags, "--learning_rate", "3e-4"]) == 0
        assert workflows.of("train")[1]["learning_rate"] == 3e-4


class TestErrors:
    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            ([], "--train-data-file is required"),
            (["--train_data_file", "."], "--train-data-file is required"),
            (["--train_data_file", "absent.npz"], "--train-data-file absent.npz: no such file"),
            (["--test_data_file", "absent.npz"], "--test-data-file absent.npz: no such file"),
            (["--config", "absent.yaml"], "absent.yaml: no such configuration file"),
            (["--nepoch", "3"], "unknown argument --nepoch; did you mean --nepochs"),
            (["--batch_size", "0"], "argument --batch-size: expected a whole number at least 1, found 0"),
            (["--resume", "absent.ckpt"], "--resume absent.ckpt: no such file"),
            (["--units", "volts"], "expected one of amplitude, counts or none, found volts"),
            (["--gridsize", "2", "--neighbor_count", "3"], "raise neighbor_count to 4"),
            (["--torch-learning-rate", "-1"], "--torch-learning-rate: expected a finite number above 0"),
            (["--torch-prefetch-factor", "2"], "prefetch_factor=2 needs num_workers above 0"),
            (["--quiet", "--debug-dumps", "x"], "unknown argument --debug-dumps; did you mean --debug-dump"),
            (["--debug-dump", "x"], "--debug-dump shows what stitching works with: give --do-stitching too"),
        ],
    )
    def test_bad_input_stops_before_any_work(self, flags, message, workflows, train_flags, tmp_path, capsys):
        given = train_flags[:2] + train_flags[4:] if "--train_data_file" in flags or not flags else train_flags
        assert train_main([*given, *flags]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert len(captured.err.splitlines()) == 1
        assert captured.err.startswith("ptycho_train: error: ")
        assert message in captured.err
        assert workflows == []
        assert not (tmp_path / "new").exists()

    def test_backend_that_is_not_there(self, workflows, train_flags, tmp_path, last_line):
        workflows.fail["require_backend"] = BackendError("TensorFlow is not there: use --backend pytorch")
        assert train_main(train_flags) == 2
        assert last_line() == "ptycho_train: error: TensorFlow is not there: use --backend pytorch"
        assert workflows.names == ["require_backend"]
        assert not (tmp_path / "new").exists()

    @pytest.mark.parametrize("command", ["train", "native"])
    def test_what_cannot_be_stitched_is_found_before_any_work(self, command, workflows, train_flags, last_line):
        from ptycho_torch.train import main

        flags = ["--no-positions-provided", "--do-stitching"]
        run = train_main if command == "train" else main
        assert run([*train_flags[2 * (command == "native") :], *flags]) == 2
        assert "positions_provided=False: stitching needs the scan positions" in last_line()
        assert workflows == []

    def test_failure_leaves_no_empty_folder(self, workflows, train_flags, tmp_path, last_line):
        workflows.fail["load"] = DataError("scan.npz: expected\n  xcoords, found none")
        assert train_main(train_flags) == 2
        assert last_line() == "ptycho_train: error: scan.npz: expected xcoords, found none"
        assert not (tmp_path / "new").exists()

    def test_failure_leaves_a_folder_that_was_there(self, workflows, train_flags, tmp_path):
        (tmp_path / "new").mkdir()
        workflows.fail["train"] = DataError("no")
        assert train_main(train_flags) == 2
        assert (tmp_path / "new").is_dir()
        assert not (tmp_path / "new" / "run").exists()

    def test_disk_full_while_writing(self, workflows, train_flags, last_line):
        workflows.fail["archive"] = OSError(28, "No space left on device")
        assert train_main(train_flags) == 2
        assert "No space left on device" in last_line()

    def test_debug_shows_the_traceback(self, workflows, train_flags, capsys):
        workflows.fail["load"] = DataError("bad scan")
        assert train_main([*train_flags, "--debug"]) == 2
        captured = capsys.readouterr().err
        assert "Traceback" in captured
        assert captured.splitlines()[-1] == "ptycho_train: error: bad scan"

    def test_a_defect_of_the_program_is_not_hidden(self, workflows, train_flags):
        workflows.fail["train"] = ZeroDivisionError("a defect")
        with pytest.raises(ZeroDivisionError, match="a defect"):
            train_main(train_flags)

    def test_the_learning_rate_is_given_once(self, workflows, train_flags, last_line):
        assert train_main([*train_flags, "--learning_rate", "3e-4", "--torch-learning-rate", "1e-3"]) == 2
        assert "--torch-learning-rate are the same setting: give one of them" in last_line()
        assert train_main([*train_flags, "--learning_rate", "0"]) == 2
        assert "--learning-rate: expected a finite number above 0 or none, found 0" in last_line()

    def test_interrupt(self, workflows, train_flags, tmp_path, last_line):
        workflows.fail["train"] = KeyboardInterrupt()
        assert train_main(train_flags) == 130
        assert last_line() == "ptycho_train: interrupted: start again with the same command"
        assert not (tmp_path / "new").exists()

    def test_interrupt_with_a_checkpoint_says_how_to_go_on(self, workflows, train_flags, tmp_path, last_line):
        checkpoint = tmp_path / "new" / "run" / "checkpoints" / "last.ckpt"

        def trained_an_epoch():
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(checkpoint) as temporary:
                temporary.write_bytes(b"an epoch")
            return KeyboardInterrupt()

        workflows.fail["train"] = trained_an_epoch
        assert train_main(train_flags) == 130
        advice = f"go on with the same command and --resume {checkpoint}"
        assert last_line() == f"ptycho_train: interrupted: {advice}"
        workflows.fail.clear()
        workflows.clear()
        assert train_main([*train_flags, "--resume", str(checkpoint)]) == 0
        assert workflows.of("train")[1]["resume"] == checkpoint
        # the next run takes the folder, and is stopped before and after its first epoch
        workflows.fail["train"] = KeyboardInterrupt()
        assert train_main([*train_flags, "--overwrite"]) == 130
        assert last_line() == "ptycho_train: interrupted: start again with the same command"
        workflows.fail["train"] = trained_an_epoch
        assert train_main([*train_flags, "--overwrite"]) == 130
        assert last_line() == f"ptycho_train: interrupted: {advice}"


def test_help_names_every_field(capsys):
    with pytest.raises(SystemExit) as caught:
        train_main(["--help-all"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for cls in (ModelConfig, TrainingConfig):
        for name, declared in settings_of(cls).items():
            for key in settings_of(declared.nested) if declared.nested else [declared.doc.flag or name]:
                assert re.search(f"--{key.replace('_', '-')}[ ,]", text)

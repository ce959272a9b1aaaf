"""`ptycho_inference`: bad input is one line and status 2, a run says what it did."""

import pytest

from ptycho.cli.infer import inference_main


class TestInference:
    def test_run(self, workflows, inference_flags, tmp_path, scan, capsys):
        assert inference_main([*inference_flags, "--refine", "40", "--torch-inference-batch-size", "8"]) == 0
        assert workflows.names == ["require_backend", "load", "reconstruct", "save"]
        (_, config), options = workflows.of("reconstruct")
        assert (config.model_path, config.test_data_file) == (tmp_path / "model", scan)
        assert (options["refine"], options["refinement"]) == (40, {})
        assert options["execution_config"].inference_batch_size == 8
        told = capsys.readouterr().err
        assert str(tmp_path / "out" / "reconstruction.npz") in told
        assert told.splitlines()[-1].endswith("Trust: usable, with numbers")
        assert "Trust: usable, with numbers" in (tmp_path / "out" / "run.log").read_text()

    @pytest.mark.parametrize(("flags", "expected"), [([], 80), (["--no-refine"], 0), (["--refine", "0"], 0)])
    def test_a_pass_is_refined_unless_it_is_not_wanted(self, flags, expected, workflows, inference_flags):
        assert inference_main([*inference_flags, *flags]) == 0
        assert workflows.of("reconstruct")[1]["refine"] == expected

    @pytest.mark.parametrize(("flags", "expected"), [([], False), (["--no-refine", "--uncertainty"], True)])
    def test_a_pass_has_error_bars_where_they_are_asked_for(self, flags, expected, workflows, inference_flags):
        assert inference_main([*inference_flags, *flags]) == 0
        assert workflows.of("reconstruct")[1]["uncertainty"] is expected

    def test_an_interrupt_says_what_is_left(self, workflows, inference_flags, tmp_path, scan, last_line):
        def cut_off():
            (tmp_path / "out" / "so_far.npz").write_text("found")
            return KeyboardInterrupt()

        workflows.fail["reconstruct"] = cut_off
        assert inference_main(inference_flags) == 130
        found = tmp_path / "out" / "so_far.npz"
        expected = f"the object so far is in {found}; go on with ptycho reconstruct {scan} --start {found}"
        assert last_line().endswith(expected)
        del workflows.fail["reconstruct"]
        assert inference_main(inference_flags) == 0 and not found.exists()

    def test_an_earlier_result_is_left_alone(self, workflows, inference_flags, tmp_path, capsys):
        for flags in ([], [], ["--overwrite"], []):
            assert inference_main([*inference_flags, *flags]) == 0
        folders = [arguments[1] for name, (arguments, _) in workflows if name == "save"]
        assert folders == [tmp_path / name for name in ("out", "out-2", "out", "out-3")]
        assert f"{tmp_path / 'out'} holds a result: writing to {tmp_path / 'out-2'}" in capsys.readouterr().err

    def test_how_to_refine(self, workflows, inference_flags):
        how = ["--no-refine_probe", "--refine_positions", "--refine_likelihood", "poisson", "--refine_holdout", "0.05"]
        assert inference_main([*inference_flags, "--refine", "9", *how]) == 0
        expected = {"refine_probe": False, "refine_positions": True, "likelihood": "poisson", "holdout": 0.05}
        assert workflows.of("reconstruct")[1]["refinement"] == expected

    @pytest.mark.parametrize(("flag", "expected"), [("", {"noise": 0.0}), ("no-", {})])
    def test_refinement_stops_at_the_noise_unless_asked_to_go_on(self, flag, expected, workflows, inference_flags):
        assert inference_main([*inference_flags, "--refine", "9", f"--{flag}refine_beyond_noise"]) == 0
        assert workflows.of("reconstruct")[1]["refinement"] == expected

    def test_what_an_earlier_result_knows_of_the_recording(self, workflows, inference_flags, tmp_path, monkeypatch):
        (tmp_path / "earlier").mkdir()
        monkeypatch.setattr(
            "ptycho.workflows.iteration.start_from.recorded_as", lambda data, path: f"scan as in {path.name}"
        )
        assert inference_main([*inference_flags, "--recording", str(tmp_path / "earlier")]) == 0
        assert workflows.of("reconstruct")[0][0] == "scan as in earlier"
        assert inference_main([*inference_flags, "--recording", str(tmp_path / "nowhere")]) == 2

    def test_debug_reaches_the_configuration(self, workflows, inference_flags):
        assert inference_main([*inference_flags, "--debug"]) == 0
        assert workflows.of("reconstruct")[0][1].debug is True

    def test_model_settings_are_not_the_callers(self, workflows, inference_flags, tmp_path, capsys):
        path = tmp_path / "c.yaml"
        path.write_text("model: {N: 128}\n")
        assert inference_main([*inference_flags, "--config", str(path)]) == 2
        assert "the settings of the model come with --model-path" in capsys.readouterr().err
        assert inference_main([*inference_flags, "--gridsize", "2"]) == 2


class TestErrors:
    @pytest.mark.parametrize("named", ["--model_path", "--test_data"])
    def test_inference_needs_its_files(self, named, workflows, inference_flags, last_line):
        assert inference_main([*inference_flags, named, "absent"]) == 2
        assert f"{named.replace('_', '-')} absent: no such file" in last_line()
        place = inference_flags.index("--test_data")
        assert inference_main(inference_flags[:place] + inference_flags[place + 2 :]) == 2
        assert last_line().startswith("ptycho_inference: error: --test-data is required, a file: name the ")
        assert workflows == []

    def test_without_a_model_it_takes_that_of_the_package(self, workflows, inference_flags):
        place = inference_flags.index("--model_path")
        assert inference_main(inference_flags[:place] + inference_flags[place + 2 :]) == 0
        assert workflows.of("reconstruct")[0][1].model_path.name == "universal.wts.h5.zip"

    @pytest.mark.parametrize("count", ["-1", "1.5", "few"])
    def test_refine_takes_a_count(self, count, workflows, inference_flags, last_line):
        assert inference_main([*inference_flags, f"--refine={count}"]) == 2
        assert f"--refine: expected a whole number at least 0, found {count}" in last_line()

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (["--no-refine", "--refine_positions"], "--refine-positions says how to refine, which is off"),
            (
                ["--refine", "0", "--refine_likelihood", "poisson"],
                "--refine-likelihood says how to refine, which is off",
            ),
            (
                ["--refine", "5", "--refine_likelihood", "gauss"],
                "--refine-likelihood: expected one of amplitude, poisson",
            ),
            (["--refine", "5", "--refine_holdout", "-1"], "--refine-holdout: expected a finite number at least 0"),
        ],
    )
    def test_a_refinement_that_cannot_work(self, flags, message, workflows, inference_flags, last_line):
        assert inference_main([*inference_flags, *flags]) == 2
        assert message in last_line()
        assert workflows == []

"""Train, save, load and infer as a user of TensorFlow does: each command in a process of its own.

What both backends have to do is in `tests/integration`.
"""

import numpy as np

from ptycho.cli.infer import inference_main


def test_train_save_load_infer(chain) -> None:
    run = chain("tensorflow")
    assert "epoch 4/4" in run.training_log
    assert (run.model / "wts.h5.zip").is_file()
    assert "Loaded intensity_scale from bundle" in run.inference_log
    with np.load(run.result / "reconstruction.npz") as file, np.load(run.scan) as scan:
        assert file["object"].shape == scan["objectGuess"].shape


def test_refinement_ends_better_than_it_began(chain, tmp_path) -> None:
    run, refined = chain("tensorflow"), tmp_path / "refined"
    files = ["--model_path", run.model, "--test_data", run.scan, "--output_dir", refined]
    assert inference_main([*map(str, files), "--backend", "tensorflow", "--refine", "10", "--no-refine_probe"]) == 0
    with np.load(refined / "reconstruction.npz") as file:
        assert len(file["error_history"]) == 11
        assert file["error_history"][-1] < file["error_history"][0]
        assert not np.array_equal(file["network_object"], file["object"])

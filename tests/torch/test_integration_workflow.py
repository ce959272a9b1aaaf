"""Train, save, load, infer and refine as a user of PyTorch does: each command in a process of its own.

What both backends have to do is in `tests/integration`.
"""

import numpy as np


def test_train_save_load_infer(chain) -> None:
    run = chain("pytorch")
    assert "epoch 4/4" in run.training_log
    assert (run.model / "wts.h5.zip").is_file()
    assert "Loaded intensity_scale from bundle" in run.inference_log
    with np.load(run.result / "reconstruction.npz") as file, np.load(run.scan) as scan:
        assert file["object"].shape == scan["objectGuess"].shape


def test_refinement_ends_better_than_it_began(chain) -> None:
    run = chain("pytorch")
    assert (run.result / "network_amplitude.png").is_file()
    with np.load(run.result / "reconstruction.npz") as file:
        assert len(file["error_history"]) == 11
        assert file["error_history"][-1] < file["error_history"][0]
        assert not np.array_equal(file["network_object"], file["object"])

"""A picture now and then: when there is something, when it is time, and no more often than it may cost."""

from functools import partial

import pytest

from ptycho.config.config import ModelConfig, TrainingConfig
from ptycho.core.progress import Progress
from ptycho.workflows import preview as preview_module
from ptycho.workflows.backend_selector import backend_named
from ptycho.workflows.preview import Preview
from ptycho.workflows.run_options import RunOptions
from ptycho.workflows.train import train


@pytest.fixture
def drawn(monkeypatch):
    """The times at which pictures were drawn, each of which takes two seconds; `now` is the clock."""
    times = []
    clock = {"now": 0.0}

    def save(found, path):
        times.append(clock["now"])
        clock["now"] += 2.0

    monkeypatch.setattr(preview_module.time, "monotonic", lambda: clock["now"])
    monkeypatch.setattr("ptycho.figures.reconstruction.save_summary_png", save)
    return times, clock


def iterate(preview, clock, seconds):
    for second in range(seconds):
        clock["now"] = max(clock["now"], float(second))
        preview(Progress("iteration", second, seconds, {"relative error": 1.0}, 1.0, 0.0))


def test_first_after_the_pause_then_by_what_one_costs(drawn, tmp_path):
    times, clock = drawn
    preview = Preview(tmp_path / "preview.png", so_far=lambda: "found", pause=10.0)
    iterate(preview, clock, 130)
    # two seconds may be one in 25
    assert times == [10.0, 62.0, 114.0]


def test_nothing_to_draw(drawn, tmp_path):
    times, clock = drawn
    preview = Preview(tmp_path / "preview.png", so_far=lambda: None, pause=10.0)
    iterate(preview, clock, 30)
    assert times == [] and not preview.draw()


def test_only_whole_epochs(drawn, tmp_path):
    times, _ = drawn
    preview = Preview(tmp_path / "preview.png", so_far=lambda: "found", pause=0.0)
    preview(Progress("epoch", 0.5, 3, {"loss": 1.0}, 1.0, 0.0))
    assert times == []
    preview(Progress("epoch", 1, 3, {"train_loss": 1.0}, 1.0, 0.0))
    assert times == [0.0]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "architecture"), [("pytorch", "unrolled"), ("tensorflow", "cnn")])
def test_a_training_that_is_watched_leaves_a_picture_and_is_the_same(name, architecture, scan, tmp_path, monkeypatch):
    """The network is asked for patches in the middle of the training, and does not notice."""
    monkeypatch.setattr(preview_module, "Preview", partial(Preview, pause=0.0))
    seen, losses = [], []
    for watch in (None, seen.append):
        folder = tmp_path / ("watched" if watch else "alone")
        config = TrainingConfig(
            ModelConfig(N=64, gridsize=2, architecture=architecture, n_filters_scale=1),
            nepochs=2,
            n_groups=8,
            batch_size=4,
            output_dir=folder,
            backend=name,
        )
        results = train(backend_named(name), scan, None, config, RunOptions(watch=watch))
        losses.append(results["history"]["train_loss"])
        assert (folder / "preview.png").exists() == bool(watch)
    assert losses[0] == losses[1]
    assert [progress.done for progress in seen if progress.noteworthy] == [1, 2]

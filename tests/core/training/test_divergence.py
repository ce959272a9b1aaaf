"""When a training is not finite any more: what is said, and when it is looked at."""

from pathlib import Path

import numpy as np
import pytest

from ptycho.core.finite import non_finite
from ptycho.core.training.divergence import DivergenceWatch, check_resumed
from ptycho.errors import ArchiveError, DivergedError, PtychoError

BEST = Path("out") / "checkpoints" / "best-checkpoint.ckpt"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, complex(0, np.inf)])
def test_what_is_not_finite_is_counted_and_named(bad) -> None:
    arrays = [("one", np.ones((2, 2))), ("two", np.array([1, bad, bad])), ("three", np.array(bad))]
    assert non_finite(arrays) == "3 of 8 numbers that are not (the first in two)"
    assert non_finite([*arrays[:1], ("count", np.array(3)), ("mask", np.array([True]))]) == ""


@pytest.mark.parametrize("loss", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_not_finite_stops_at_once(loss) -> None:
    watch = DivergenceWatch(0.1, lambda: BEST)
    watch.see(np.float32(3e38), epoch=2, batch=2)
    with pytest.raises(DivergedError) as caught:
        watch.see(np.float32(loss), epoch=2, batch=3)
    assert str(caught.value) == (
        f"the training diverged and has stopped: expected a finite loss in epoch 2, batch 3, found {loss}; its best "
        f"finite model is {BEST}: go on from there with --resume {BEST} and a learning rate below 0.1, or clip the "
        "gradient (--gradient_clip_val)"
    )
    assert isinstance(caught.value, PtychoError)


def test_losses_are_looked_at_together() -> None:
    """The first that is not finite is named, whenever the look comes, and each is brought to the host once."""
    brought: list[list[float]] = []

    def to_host(losses):
        brought.append(list(losses))
        return np.array(losses)

    watch = DivergenceWatch(0.1, lambda: None, 3, to_host)
    for batch, loss in enumerate((1.0, 2.0, 3.0, 4.0, np.inf), 1):
        watch.see(loss, 1, batch)
    assert brought == [[1.0, 2.0, 3.0]]
    with pytest.raises(DivergedError, match="a finite loss in epoch 1, batch 5, found inf; this training wrote no mod"):
        watch.look()
    assert brought[1:] == [[4.0, np.inf]]
    watch.look()
    assert len(brought) == 2


def test_weights_are_looked_at_after_the_batch_that_was_seen_last() -> None:
    watch = DivergenceWatch(0.1, lambda: None)
    watch.see(1.0, 4, 7)
    watch.check([("kernel", np.ones(3))])
    expected = (
        r"expected finite weights after epoch 4, batch 7, found 1 of 2 numbers that are not \(the first in bias\)"
    )
    with pytest.raises(DivergedError, match=expected):
        watch.check([("bias", np.array([np.inf, 0.0]))])


def test_a_checkpoint_that_is_not_finite_is_refused_by_name() -> None:
    check_resumed(BEST, [("kernel", np.ones(3))])
    with pytest.raises(ArchiveError, match=r"best-checkpoint\.ckpt: expected a checkpoint of finite weights, found 3"):
        check_resumed(BEST, [("kernel", np.full(3, np.nan))])

"""The settings of a reconstruction are those of the iteration, and a backend that may be left open."""

import pytest

from ptycho.config.config import config_from_dict
from ptycho.config.reconstruction import ReconstructionConfig
from ptycho.errors import ConfigError


def test_defaults_leave_everything_to_the_scan():
    made = ReconstructionConfig()
    assert made.backend is None
    assert (made.iteration.modes, made.iteration.refine_probe, made.iteration.likelihood) == ("auto",) * 3


def test_from_a_file():
    made = config_from_dict(ReconstructionConfig, {"backend": "tensorflow", "iteration": {"modes": 2}}, "f.yaml")
    assert (made.backend, made.iteration.modes) == ("tensorflow", 2)
    with pytest.raises(ConfigError, match=r"f\.yaml: iteration: unknown key 'mode'; did you mean modes"):
        config_from_dict(ReconstructionConfig, {"iteration": {"mode": 2}}, "f.yaml")

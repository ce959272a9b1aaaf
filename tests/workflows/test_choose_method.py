"""The way to go by overlap and photons: the table of docs/choosing.md."""

from pathlib import Path

import numpy as np
import pytest

from ptycho.config.config import ModelConfig, TrainingConfig
from ptycho.config.options import NetworkOptions
from ptycho.core.doctor.findings import Diagnosis, Finding
from ptycho.workflows.choose_method import (
    choose_method,
    network_for_scan,
    probe_fits,
    settle_by_scan,
    training_for_scan,
)


def numbers(overlap=0.7, photons=1e6):
    known = {"overlap": Finding("overlap", "ok", "", {"overlap": overlap})}
    known["dose"] = Finding("dose", "ok", "", {"photons_per_pattern": photons})
    return Diagnosis(tuple(known.values()))


@pytest.mark.parametrize(
    ("overlap", "photons", "advised", "gridsize"),
    [
        (0.7, 1e6, "", 2),
        (0.41, 3e3, "--object-prior network", 2),
        (0.7, 2.9e3, "--object-prior network", 1),
        (0.7, 3e4, "", 2),
        (0.39, 1e6, "add --train 300", 1),
        (-0.1, 1e3, "add --train 300", 1),
    ],
)
def test_where_a_network_pays(overlap, photons, advised, gridsize):
    found = choose_method(numbers(overlap, photons), None, None)
    assert found.method == "iteration"
    assert advised in found.why and ("--" in found.why) == bool(advised)
    held = choose_method(numbers(overlap, photons), None, None, prior="network").why
    assert "--object-prior" not in held
    assert network_for_scan(numbers(overlap, photons), 64) == {
        "architecture": "unrolled",
        "gridsize": gridsize,
        "batch_size": 8,
    }


def test_few_points_are_not_grouped():
    assert network_for_scan(numbers(), 63)["gridsize"] == 1


def test_what_was_asked_for_is_done():
    assert choose_method(numbers(), Path("m"), None).method == "network"
    assert "trained for 60 s" in choose_method(numbers(), None, 60.0).why
    assert "a pass pays here" in choose_method(numbers(0.1), None, 60.0).why


def test_what_is_not_known_is_not_made_up():
    found = choose_method(Diagnosis((Finding("dose", "note", "", {"photons_per_pattern": None}),)), None, None)
    assert found.method == "iteration" and "overlap and dose are not known" in found.why


def test_the_training_is_that_of_the_numbers():
    made = training_for_scan(numbers(0.1), 100, 128, "tensorflow", Path("run"))
    assert (made.model.N, made.model.architecture, made.model.gridsize) == (128, "unrolled", 1)
    assert (made.backend, made.output_dir, made.batch_size) == ("tensorflow", Path("run"), 8)


@pytest.mark.parametrize(
    ("stated", "options", "expected"),
    [
        ((), {}, ("unrolled", 2, 8)),
        (("gridsize", "batch_size"), {}, ("unrolled", 1, 16)),
        (("architecture",), {}, ("cnn", 2, 8)),
        (("n_filters_scale",), {}, ("cnn", 2, 8)),
        ((), {"network": NetworkOptions(batch_norm=True)}, ("cnn", 2, 8)),
    ],
)
def test_what_a_command_line_leaves_open(stated, options, expected, scan):
    config = TrainingConfig(model=ModelConfig(), **options)
    line = settle_by_scan(config, stated, scan)
    assert (config.model.architecture, config.model.gridsize, config.batch_size) == expected
    assert ("architecture unrolled" in line) == (expected[0] == "unrolled")


def test_a_probe_that_fits_and_one_that_does_not(scan):
    assert probe_fits(scan)
    wide = np.fft.ifftshift(np.fft.ifft2(np.abs(np.fft.fft2(scan.probeGuess))))
    assert not probe_fits(scan.with_probe(wide.astype(np.complex64)))

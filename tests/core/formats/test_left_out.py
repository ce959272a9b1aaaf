"""What a format has no place for is said."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ptycho.core.formats import registry
from ptycho.core.formats.left_out import left_out
from ptycho.core.formats.record import ScanRecord


def gone(record: ScanRecord, path: Path, name: str) -> set[str]:
    entry = registry.write(path, record, name)
    return set(left_out(record, path, entry))


def test_by_format(full: ScanRecord, tmp_path: Path) -> None:
    assert gone(full, tmp_path / "a", "scan") == {"the history of errors"}
    assert gone(full, tmp_path / "a", "cxi") == set()
    found = gone(full, tmp_path / "a", "ptyd")
    assert found == {"the probe", "the object", "the history of errors", "metadata comments, nphotons"}
    assert {"patterns", "the mask"} <= gone(full, tmp_path / "a", "ptychodus-product")
    assert {"positions", "the probe", "the energy"} <= gone(full, tmp_path / "a", "ptychodus-diffraction")
    assert {"patterns", "positions", "the probe"} <= gone(full, tmp_path / "a.tif", "tiff")
    assert not {"the object", "the size of an object pixel"} & set(gone(full, tmp_path / "a.tif", "tiff"))
    per_frame = replace(full, mask=np.broadcast_to(full.mask, (5, 8, 8)).copy())  # type: ignore[arg-type]
    assert any("of each pattern" in text for text in gone(per_frame, tmp_path / "a", "ptychodus-training"))
    electrons = replace(full, particle="electron", object_pixel_m=None)
    assert any("electrons" in text for text in gone(electrons, tmp_path / "a", "ptyd"))


def test_the_command_says_it(
    golden: Path, tmp_path: Path, command: Callable[..., int], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert command(golden / "scan.cxi", golden / "product.h5", tmp_path / "scan.ptyd") == 0
        assert command(golden / "product.h5", tmp_path / "object.tif") == 0
    assert any(text.startswith("ptypy data has no place for: ") and "the probe" in text for text in caplog.messages)
    assert any(text.startswith(f"Wrote {tmp_path / 'scan.ptyd'}: ptypy data") for text in caplog.messages)
    assert any(text.startswith(f"Wrote {tmp_path / 'object_phase.tif'}: TIFF") for text in caplog.messages)

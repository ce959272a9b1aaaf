"""Reconstruct with PyTorch: `python -m ptycho_torch.inference --model-path MODEL --test-data SCAN.npz`.

The same as `ptycho_inference --backend pytorch`, with the flags of PyTorch under their own names; `--help` lists them.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from ptycho.config.config import InferenceConfig
from ptycho.core.atomic import output_folder
from ptycho_torch.cli.native import NATIVE_INFERENCE, Request, native_parser, run_native
from ptycho_torch.cli.shared import validate_paths
from ptycho_torch.config_factory import create_inference_payload

__all__ = ["main"]

_log = logging.getLogger("ptycho_torch.inference")
_SHOWN_PATTERNS = 64
"""Patterns, spread over the scan, that the summary picture averages."""


def main(argv: Sequence[str] | None = None) -> int:
    """Reconstruct a scan with a trained model and write the object as pictures, NPZ and HDF5.

    Args:
        argv: the arguments; those of the process when None.

    Returns:
        The exit status: 0, 2 for bad input, 130 for an interrupt.
    """
    required = "--model-path MODEL --test-data SCAN.npz --output-dir FOLDER"
    parser = native_parser("python -m ptycho_torch.inference", required, NATIVE_INFERENCE)
    return run_native(parser, NATIVE_INFERENCE, _infer, argv)


def _infer(request: Request) -> None:
    run = request.settled.run
    validate_paths(None, None, run.debug_dump)
    model, scan = request.path("model_path", "--model-path"), request.path("test_data_file", "--test-data")
    folder = Path(request.overrides.get("output_dir", InferenceConfig.output_dir))
    payload = create_inference_payload(
        model, scan, folder, request.overrides, request.execution, command_line=request.command_line, neutral=True
    )

    from ptycho.raw_data import RawData
    from ptycho.workflows.diagnostics import configured_diagnostics
    from ptycho.workflows.outputs import save_reconstruction
    from ptycho_torch.workflows.components import reconstruct_torch

    data = RawData.from_file(scan, **request.reading)
    config, execution = payload.tf_inference_config, payload.execution_config
    diagnostics = configured_diagnostics(config, execution.inference_batch_size, run.debug_dump)
    found = reconstruct_torch(
        data,
        config,
        refine_iterations=run.refine,
        refinement=request.settled.refinement,
        execution_config=execution,
        diagnostics=diagnostics,
    )
    shown = data.amplitude(range(0, len(data), 1 + len(data) // _SHOWN_PATTERNS))
    written = save_reconstruction(found, output_folder(folder), patterns=shown)
    for path in [*written, *(diagnostics.written if diagnostics is not None else [])]:
        _log.info("Wrote %s", path)
    if found.trust is not None:
        _log.log(logging.WARNING if found.trust.grade == "fails" else logging.INFO, "Trust: %s", found.trust.verdict)


if __name__ == "__main__":
    sys.exit(main())

"""Train a network with PyTorch: `python -m ptycho_torch.train --train_data_file SCAN.npz --output_dir FOLDER`.

The same as `ptycho_train --backend pytorch`, with the flags of PyTorch under their own names; `--help` lists them.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from ptycho.cli.console import resumable
from ptycho.cli.flags import diagnostics_from_options
from ptycho.config.config import TrainingConfig
from ptycho.core.atomic import output_folder
from ptycho.workflows.experiments import directory_files, experiment_files, read_experiments
from ptycho_torch.cli.native import Request, native_parser, run_native
from ptycho_torch.cli.shared import validate_paths
from ptycho_torch.config_factory import create_training_payload

__all__ = ["main"]

_log = logging.getLogger("ptycho_torch.train")


def main(argv: Sequence[str] | None = None) -> int:
    """Train a network on a scan, write its archive and, with --do_stitching, the reconstruction.

    Args:
        argv: the arguments; those of the process when None.

    Returns:
        The exit status: 0, 2 for bad input, 130 for an interrupt.
    """
    required = "--train_data_file SCAN.npz --output_dir FOLDER"
    parser = native_parser("python -m ptycho_torch.train", required, TrainingConfig)
    parser.add_argument("--max_epochs", dest="config.nepochs", type=int, metavar="N", help="the same as --nepochs")
    parser.add_argument("--disable_mlflow", action="store_true", help="deprecated name of --logger none")
    parser.add_argument("--do_stitching", action="store_true", help="reconstruct the object after training")
    parser.add_argument("--resume", type=Path, metavar="CHECKPOINT", help="go on from a checkpoint")
    return run_native(parser, TrainingConfig, _train, argv)


def _first_scan(request: Request) -> Path:
    """The scan of the first experiment, by which the settings are made."""
    folders = request.overrides.get("training_directories")
    if folders and "train_data_file" not in request.overrides:
        return directory_files(folders)[0][0]
    return request.path("train_data_file", "--train_data_file")


def _train(request: Request) -> None:
    asked = diagnostics_from_options(request.options, stitches="do_stitching" in request.options)
    validate_paths(None, None, asked.get("debug_dump"))
    scan = _first_scan(request)
    folder = Path(request.overrides.get("output_dir", TrainingConfig.output_dir))
    payload = create_training_payload(
        scan, folder, request.overrides, request.execution, command_line=request.command_line, neutral=True
    )

    from ptycho.workflows.diagnostics import make_diagnostics
    from ptycho.workflows.outputs import save_reconstructions
    from ptycho_torch.workflows.components import run_cdi_example_torch, save_torch_bundle

    config, options = payload.tf_training_config, request.options
    train_data, test_data = read_experiments(experiment_files(config), **request.reading)
    diagnostics = make_diagnostics(
        folder, "pytorch", payload.execution_config.inference_batch_size, **(vars(payload.options.patch_stats) | asked)
    )
    with resumable(config.output_dir / "checkpoints" / "last.ckpt"):
        _, _, results = run_cdi_example_torch(
            train_data,
            test_data,
            config,
            do_stitching="do_stitching" in options,
            training_payload=payload,
            resume=getattr(options, "resume", None),
            diagnostics=diagnostics,
        )
    folder = output_folder(config.output_dir)
    written = [save_torch_bundle(folder, results["models"], config)]
    written += save_reconstructions(results.get("reconstructions", ()), folder)
    written += diagnostics.written if diagnostics is not None else []
    for path in written:
        _log.info("Wrote %s", path)


if __name__ == "__main__":
    sys.exit(main())

"""Train a network with PyTorch: `python -m ptycho_torch.train --train-data-file SCAN.npz --output-dir FOLDER`.

The same as `ptycho_train --backend pytorch`, with the flags of PyTorch under their own names; `--help` lists them.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from ptycho.cli.console import resumable
from ptycho.cli.train_infer import scans_to_train
from ptycho.config.config import TrainingConfig, validate_training_config
from ptycho.config.schema import note_stated
from ptycho.core.atomic import output_folder
from ptycho.errors import ConfigError
from ptycho.workflows.experiments import directory_files, experiment_files, read_experiments
from ptycho_torch.cli.native import NATIVE_TRAINING, Request, native_parser, run_native
from ptycho_torch.cli.shared import validate_paths
from ptycho_torch.config_factory import create_training_payload

__all__ = ["main"]

_log = logging.getLogger("ptycho_torch.train")


def main(argv: Sequence[str] | None = None) -> int:
    """Train a network on a scan, write its archive and, with --do-stitching, the reconstruction.

    Args:
        argv: the arguments; those of the process when None.

    Returns:
        The exit status: 0, 2 for bad input, 130 for an interrupt.
    """
    required = "--train-data-file SCAN.npz --output-dir FOLDER"
    parser = native_parser("python -m ptycho_torch.train", required, NATIVE_TRAINING)
    parser.add_argument("--max-epochs", dest="config.nepochs", type=int, metavar="N", help="the same as --nepochs")
    parser.add_argument("--disable_mlflow", action="store_true", help="deprecated name of --logger none")
    return run_native(parser, NATIVE_TRAINING, _train, argv)


def _first_scan(request: Request) -> Path:
    """The scan of the first experiment, by which the settings are made."""
    folders = request.overrides.get("training_directories")
    if folders and "train_data_file" not in request.overrides:
        return directory_files(folders)[0][0]
    return request.path("train_data_file", "--train-data-file")


def _train(request: Request) -> None:
    run = request.settled.run
    if run.do_stitching:
        validate_training_config(request.settled.config, stitching=True)
    if run.debug_dump is not None and not run.do_stitching:
        raise ConfigError("--debug-dump shows what stitching works with: give --do-stitching too")
    validate_paths(None, None, run.debug_dump)
    scan = _first_scan(request)
    folder = Path(request.overrides.get("output_dir", TrainingConfig.output_dir))
    payload = create_training_payload(
        scan, folder, request.overrides, request.execution, command_line=request.command_line, neutral=True
    )

    from ptycho.workflows.diagnostics import configured_diagnostics
    from ptycho.workflows.outputs import save_reconstructions
    from ptycho_torch.workflows.components import run_cdi_example_torch, save_torch_bundle

    config = payload.tf_training_config
    note_stated(config, request.settled.stated)
    train_data, test_data = read_experiments(experiment_files(config), **request.reading)
    train_data, test_data = scans_to_train(request.settled, train_data, test_data)
    diagnostics = configured_diagnostics(config, payload.execution_config.inference_batch_size, run.debug_dump)
    with resumable(config.output_dir / "checkpoints" / "last.ckpt"):
        _, _, results = run_cdi_example_torch(
            train_data,
            test_data,
            config,
            do_stitching=run.do_stitching,
            training_payload=payload,
            resume=run.resume,
            max_seconds=run.max_seconds,
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

"""One network trained by several experiments, against one network for each: NRMSE of the one-pass objects.

Every experiment has a probe (zone plates of different defocus and aberrations), an object, a dose and a unit of its
own.
"alone" trains a network per experiment, each for an equal share of the seconds that "together" has.

    python scripts/benchmarks/several_experiments.py --seconds 180 --output several.json [--backend tensorflow]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from quality_cases import scored_region

from ptycho.config.config import ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho.core.quality.score import score
from ptycho.core.simulation.exposure import expose
from ptycho.core.simulation.plan import ScanSettings, plan_scan
from ptycho.core.simulation.series import synthetic_probes
from ptycho.raw_data import RawData
from ptycho.workflows.backend_selector import run_cdi_example_with_backend

DOSES = (1e9, 1e7, 1e5)
UNITS = (1.0, 0.01, 30.0)
EPOCHS = 100_000
"""More than the seconds allow."""


def experiments() -> list[RawData]:
    """Scans of 256 patterns; the first has many photons, the last few."""
    made = []
    probes = synthetic_probes(64, len(DOSES), np.random.default_rng(7))
    for seed, (probe, photons, factor) in enumerate(zip(probes, DOSES, UNITS, strict=True)):
        settings = ScanSettings(shape=(192, 192), step=8, photons=photons, seed=seed)
        found = expose(*plan_scan(settings, probe=probe))
        made.append(
            RawData(
                found.xcoords,
                found.ycoords,
                None,
                None,
                found.diffraction * np.float32(factor),
                found.probe * np.float32(factor),
                objectGuess=found.object,
                metadata={"nphotons": photons},
                units="amplitude",
            )
        )
    return made


def errors(scans: list[RawData], config: TrainingConfig, seconds: float) -> list[float]:
    """NRMSE of each experiment after training all of them together."""
    pytorch = config.backend == "pytorch"
    execution = (
        PyTorchExecutionConfig(accelerator="cpu", enable_progress_bar=False, logger_backend=None) if pytorch else None
    )
    _, _, results = run_cdi_example_with_backend(
        scans, None, config, do_stitching=True, execution_config=execution, max_seconds=seconds
    )
    truths = [scan.objectGuess for scan in scans if scan.objectGuess is not None]
    return [
        score(found.object, truth, scored_region(scan)).complex_nrmse
        for found, truth, scan in zip(results["reconstructions"], truths, scans, strict=True)
    ]


def main() -> None:
    """Train both ways and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--backend", choices=("pytorch", "tensorflow"), default="pytorch")
    parser.add_argument("--architecture", default="cnn")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    scans = experiments()
    with tempfile.TemporaryDirectory() as folder:
        config = TrainingConfig(
            model=ModelConfig(architecture=options.architecture),
            n_groups=len(scans[0]),
            nepochs=EPOCHS,
            backend=options.backend,
            output_dir=Path(folder),
        )
        share = options.seconds / len(scans)
        table = {
            "photons": list(DOSES),
            "together": errors(scans, config, options.seconds),
            "alone": [errors([scan], replace(config), share)[0] for scan in scans],
        }
    for name, values in table.items():
        print(f"{name:>9}", *(f"{value:10.4g}" for value in values))
    if options.output:
        options.output.write_text(json.dumps({**vars(options), "output": str(options.output), **table}, indent=2))


if __name__ == "__main__":
    main()

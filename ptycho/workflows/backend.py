"""What a backend is: a module with these functions. The order in which they are called stands in `train` and
`reconstruct`, once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ptycho.config.config import InferenceConfig, ModelConfig, TrainingConfig
from ptycho.core.archive import ModelArchive
from ptycho.core.groups.container import GroupContainer
from ptycho.core.quality.arithmetic import Arithmetic
from ptycho.core.refinement.device.kernels import Kernels, ScanData
from ptycho.core.refinement.refinement import Refinement, Start
from ptycho.core.refinement.trust import TrustEngine
from ptycho.core.stitching.sums import MakeSums
from ptycho.core.training.scales import InputScaling
from ptycho.networks.spec import ScanStages
from ptycho.raw_data import RawData
from ptycho.workflows.networks.training_data import TrainingSet
from ptycho.workflows.run_options import RunOptions
from ptycho.workflows.sharing.team import Team

__all__ = ["Backend", "BackendName", "ScanModel", "ScanNetwork", "ScanProbe"]

BackendName = Literal["pytorch", "tensorflow"]
Config = TrainingConfig | InferenceConfig


class ScanProbe(Protocol):
    """The probe of a model."""

    def file_units(self, masked: bool = True) -> NDArray[np.complex64]:
        """Modes (M, N, N) in the unit of the file's amplitudes."""

    def take_energy_of(self, probe: NDArray[Any]) -> None:
        """Express results in the unit of another file's probe."""


class ScanModel(Protocol):
    """What the workflows need of a model of either backend."""

    config: ModelConfig
    input_scale: float
    scaling: InputScaling
    subpixel: Literal["bilinear", "fourier"]
    scan: dict[str, Any]
    """What is known of the scan that trained it: `metadata` and `source`."""

    @property
    def probe(self) -> ScanProbe:
        """The probe in use."""

    @property
    def intensity_scale(self) -> float:
        """s; `s X_norm` is in photon units."""


@dataclass(frozen=True)
class ScanNetwork:
    """A trained network of gradient steps as a pass on the canvas of a scan needs it (`workflows.canvas_pass`)."""

    stages: ScanStages
    object_scale: float
    """`O = object_scale O_net`."""
    amplitude_scale: float
    """The network compares its fields with so many times the amplitudes of the file."""
    light: int
    """Side of the square in the middle of a probe that holds its light, pixels."""
    kernels: Callable[[float], Kernels]
    """Of the likelihood of amplitudes, with a floor of the intensities."""


class Backend(Protocol):
    """`ptycho.tf.backend` and `ptycho_torch.backend`; a model is that backend's `PtychoPINN`."""

    name: BackendName
    """As the configuration names it."""
    container: type[GroupContainer]
    """Groups of a scan with this backend's tensors."""

    def settled(self, run: RunOptions) -> RunOptions:
        """The options with what this machine decides filled in; a second call changes nothing.

        Raises:
            ConfigError: options that are not for this backend.
            BackendError: the accelerator is not there.
        """

    def team(self, run: RunOptions) -> AbstractContextManager[Team]:
        """The processes that share a run, this one the first or one of the others (`ptycho.workflows.sharing.team`).

        Raises:
            ConfigError, BackendError: they cannot be had.
        """

    def device(self, run: RunOptions) -> str:
        """What computes, in words."""

    def build(self, sets: Sequence[TrainingSet[Any]], config: TrainingConfig, run: RunOptions) -> list[Any]:
        """A model for every experiment; they share the network of the first. Weights follow the seed, or are given."""

    def fit(
        self, models: Sequence[Any], sets: Sequence[TrainingSet[Any]], config: TrainingConfig, run: RunOptions
    ) -> dict[str, list[float]]:
        """Train the models of `build`; the history, one entry per epoch."""

    def predict(self, model: Any, container: Any, config: Config, run: RunOptions) -> NDArray[np.complex64]:
        """Object patches of every member of every group, (B, C, N, N) in the file's units.

        They lie at whole pixels where the model's sub-pixel rule is `fourier`.
        """

    def predict_batches(
        self, model: Any, container: Any, config: TrainingConfig, run: RunOptions
    ) -> Generator[NDArray[np.complex64], None, None]:
        """The same of a training's groups, batch by batch, with the members held out."""

    def canvas_sums(self, run: RunOptions) -> MakeSums:
        """What sums the patches of a scan: on the device of the run, or NumPy where that is no slower."""

    def scan_network(self, model: Any, config: Config, run: RunOptions) -> ScanNetwork | None:
        """A model for a pass on one canvas; None where its network has no plain descent before its stages."""

    def refine(
        self, scan: ScanData, start: Start | None, iterations: int, config: Config, run: RunOptions, **settings: Any
    ) -> Refinement:
        """Refine object and probe on a scan; `settings` are further keywords of the backend's `refine.refine`."""

    def trust_engine(self, run: RunOptions) -> TrustEngine:
        """What works out the trust of a result: where it is refined, in double precision."""

    def image_arithmetic(self, run: RunOptions) -> Arithmetic:
        """What compares two images: on the device of the run, or NumPy where that is no slower."""

    def save(self, folder: Path, models: Sequence[Any], config: TrainingConfig) -> Path:
        """Write trained models that share a network to `folder/wts.h5.zip`; that path."""

    def load(
        self, path: Path, experiment: int | None, scan: RawData | None, run: RunOptions
    ) -> tuple[Any, ModelArchive]:
        """The model of an archive, and what else is in it; `params.cfg` receives its snapshot for callers.

        `experiment`, or else the probe of `scan`, chooses among several experiments; weights of many simulated ones
        take the probe and the scales of `scan` (`ptycho.workflows.networks.stored_model`).
        """

    def for_callers(self, model: Any) -> Any:
        """A loaded model as `load_inference_bundle` of this backend returns it."""

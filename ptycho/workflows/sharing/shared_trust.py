"""The trust of a result by a team: every process compares a compact part of the patterns, and reads no others."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.core.refinement.sums.processes import shares
from ptycho.core.refinement.trust import MeasuredScan, Prediction, TrustEngine
from ptycho.raw_data import RawData
from ptycho.workflows.backend import Backend
from ptycho.workflows.run_options import RunOptions
from ptycho.workflows.sharing.team import Team, quiet_run, share_out

__all__ = ["SharedTrust"]


@dataclass(frozen=True)
class SharedTrust(TrustEngine):
    """What works out the trust, seen from the first of a team.

    Of a whole scan each process gets its patterns and the box of the object that they lie in, and the first what they
    say, in numbers. A few patterns (`ptycho.core.refinement.trust.measure_trust`) are the work of the first alone.
    """

    _: KW_ONLY
    backend: Backend
    run: RunOptions
    team: Team

    def scan_sums(self, prediction: Prediction, scan: MeasuredScan) -> NDArray[np.float64]:
        """What each pattern of a scan says of its prediction, (n, 8), in the order of the scan."""
        size, sums = self.team.size, np.zeros((len(prediction.x), 8))
        parts = [prediction.part(which) for which in shares(prediction.x, prediction.y, size)]
        nothing = prediction.object[..., :0, :0]  # boxes go by themselves, of which a message would make copies

        def part_of(rank: int) -> tuple[Prediction, tuple[int, ...], dict[str, Any]]:
            part = parts[rank]
            return replace(part, object=nothing), part.object.shape, scan.shared(part.which)

        share_out(self.team, self.backend, _compared, part_of, quiet_run(self.run))
        self.team.exchange([nothing, *(part.object for part in parts[1:])], [nothing.shape] * size)
        sums[parts[0].which] = super().scan_sums(parts[0], scan)
        for rank in range(1, size):
            sums[parts[rank].which] = self.team.receive(rank)
        return sums


def _compared(
    team: Team, backend: Backend, part: tuple[Prediction, tuple[int, ...], dict[str, Any]], run: RunOptions
) -> None:
    """The part of another process than the first."""
    prediction, shape, shared = part
    nothing = prediction.object
    box, *_ = team.exchange([nothing] * team.size, [shape] + [nothing.shape] * (team.size - 1))
    sums = backend.trust_engine(run).scan_sums(replace(prediction, object=box), RawData.from_shared(shared))
    team.send(sums, 0)

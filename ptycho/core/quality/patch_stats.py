"""Statistics of predicted patches, of which one look shows a network that gives the same flat patch for everything.

All are of the amplitude |O|. `var_zero_mean` is the variance about the mean, `<(|O| - <|O|>)^2>`: near 0 where a patch
is flat, whatever its level. `std` is its root.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ptycho.core.files.atomic import atomic_path
from ptycho.core.files.damage import readable
from ptycho.errors import DataError, MissingFileError

__all__ = [
    "COMPARED",
    "Moments",
    "Purpose",
    "Ratio",
    "batch_statistics",
    "compare_statistics",
    "read_statistics",
    "write_batch_statistics",
]

Purpose = Literal["train", "inference"]
Complex = NDArray[np.complexfloating[Any, Any]]

COMPARED = ("mean", "std", "var_zero_mean")
"""Statistics that two runs are compared in."""


class Moments:
    """Mean and variance of values that come in parts, in double precision.

    Two parts with means a, b, counts n, m and sums of squares about them A, B have together the sum of squares
    `A + B + (b - a)^2 n m / (n + m)` (Chan, Golub & LeVeque, 1983): nothing cancels.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self._squares = 0.0

    def add(self, values: NDArray[Any]) -> None:
        """Take in real values of any shape."""
        if values.size:
            flat = np.asarray(values, np.float64)
            with np.errstate(invalid="ignore"):  # values may be infinite: that is what is looked for
                self.merge(flat.size, float(flat.mean()), float(flat.var()))

    def merge(self, count: int, mean: float, variance: float) -> None:
        """Take in a part of which only these are known."""
        total = self.count + count
        step = mean - self.mean
        self._squares += variance * count + step**2 * self.count * count / total
        self.mean += step * count / total
        self.count = total

    @property
    def variance(self) -> float:
        """About the mean; NaN of nothing."""
        return self._squares / self.count if self.count else math.nan

    def as_dict(self) -> dict[str, float | None]:
        """`mean`, `std`, `var_zero_mean`, ready for JSON: None where there is no finite number."""
        mean = self.mean if self.count else math.nan
        return {"mean": _plain(mean), "std": _plain(self.variance**0.5), "var_zero_mean": _plain(self.variance)}


def batch_statistics(patches: Complex, purpose: Purpose, batch_idx: int) -> dict[str, Any]:
    """The entry of one batch, ready for JSON.

    Args:
        patches: (b, C, N, N) complex object patches.
        purpose: what they were predicted for.
        batch_idx: number of the batch, from 0.

    Returns:
        `phase`, `batch_idx`, `batch_size` (groups, b), `global_mean`, `global_std` and `var_zero_mean` of all pixels,
        and `per_patch`, b C entries `{patch_idx, mean, std, var_zero_mean, min, max}`, the members of a group one
        after the other. A number that is not finite becomes None.

    >>> batch_statistics(np.array([[[[1, 3], [1j, -3j]]]]), "train", 0)["var_zero_mean"]
    1.0
    """
    flat = np.abs(patches).astype(np.float64).reshape(patches.shape[0] * patches.shape[1], -1)
    with np.errstate(invalid="ignore", over="ignore"):  # patches may hold anything: that is what is looked for
        variance, total = flat.var(axis=1), float(flat.var())
    columns = zip(flat.mean(axis=1), variance**0.5, variance, flat.min(axis=1), flat.max(axis=1), strict=True)
    names = ("mean", "std", "var_zero_mean", "min", "max")
    return {
        "phase": purpose,  # the name in the files
        "batch_idx": batch_idx,
        "batch_size": len(patches),
        "global_mean": _plain(flat.mean()),
        "global_std": _plain(total**0.5),
        "var_zero_mean": _plain(total),
        "per_patch": [
            {"patch_idx": index} | {name: _plain(value) for name, value in zip(names, row, strict=True)}
            for index, row in enumerate(columns)
        ],
    }


def write_batch_statistics(
    path: Path, batches: Iterable[Complex], purpose: Purpose, limit: int | None = None, after: Path | None = None
) -> Path:
    """Write the entries of `batch_statistics` as a JSON list, one line per batch, and return the path.

    Args:
        path: file to write, whole or not at all; its folder is there.
        batches: (b, C, N, N) each; one is held at a time, and none is asked for beyond the limit.
        purpose: what they were predicted for.
        limit: number of batches; None: all.
        after: a file written by this function, whose entries come first; may be `path` itself.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        separator = "[\n"
        for line in _lines(after, batches, purpose, limit):
            file.write(separator + line)
            separator = ",\n"
        file.write("\n]\n" if separator == ",\n" else "[]\n")
    return path


def _lines(after: Path | None, batches: Iterable[Complex], purpose: Purpose, limit: int | None) -> Iterator[str]:
    if after is not None:
        with after.open(encoding="utf-8") as earlier:
            yield from (line.rstrip(",\n") for line in earlier if line.startswith("{"))
    for index, patches in enumerate(islice(batches, limit)):
        yield json.dumps(batch_statistics(patches, purpose, index), allow_nan=False)


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


@dataclass(frozen=True)
class Ratio:
    """One statistic of a run over that of another, the baseline."""

    name: str
    """`ratio_patch_var_zero_mean` and the like."""
    value: float | None
    baseline: float | None

    @property
    def ratio(self) -> float | None:
        """None where it is not a number."""
        if self.value is None or self.baseline is None or self.baseline == 0:
            return None
        return _plain(self.value / self.baseline)

    @property
    def delta(self) -> float | None:
        """The statistic minus the baseline; None where it is not a number."""
        return None if self.value is None or self.baseline is None else _plain(self.value - self.baseline)

    @property
    def status(self) -> str:
        """`ok`, or why there is no ratio."""
        if self.value is None or self.baseline is None:
            return "not finite"
        if self.baseline == 0:
            return "zero baseline"
        return "ok" if self.ratio is not None else "not finite"


def compare_statistics(
    found: Mapping[str, Mapping[str, float | None]], baseline: Mapping[str, Mapping[str, float | None]]
) -> list[Ratio]:
    """The ratios of what both have of `patch` and `canvas`, as `read_statistics` gives them.

    Raises:
        DataError: they have nothing in common.
    """
    shared = [kind for kind in ("patch", "canvas") if kind in found and kind in baseline]
    if not shared:
        raise DataError(f"expected statistics of the same kind, found {_kinds(found)} and {_kinds(baseline)}")
    return [
        Ratio(f"ratio_{kind}_{name}", found[kind][name], baseline[kind][name]) for kind in shared for name in COMPARED
    ]


def _kinds(statistics: Mapping[str, Any]) -> str:
    return " and ".join(statistics) or "none"


def read_statistics(path: Path | str) -> dict[str, dict[str, float | None]]:
    """`patch` and, where it is there, `canvas`, each with the statistics of `COMPARED`, from what a run wrote.

    Args:
        path: `stats.json` of a debug dump, `*_patch_stats.json`, or a folder with one of them, in itself or under
            `analysis/`. Of a list of batches those of the last purpose count, all its batches together.

    Raises:
        MissingFileError: nothing there.
        DataError: the file holds something else, or the folder several lists.
    """
    file = _statistics_file(Path(path))
    with readable(file, "statistics of patches", advice="name what a run wrote"):
        content = json.loads(file.read_text(encoding="utf-8"))
        found = {"patch": _pooled(content)} if isinstance(content, list) else dict(content)
        kinds = ("patch", "canvas") if "canvas" in found else ("patch",)
        return {kind: {name: found[kind][name] for name in COMPARED} for kind in kinds}


def _statistics_file(path: Path) -> Path:
    if path.is_file():
        return path
    if (path / "stats.json").is_file():
        return path / "stats.json"
    lists = sorted({*path.glob("*_patch_stats.json"), *path.glob("analysis/*_patch_stats.json")})
    if not lists:
        raise MissingFileError(
            f"{path}: expected stats.json or analysis/*_patch_stats.json, found none; run with --log-patch-stats or "
            "--debug-dump"
        )
    if len(lists) > 1:
        raise DataError(f"{path}: expected one file of statistics, found {', '.join(map(str, lists))}; name one")
    return lists[0]


def _pooled(entries: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """The statistics of all pixels of the last purpose; every patch has equally many."""
    moments, purpose = Moments(), entries[-1]["phase"]
    for entry in entries:
        if entry["phase"] != purpose:
            continue
        mean, variance = entry["global_mean"], entry["var_zero_mean"]
        if mean is None or variance is None:
            return dict.fromkeys(COMPARED)
        moments.merge(len(entry["per_patch"]), mean, variance)
    return moments.as_dict()

"""How many patterns a refinement works on at once, and what it keeps of all of them: a forecast in bytes.

Of a pattern of N x N pixels under W exit waves, those of all modes and places of the probe, with numbers of `c` bytes,

    at once   (6 W + 9) c N^2     waves, fields, their changes and what comes back, and the work space of transforms
    patterns  c / 2 N^2           amplitudes, or p N^2 where they are packed in p bytes (`packing`)
    fields    (1 / 2 + (1 + K) W) c N^2   intensities, far fields of an object of K slices, and their changes
    probes    (W + S) c N^2       moved probes and what moves them to S places (twice that near the detector)
    patches   c N^2               under a probe that moves

The images, some six of the object's size (eight where a GPU adds whole numbers) and six of the probe's, come on top.
Where the best number at once is known, that of the cache of a CPU, it is taken whatever the memory; else a quarter of
the memory is for what is worked on. What is kept has the rest, in the order above; what does not fit is read or
computed again in each pass. Where there is one pass alone nothing is kept, and no more than `ONCE_PIXELS` are worked on
at once: the host reads a batch ahead.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ONCE_PIXELS", "USUAL_MEMORY", "MemoryPlan"]

USUAL_MEMORY = 2 << 30
"""Bytes for a refinement in the memory of the computer, where nobody says."""
AT_ONCE = 4
"""Part of the memory that is for what is worked on, its inverse."""
ONCE_PIXELS = 1 << 24
"""Exit-wave pixels at once where there is one pass alone."""
WAVES, PATTERNS = 6, 9
"""Complex arrays at once of every exit wave, and of every pattern: what PyTorch holds on a CPU and a tenth."""


@dataclass(frozen=True)
class MemoryPlan:
    """The forecast for a refinement."""

    memory: int
    """Bytes for all of it."""
    batch: int
    """Patterns worked on at once, by each lane."""
    working: int
    """Bytes of what is worked on, by all lanes."""
    patterns: int
    fields: int
    probes: int
    patches: int
    """Bytes of what is kept of each kind; 0: it is not."""
    pattern_bytes: int | None = None
    """Of one amplitude, where patterns are packed."""

    @classmethod
    def made(
        cls,
        memory: int,
        count: int,
        n: int,
        modes: int,
        complex_bytes: int,
        *,
        places: int = 1,
        slices: int = 1,
        near: bool = False,
        batch_pixels: int | None = None,
        lanes: int = 1,
        pattern_bytes: int | None = None,
        once: bool = False,
    ) -> MemoryPlan:
        """For `count` patterns of `n` x `n` pixels.

        Args:
            memory: bytes; 0 keeps nothing.
            modes: of the probe and its variation.
            complex_bytes: of one complex number.
            places: of the probe while a pattern is counted.
            slices: of the object.
            near: whether the detector is near.
            batch_pixels: exit-wave pixels that are best worked on at once; None: as many as a quarter of the memory
                holds.
            lanes: that work at the same time.
            pattern_bytes: of one amplitude that is kept; None: as many as half of a complex number.
            once: whether there is one pass alone.
        """
        pixel, waves = complex_bytes * n**2, modes * places
        each = (WAVES * waves + PATTERNS) * pixel
        size = memory // (AT_ONCE * lanes * each) if batch_pixels is None else batch_pixels // (waves * n**2)
        size = min(size, ONCE_PIXELS // (waves * n**2)) if once else size
        batch = max(1, min(size, count))
        working = lanes * batch * each
        kinds = (
            pixel // 2 if pattern_bytes is None else pattern_bytes * n**2,
            pixel // 2 + (1 + slices) * waves * pixel,
            (waves + (2 if near else 1) * places) * pixel,
            pixel,
        )
        room, kept = memory if batch_pixels is not None else memory - working, []
        for size in kinds:
            kept.append(count * size if count * size <= room and not once else 0)
            room = room - count * size if kept[-1] else 0
        return cls(memory, batch, working, kept[0], kept[1], kept[2], kept[3], pattern_bytes)

    @property
    def kept(self) -> int:
        """Bytes of all that is kept."""
        return self.patterns + self.fields + self.probes + self.patches

    @property
    def kinds(self) -> int:
        """How many kinds are kept."""
        return sum(size > 0 for size in (self.patterns, self.fields, self.probes, self.patches))

    @property
    def whole(self) -> bool:
        """Whether all is kept that can be used again."""
        return self.patches > 0

    def __str__(self) -> str:
        """In words."""
        return f"{self.batch} patterns at once, {_bytes(self.working)}; kept of {_bytes(self.memory)}: {self.told}"

    @property
    def told(self) -> str:
        """What is kept, in words."""
        patterns = "patterns" if self.pattern_bytes is None else f"patterns in {self.pattern_bytes} B a pixel"
        kinds = {patterns: self.patterns, "far fields": self.fields, "probes": self.probes, "patches": self.patches}
        kept = [f"{name} {_bytes(size)}" for name, size in kinds.items() if size]
        return ", ".join(kept) or "nothing"


def _bytes(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 1 << 27 else f"{size / 2**20:.1f} MiB"

"""Fuzzing by coverage: atheris (https://pypi.org/project/atheris) chooses the inputs by which lines they get to."""

from __future__ import annotations

import gc
import os
import random
import resource
import shutil
import sys
import zlib
from collections.abc import Sequence
from types import FunctionType
from typing import TYPE_CHECKING

from fuzz_mutators import mutated

if TYPE_CHECKING:
    import argparse

    from fuzz import Fuzzer

__all__ = ["guided"]


def guided(fuzzer: Fuzzer, options: argparse.Namespace, wait: int, memory: int) -> int:
    """Let atheris choose the inputs by which lines they get to, in a process that ends with the first finding.

    Args:
        fuzzer: of which reader, and its whole files.
        options: seconds, inputs, seed, keep.
        wait: seconds that an input may take.
        memory: bytes that reading may add.

    Returns:
        The number of findings, 0 or 1.
    """
    child = os.fork()
    if child == 0:
        try:
            _guide(fuzzer, options, wait, memory)
        finally:
            os._exit(1)
    found = os.waitpid(child, 0)[1] != 0
    if found and options.keep is not None:
        last = max(fuzzer.folder.glob("input-*"), key=lambda path: path.stat().st_mtime_ns)
        shutil.copy(last, options.keep / f"{fuzzer.name}__guided__{last.name.removeprefix('input-')}")
    print(f"{fuzzer.name}: {'a finding, as told above' if found else 'no finding'}", flush=True)
    return int(found)


def _guide(fuzzer: Fuzzer, options: argparse.Namespace, wait: int, memory: int) -> None:
    import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]

    for one in gc.get_objects():
        if isinstance(one, FunctionType) and str(one.__module__).partition(".")[0] in ("ptycho", "ptycho_torch"):
            atheris.instrument_func(one)
    whole = [content for _, content in fuzzer.golden]
    corpus = fuzzer.folder / "corpus"
    corpus.mkdir()
    for name, content in fuzzer.golden:
        (corpus / name).write_bytes(content)

    def read(content: bytes) -> None:
        path = fuzzer.folder / f"input-{_name(content, fuzzer.golden)}"
        path.write_bytes(content)
        fuzzer.read(path)

    def change(content: bytes, size: int, seed: int) -> bytes:
        """Whole files by what they hold, others byte by byte: HDF5 may crash where it writes to a damaged one."""
        found = mutated(content, whole, random.Random(seed)) if content in whole else atheris.Mutate(content, size)
        return bytes(found[:size])

    limits = {"max_total_time": round(options.seconds), "runs": options.inputs, "timeout": wait, "max_len": 1 << 16}
    limits |= {"rss_limit_mb": _peak_mb() + (memory >> 20), "seed": options.seed + 1}
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
    kept = f"-artifact_prefix={fuzzer.folder}/{fuzzer.name}-"
    flags = [kept, *(f"-{name}={value}" for name, value in limits.items())]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], read, custom_mutator=change)
    atheris.Fuzz()


def _name(content: bytes, golden: Sequence[tuple[str, bytes]]) -> str:
    """The name that a content gets: one of those whose files begin so, if there are any."""
    alike = [name for name, each in golden if each[:4] == content[:4]] or [name for name, _ in golden]
    return alike[zlib.crc32(content) % len(alike)]


def _peak_mb() -> int:
    """MiB of memory that this process had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> (20 if sys.platform == "darwin" else 10)

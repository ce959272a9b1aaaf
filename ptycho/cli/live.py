"""The command line `ptycho live`: a scan reconstructed while it is measured."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptycho.cli.programs import LIVE
from ptycho.cli.progress import shown_line, shown_progress
from ptycho.cli.resuming import TAKEN, begin, is_finished, meant_by, read_asked, resumable
from ptycho.cli.run import (
    LOG_FILE,
    RUN_FILE,
    check_compared,
    check_inputs,
    free_folder,
    output_folder,
    quiet_tensorflow,
    report_run,
    run_command,
    run_log,
)
from ptycho.cli.scan_flags import FIND, parts_of
from ptycho.cli.settings import Settled
from ptycho.cli.stopping import Stopped
from ptycho.errors import ConfigError, DataError
from ptycho.networks.universal import weights_file

if TYPE_CHECKING:
    from ptycho.core.live.joining import Joined
    from ptycho.core.progress import Progress
    from ptycho.raw_data import RawData
    from ptycho.report.live_server import LiveServer
    from ptycho.workflows.front_door import Request
    from ptycho.workflows.live.arrivals import LiveScan
    from ptycho.workflows.live.following import LiveView, Shown

__all__ = ["SCAN_FILE", "live_main"]

_log = logging.getLogger(__name__)

SCAN_FILE = "scan.npz"
"""All that was joined, in the folder of the run."""
_FRAMES = "frames.raw"
"""What has come so far, inside the folder of what a killed run goes on from."""


def live_main(argv: Sequence[str] | None = None) -> int:
    """Follow a scan, show it, and reconstruct it when it is over.

    Args:
        argv: the arguments; those of the process when None.

    Returns:
        The exit status: 0, 2 for bad input, 130 for an interrupt of the last reconstruction.
    """
    return run_command(LIVE, _live, argv, _meant)


def _meant(arguments: list[str]) -> list[str]:
    """The arguments; where a run goes on those that it was begun with."""
    return meant_by(LIVE, arguments)


def _live(asked: Settled, debug: bool) -> None:
    run, options = asked.run, asked.options
    if options.source is None:
        raise ConfigError("SOURCE is required: a folder that fills with frames, or an HDF5 file that is being written")
    if options.near_field == FIND:
        raise ConfigError("--near-field: expected its magnification, found none; give it, 1 in a parallel beam")
    check_inputs(
        (run.like, "--like", "a scan of the same set-up"),
        (None if run.model is None else weights_file(run.model), "--model", "a trained network"),
    )
    check_compared(run.compare)

    from ptycho.core.live.opening import open_source
    from ptycho.workflows.backend_selector import require_backend

    frames, positions = open_source(options.source, run.positions_from)
    quiet_tensorflow(asked.config.backend, debug)
    require_backend(asked.config.backend)
    folder, resumes = _folder(asked)
    with output_folder(folder), resumable(LIVE, folder, resumes), run_log(folder / LOG_FILE), ExitStack() as held:
        if not resumes:
            begin(LIVE, folder, asked.arguments)
        page = held.enter_context(_page(asked))
        _follow_and_finish(asked, folder, (frames, positions), page, held)


def _folder(asked: Settled) -> tuple[Path, bool]:
    """Where to write, and whether a run there goes on: one that was cut off, with the same arguments."""
    run = asked.run
    if run.resume is not None:
        return run.resume, True
    named = run.output_dir or Path(f"{Path(str(asked.options.source).partition(':')[0]).stem}_live")
    begun = named / RUN_FILE
    if begun.is_file() and not is_finished(named) and not run.overwrite:
        before = read_asked(begun)
        if before.program == LIVE.program and before.arguments == list(asked.arguments):
            _log.info("%s: going on with the run that was cut off there", named)
            return named, True
    return free_folder(named, run.overwrite, results=TAKEN), False


@contextmanager
def _page(asked: Settled) -> Iterator[LiveServer | None]:
    """The page, where one is asked for."""
    if not asked.run.page:
        yield None
        return
    from ptycho.report.live_server import LiveServer

    with LiveServer(str(asked.options.source), asked.run.port) as page:
        _log.info("Look at %s", page.address)
        yield page


def _follow_and_finish(
    asked: Settled, folder: Path, sources: tuple[Any, Any], page: LiveServer | None, held: ExitStack
) -> None:
    from ptycho.core.files.atomic import output_folder as made_folder
    from ptycho.core.live.frame_store import FrameStore
    from ptycho.core.live.intake import Intake
    from ptycho.workflows.live.arrivals import LiveScan
    from ptycho.workflows.live.following import LiveView
    from ptycho.workflows.unfinished import STATE

    run = asked.run
    store = held.enter_context(FrameStore(made_folder(folder / STATE) / _FRAMES))
    intake = Intake(*sources, store, run.frame_offset, _log.warning)
    parts = replace(parts_of(asked.options), like=run.like)
    scan = LiveScan(parts, store, lambda: intake.factor, run.crop, run.bin)
    request = _request(asked, folder)
    with shown_line(not run.quiet) as line:
        view = LiveView(scan, request, folder, _shown_on(line, page))
        view.resume()
        why = _followed(view, intake, asked)
    _log.info("The scan is over: %s; %s", why, view.shown.line)
    if view.latency is not None:
        _log.info("From frame to picture: %s", view.latency)
    joined = intake.joined()
    if not joined.numbers.size:
        tally = view.shown.tally
        raise DataError(
            f"{asked.options.source}: expected frames with their positions, found {tally.frames_alone} frames and "
            f"{tally.positions_alone} positions of other numbers; look at both (--frame-offset brings them together)"
        )
    data = _whole(asked, scan, joined, folder)
    _finish(asked, data, request, folder, view, page)


def _followed(view: LiveView, intake: Any, asked: Settled) -> str:
    """Follow the scan until it is over; the first Ctrl-C says that it is. Why it is."""
    from ptycho.workflows.live.following import Ends

    with intake:
        try:
            return view.follow(intake, Ends(asked.run.count, asked.run.idle))
        except KeyboardInterrupt as stop:
            view.save()
            if not isinstance(stop, Stopped) or stop.number != signal.SIGINT or not intake.joined().numbers.size:
                raise
            stop.heeded = True
            return "Ctrl-C (again: without a last reconstruction)"


def _whole(asked: Settled, scan: LiveScan, joined: Joined, folder: Path) -> RawData:
    """All that was joined, as a scan in the folder of the run; what was found of another one there goes."""
    from ptycho.core.scan.identity import scan_identity
    from ptycho.core.scan.npz_mapped import mapped_scan
    from ptycho.raw_data import RawData
    from ptycho.workflows.unfinished import STATE

    path, run = folder / SCAN_FILE, asked.run
    before = scan_identity(mapped_scan(path), "").sha256 if path.is_file() else ""
    scan.write(joined, path)
    _log.info("Wrote %s: ptycho reconstruct takes it, too", path)
    data = RawData.from_file(path, None, run.memory_map, run.crop)
    if before != scan_identity(mapped_scan(path), "").sha256:
        for left in (folder / STATE).glob("*.npz"):
            left.unlink()
    if run.bin > 1:
        data = data.fitted(run.crop, run.bin)
    _log.info("Scan: %s", data)
    return data


def _finish(
    asked: Settled, data: RawData, request: Request, folder: Path, view: LiveView, page: LiveServer | None
) -> None:
    """The last reconstruction, of all that was joined."""
    from ptycho.core.progress import both
    from ptycho.workflows.front_door import reconstruct_scan
    from ptycho.workflows.outputs import save_run

    show = _shown_on(lambda line: None, page)

    def on_page(progress: Progress) -> None:
        show(replace(view.shown, state="last reconstruction", said=progress.line))

    begun = time.monotonic()
    with shown_progress(not asked.run.quiet) as watch:
        outcome = reconstruct_scan(data, replace(request, watch=both(watch, on_page)))
    written = save_run(outcome, data, folder, compare_with=asked.run.compare, pdf=asked.run.pdf)
    _log.info("The last reconstruction took %.1f s", time.monotonic() - begun)
    show(replace(view.shown, state="done", trust=outcome.reconstruction.trust, said=f"the result is in {folder}"))
    report_run(outcome.reconstruction, written, folder)


def _shown_on(line: Callable[[str], None], page: LiveServer | None) -> Callable[[Shown], None]:
    """Who shows what there is to see."""
    from ptycho.report.live_page import LiveState

    def show(shown: Shown) -> None:
        line(shown.line)
        if page is None:
            return
        tally = shown.tally
        state = LiveState(
            state=shown.state,
            said=shown.said,
            joined=tally.joined,
            rate=shown.rate,
            frames_alone=tally.frames_alone,
            positions_alone=tally.positions_alone,
            contradicted=tally.contradicted,
            patterns=shown.patterns,
            error=shown.error,
            latency=shown.latency,
            trust=shown.trust,
            picture=shown.number,
        )
        page.show(state, shown.picture)

    return show


def _request(asked: Settled, folder: Path) -> Request:
    """What the flags ask for."""
    from ptycho.workflows.front_door import Request

    run = asked.run
    return Request(
        backend=asked.config.backend,
        iteration=asked.config.iteration,
        probe=run.probe,
        model=None if run.model is None else weights_file(run.model),
        force=run.force,
        folder=folder,
        execution=asked.execution,
    )

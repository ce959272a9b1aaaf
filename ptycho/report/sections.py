"""The sections of a report, each from what it tells of; None where there is nothing to tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from ptycho.core.physics.probes import probe_diameter
from ptycho.core.physics.scan_probes import ScanProbes
from ptycho.core.quality.trust import Trust
from ptycho.core.reconstruction import Reconstruction
from ptycho.core.refinement.steps.raster import find_grid, raster_of, scanned_area
from ptycho.figures.curves import draw_errors, draw_ratios
from ptycho.figures.drawing import bright_pixels, colour_range, colours_of, seen_box, seen_pixels
from ptycho.figures.raster import wave_png
from ptycho.figures.reconstruction import UNITS, centred_phase
from ptycho.figures.resolution import draw_resolution
from ptycho.figures.trust import COLOURS, RATIO_COLOURS, ratio_map
from ptycho.figures.uncertainty import COLOURS as DEVIATIONS
from ptycho.figures.uncertainty import deviation_maps
from ptycho.report.content import Content, bytes_in_words, key_numbers, length, name_of, scan_names
from ptycho.report.elements import Markup, breakable, data_uri, table, tag
from ptycho.report.evidence import (
    background_viewer,
    comparison_section,
    pattern_viewer,
    position_section,
    residual_section,
)
from ptycho.report.viewer import Map, curve, viewer

__all__ = ["SECTIONS", "heading"]


def heading(content: Content) -> Markup:
    """The name of the scan, the verdict in its colour, and the first numbers."""
    r = content.reconstruction
    made = [r.method, f"by {r.backend}", str(r.provenance.get("date", ""))[:10]]
    numbers = (tag("div", tag("dt", name), tag("dd", value)) for name, value in key_numbers(content))
    return tag(
        "header",
        tag("p", "Reconstruction report", class_="kicker"),
        tag("h1", name_of(r)),
        tag("p", " · ".join(filter(None, made)), class_="made"),
        _verdict(r.trust),
        tag("dl", *numbers, class_="tiles"),
    )


def _verdict(trust: Trust | None) -> Markup:
    """The sentence, and what to do; the colour says no more than the words."""
    if trust is None:
        grade, colour, sentence = (
            "not measured",
            COLOURS["unknown"],
            "not measured: no scan was given to hold it against",
        )
    else:
        grade, colour, sentence = trust.grade, COLOURS[trust.grade], trust.verdict
    first, _, rest = sentence.partition(": ")
    return tag(
        "section",
        tag("p", f"Trust: {grade}", class_="grade"),
        tag("p", tag("strong", first[:1].upper() + first[1:]), class_="sentence"),
        tag("ul", *(tag("li", clause[:1].upper() + clause[1:]) for clause in rest.split("; "))) if rest else None,
        id="verdict",
        class_="verdict",
        style=f"--verdict:{colour}",
        aria_label="Trust in the result",
    )


def _object(content: Content) -> tuple[str, Markup]:
    r, in_space = content.shown, content.sample is None
    pictures = [*_pair(r, r.object, "", (r.xcoords, r.ycoords) if in_space else None)]
    if r.network_object is not None:
        pictures += _pair(r, r.network_object, " before refinement")
    seen = seen_pixels(r.object, r.coverage)
    y0, y1, x0, x1 = seen_box(seen)
    share = f"{100 * float(seen[y0:y1, x0:x1].mean()):.3g} %"
    note = (
        "Wheel, pinch, buttons or the keys + and − zoom; drag or arrow keys move; both pictures go together. "
        f"Hatched: hardly any light; {share} of the field is shown. A phase plane and the global phase are free and "
        f"taken out. {_grid_note(r)}"
    )
    dots = tag("label", tag("input", type="checkbox", data_dots=True), " Show the scan positions")
    return "Object", tag("div", tag("p", note), dots if in_space else None, tag("div", *pictures, class_="grid wide"))


def _slices(content: Content) -> tuple[str, Markup] | None:
    r = content.reconstruction
    if r.slices is None:
        return None
    count, apart = len(r.slices), r.slice_distance_m
    distance = "" if apart is None else f", {apart:.3g} m apart"
    note = f"{count} slices{distance}, the one that the beam meets first being the first; the object is their product."
    pictures = [one for k, image in enumerate(r.slices, 1) for one in _pair(r, image, f" of slice {k}")]
    return "Slices", tag("div", tag("p", note), tag("div", *pictures, class_="grid three"))


def _uncertainty(content: Content) -> tuple[str, Markup] | None:
    known, pixel = content.reconstruction.uncertainty, content.reconstruction.pixel_m
    if known is None:
        return None
    pictures = [
        viewer(
            Map(f"Uncertainty of the {name}", values, known.known, DEVIATIONS, Normalize(*limits), unit, pixel),
            "uncertainty",
        )
        for name, values, unit, limits in deviation_maps(known)
    ]
    if known.of == "pass":
        one, out = "The bar of each pixel of a pass", "global phase, phase plane and scale are"
        moved, bars, wide = "its refinement", "bars", "the wide bars"
    else:
        one = "One standard deviation of each pixel, by photon noise alone"
        out = "the global phase (and where the probe moved a phase plane and the scale) is"
        moved, bars, wide = "the object", "deviations", "1.96 deviations"
    words = (
        f"{f'{one}. ' if known.holds else ''}{known.summary[:1].upper()}{known.summary[1:]}. Found by {known.method}; "
        f"{out} taken out. As many iterations more on the scan itself move {moved} by {known.unfinished:.2g} {bars}, "
        f"and leave {known.misfit:.3g} times the error that noise does. The truth lies further away than {wide} in 5 % "
        "of the pixels even so; pixels that are not resolved are wrong together."
    )
    return "Uncertainty", tag("div", tag("p", words), tag("div", *pictures, class_="grid wide"))


def _grid_note(r: Reconstruction) -> str:
    """What the object has with the period of a regular raster's steps; nothing for other scans."""
    raster = raster_of(r.xcoords, r.ycoords)
    if raster is None:
        return ""
    grid = find_grid(r.object, raster, scanned_area(r.object.shape, r.xcoords, r.ycoords))
    steps = f"with the period of the raster's steps, {raster.step_x:.3g} x {raster.step_y:.3g} pixels"
    if not grid.contrast:
        return f"It has no grid {steps}: at most {grid.ratio:.2g} times what is beside."
    return f"It has a grid {steps}: {100 * grid.contrast:.2g} % of it, up to {grid.ratio:.2g} times what is beside."


def _pair(r: Reconstruction, image: Any, which: str, dots: Any = None) -> Iterator[Markup]:
    """Amplitude and phase of an object."""
    seen = seen_pixels(image, r.coverage)
    for kind, values in (("amplitude", np.abs(image)), ("phase", centred_phase(image, r.coverage, seen)[0])):
        limits = colour_range([values[bright_pixels(image, r.coverage)]], kind)
        title = f"{kind.capitalize()}{which}"
        yield viewer(
            Map(title, values, seen, colours_of(kind, limits), Normalize(*limits), UNITS[kind], r.pixel_m),
            "object",
            dots,
        )


def _trust(content: Content) -> tuple[str, Markup] | None:
    r = content.reconstruction
    if r.trust is None:
        return None
    values, seen, colours = ratio_map(r, r.trust)
    where = Map("Deviance over that of noise", values, seen, RATIO_COLOURS, colours, "ratio", r.pixel_m)
    trust = r.trust

    def ratios(axes: Axes) -> None:
        draw_ratios(axes, trust)
        axes.figure.legend(fontsize=8, loc="outside lower center", ncols=2, frameon=False)

    by_pattern = curve(
        ratios,
        f"Deviance over that of noise of {len(trust.ratio)} patterns, median {np.median(trust.ratio):.3g}",
        (4.6, 3.5),
    )
    outliers = trust.outliers
    standing = (
        "No pattern stands out of the scan."
        if not outliers.size
        else f"{len(outliers)} of {len(trust.ratio)} patterns stand out: {', '.join(map(str, outliers[:12]))}"
    )
    words = f"1 is what photon noise alone would leave, red is not explained. {standing}"
    rows = [
        ("Deviance over that of noise", f"{trust.overall_ratio:.4g}"),
        ("Model error, of the amplitude", f"{100 * trust.model_error:.3g} %"),
        ("Photon noise, of the amplitude", f"{100 * trust.noise_level:.3g} %"),
        ("Structure left unexplained", f"{100 * trust.unexplained:.3g} %"),
        ("Number of photons", {"measured": "counted", "stated": "stated by the file"}.get(trust.dose, "assumed")),
    ]
    beside = tag("div", tag("figure", by_pattern), table(rows))
    pictures = [viewer(where, "trust", (r.xcoords, r.ycoords)), beside]
    if r.spread is not None:
        pictures.insert(1, _spread(r))
    return "Trust", tag("div", tag("p", words), tag("div", *pictures, class_="grid wide"))


def _spread(r: Reconstruction) -> Markup:
    """How far the network's overlapping patches differ."""
    assert r.spread is not None
    known = seen_pixels(r.object, r.coverage) & np.isfinite(r.spread)
    top = float(np.percentile(r.spread[known], 99)) if known.any() else 1.0
    title = "Spread of the network's overlapping patches"
    return viewer(Map(title, r.spread, known, "viridis", Normalize(0, top or 1.0), "spread", r.pixel_m), "spread")


def _probe(content: Content) -> tuple[str, Markup]:
    r = content.reconstruction
    names = scan_names(r)
    modes = [one for name, probe in zip(names, r.probes, strict=True) for one in _modes(probe, name)]
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    disc = np.where(np.hypot(x, y) <= 1, x - 1j * y, 0)
    key = tag("img", src=data_uri(wave_png(disc)), alt="Key: hue by phase, 0 to the right", class_="wheel")
    modes.append(tag("figure", key, tag("figcaption", "Key: 0 to the right, π to the left")))
    side, wide = length(r.pixel_m, r.probe.shape[-1]), length(r.pixel_m, probe_diameter(r.probe))
    words = (
        f"Hue is the phase, brightness the amplitude of each mode over its largest. The window is {side} wide; "
        f"90 % of the light falls within {wide}."
    )
    return "Probe", tag("div", tag("p", words), tag("div", *modes, class_="grid modes"))


def _modes(probe: Any, scan: str) -> Iterator[Markup]:
    """The modes of a probe, the strongest first, of one of several scans with its name."""
    power = np.square(np.abs(probe), dtype=np.float64).sum(axis=(1, 2))
    total = float(power.sum()) or 1.0
    for k in np.argsort(-power, kind="stable"):
        share = f"{100 * power[k] / total:.3g} %"
        image = tag("img", src=data_uri(wave_png(probe[k])), alt=f"Probe mode {k + 1}, {share} of the power")
        named = f"{scan}, mode {k + 1}" if scan else f"Mode {k + 1}"
        yield tag("figure", image, tag("figcaption", f"{named}: {share}"))


def _scan(content: Content) -> tuple[str, Markup]:
    r = content.reconstruction
    seen = seen_pixels(r.object, r.coverage)
    top = float(r.coverage.max()) or 1.0
    light = Map("Coverage and scan positions", r.coverage, seen, "gray", Normalize(0, top), "sum of weights", r.pixel_m)
    pictures = [viewer(light, "coverage", (r.xcoords, r.ycoords))]
    if content.mean_pattern is not None:
        pictures.append(pattern_viewer("Mean pattern", content.mean_pattern, np.isfinite(content.mean_pattern), "mean"))
    if r.background is not None:
        pictures.append(background_viewer(r.background, content.photon_scale))
    covered = f"{100 * float((r.coverage > 0).mean()):.0f} % of the {r.frame.width} × {r.frame.height} pixels saw light"
    words = f"{r.xcoords.size} positions; {covered}."
    if isinstance(r.variation, ScanProbes):
        counts = np.bincount(r.variation.scan, minlength=r.variation.count)
        each = (f"{name}: {count} positions" for name, count in zip(scan_names(r), counts, strict=True))
        words = f"{words} {'; '.join(each)}."
    return "Scan", tag("div", tag("p", words), tag("div", *pictures, class_="grid wide"))


def _convergence(content: Content) -> tuple[str, Markup] | None:
    r = content.reconstruction
    if not r.error_history:
        return None
    first, last = r.error_history[0], r.error_history[-1]
    drawn = curve(
        lambda axes: draw_errors(axes, r.error_history, r.counts_from),
        f"Relative error after each of {len(r.error_history) - 1} iterations, {first:.3g} to {last:.3g}",
    )
    of_amplitudes = "of amplitudes, Σ(|F| − A)² / ΣA²"
    of_counts = "of counts, a quarter of the deviance over ΣA²"
    if r.counts_from is None:
        words = f"The error is that {of_amplitudes}."
    elif r.counts_from == 0:
        words = f"The error is that {of_counts}."
    else:
        words = (
            f"Up to iteration {r.counts_from} amplitudes were fitted, then counts. The error is first that "
            f"{of_amplitudes}; then that {of_counts}. The two are different quantities."
        )
    if r.trust is not None:
        noise = f"photon noise alone leaves {r.trust.noise_level**2:.4g}"
        words += f" Of amplitudes it is {r.trust.fourier_error:.4g} at the end; {noise}."
    return "Convergence", tag("div", tag("figure", drawn), tag("p", words), class_="beside")


def _resolution(content: Content) -> tuple[str, Markup]:
    found = content.resolution
    if found is None:
        words = (
            "Not measured here: it takes two further reconstructions, each of one half of the scan. ",
            tag("code", "ptycho frc SCAN -o FOLDER"),
            " with the folder of this report makes them and adds the curve; ",
            tag("code", "ptycho reconstruct SCAN --frc"),
            " does so at once.",
        )
        return "Resolution", tag("p", *words)
    alt = f"Fourier ring correlation of two halves: {found.summary}"
    drawn = curve(lambda axes: draw_resolution(axes, found), alt, (4.6, 3.8))
    told = (
        f"Two halves of the scan, of {found.patterns[0]} and {found.patterns[1]} patterns, were reconstructed "
        f"independently. They agree down to {found.summary}. A period is a bright and a dark line together."
    )
    return "Resolution", tag("div", tag("figure", drawn), tag("p", told), class_="beside")


def _told(content: Content) -> tuple[str, Markup] | None:
    if not content.told:
        return None
    return "What was found and decided", tag("ol", *(tag("li", line) for line in content.told), class_="told")


def _settings(content: Content) -> tuple[str, Markup]:
    r = content.reconstruction
    facts = {**content.shown.metadata, "method": r.method, "backend": r.backend, "sub-pixel shifts": r.subpixel}
    provenance = {key: value for key, value in r.provenance.items() if key != "told"}
    seconds = [(name, f"{value:.3g} s") for name, value in r.timings.items()]
    parts = [
        table(_flat(facts), caption="Scan and method"),
        table(_flat(provenance), caption="Provenance and settings") if provenance else None,
        table(seconds, caption="Time") if seconds else None,
    ]
    return "Settings and provenance", tag("div", *parts, class_="tables")


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[Markup, str]]:
    """Entries of nested mappings as rows, the names joined by dots."""
    for key, value in values.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{name}.")
        else:
            yield breakable(name), "none" if value is None or value == {} else str(value)


def _files(content: Content) -> tuple[str, Markup] | None:
    if not content.files:
        return None
    rows = [
        (tag("a", breakable(one.name), href=quote(one.name)), one.meaning, bytes_in_words(one.size))
        for one in content.files
    ]
    return "Files", table(rows, ("file", "what", "size"))


SECTIONS = {
    "object": _object,
    "slices": _slices,
    "uncertainty": _uncertainty,
    "trust": _trust,
    "probe": _probe,
    "scan": _scan,
    "positions": position_section,
    "convergence": _convergence,
    "resolution": _resolution,
    "residuals": residual_section,
    "comparison": comparison_section,
    "decisions": _told,
    "settings": _settings,
    "files": _files,
}
"""Anchor -> what makes the section."""

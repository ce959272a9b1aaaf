"""The page of a scan that is being measured: what there is to see, and how old that is; it renews itself."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from dataclasses import dataclass
from importlib.resources import files

from ptycho.core.quality.trust import Trust
from ptycho.figures.trust import COLOURS
from ptycho.report.elements import Markup, joined, tag

__all__ = ["LiveState", "live_page", "live_state"]

_STYLE = """
#picture { display: block; width: 100%; max-height: 70vh; object-fit: contain; image-rendering: pixelated; }
#gone { background: #b3261e; color: #fff; border-radius: 8px; padding: 0.5rem 0.8rem; }
"""
_NUMBERS = {
    "joined": "Patterns joined",
    "rate": "Per second",
    "waiting": "Frames without a position",
    "alone": "Positions without a frame",
    "left": "Contradicted, left out",
    "shown": "In the picture",
    "error": "Relative Fourier error",
    "latency": "Newest frame to picture",
}


@dataclass(frozen=True)
class LiveState:
    """What the page shows."""

    state: str
    """'waiting', 'measuring', 'last reconstruction' or 'done'."""
    said: str = ""
    """What goes on, in a sentence."""
    joined: int = 0
    rate: float = 0.0
    """Joined per second."""
    frames_alone: int = 0
    positions_alone: int = 0
    contradicted: int = 0
    patterns: int = 0
    """In the picture."""
    error: float = math.nan
    latency: float = math.nan
    """Seconds."""
    trust: Trust | None = None
    picture: int = 0
    """Number of the picture; 0 as long as there is none."""


def live_page(name: str) -> str:
    """The page as HTML; the numbers and the picture it asks for itself, from where it came and nowhere else."""
    script = _resource("live.js")
    allowed = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; img-src 'self' data:; connect-src 'self'; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{allowed}'; base-uri 'none'; form-action 'none'"
    )
    numbers = (tag("div", tag("dt", title), tag("dd", "–", id=key)) for key, title in _NUMBERS.items())
    return joined(
        (
            Markup('<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'),
            Markup('<meta name="viewport" content="width=device-width, initial-scale=1">\n'),
            tag("meta", http_equiv="Content-Security-Policy", content=policy),
            Markup('<meta name="color-scheme" content="light dark">\n'),
            tag("title", f"{name} – live"),
            Markup('<link rel="icon" href="data:,">'),
            tag("style", Markup(_resource("report.css") + _STYLE)),
            Markup("\n</head>\n<body>\n"),
            tag(
                "div",
                tag("p", "Live reconstruction", class_="kicker"),
                tag("h1", name),
                tag("p", "Waiting", id="state", class_="made", aria_live="polite"),
                tag(
                    "p", "The run has ended, or cannot be reached; this is what was seen last.", id="gone", hidden=True
                ),
                tag(
                    "section",
                    tag("p", "Trust: not measured", id="grade", class_="grade"),
                    tag("p", "Nothing to hold against the patterns yet", id="sentence", class_="sentence"),
                    id="verdict",
                    class_="verdict",
                    style=f"--verdict:{COLOURS['unknown']}",
                    aria_label="Trust in the picture",
                ),
                tag("dl", *numbers, class_="tiles"),
                tag(
                    "main",
                    tag(
                        "section",
                        tag("h2", "Phase (left) and amplitude"),
                        tag("img", id="picture", alt="Phase and amplitude of the object so far", hidden=True),
                    ),
                ),
                tag("footer", "This page renews itself. It is served to this machine alone."),
                class_="page",
            ),
            tag("script", Markup(script)),
            Markup("\n</body>\n</html>\n"),
        )
    )


def live_state(state: LiveState, name: str) -> str:
    """The state as JSON, in the words of the page."""
    trust = state.trust
    grade, sentence = ("not measured", "Nothing to hold against the patterns yet")
    if trust is not None:
        grade, sentence = trust.grade, trust.verdict[:1].upper() + trust.verdict[1:]
    texts = {
        "state": f"{state.state[:1].upper()}{state.state[1:]}{f': {state.said}' if state.said else ''}",
        "grade": f"Trust: {grade}",
        "sentence": sentence,
        "joined": str(state.joined),
        "rate": f"{state.rate:.0f}",
        "waiting": str(state.frames_alone),
        "alone": str(state.positions_alone),
        "left": str(state.contradicted),
        "shown": str(state.patterns),
        "error": _number(state.error, "{:.3g}"),
        "latency": _number(state.latency, "{:.2g} s"),
    }
    colour = COLOURS["unknown"] if trust is None else COLOURS[trust.grade]
    return json.dumps(
        {"texts": texts, "colour": colour, "picture": state.picture, "title": f"{state.joined} · {name} – live"}
    )


def _number(value: float, text: str) -> str:
    return text.format(value) if math.isfinite(value) else "–"


def _resource(name: str) -> str:
    return files("ptycho.report").joinpath(name).read_text(encoding="utf-8")

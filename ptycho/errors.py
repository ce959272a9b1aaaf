"""The errors that a user can cause and mend; the command lines turn each into one line and exit status 2."""

__all__ = [
    "ArchiveError",
    "BackendError",
    "ConfigError",
    "DataError",
    "DivergedError",
    "LostProcessError",
    "MissingFileError",
    "OutputError",
    "PtychoError",
]


_BEGINNING, _END = 1400, 400


class PtychoError(Exception):
    """Base of every error this library raises on purpose; its text says what was expected, found and to do.

    A text tells what was found, and that may be whatever a damaged file holds: of a long one the middle is left out.
    """

    def __str__(self) -> str:
        text = super().__str__()
        left_out = len(text) - _BEGINNING - _END
        return text if left_out <= 0 else f"{text[:_BEGINNING]}... ({left_out} characters) ...{text[-_END:]}"


class ConfigError(PtychoError, ValueError):
    """A setting, or a combination of settings, that cannot work."""


class DataError(PtychoError, ValueError):
    """A scan, a probe or an array that does not obey the data contract."""


class ArchiveError(PtychoError, ValueError):
    """A model archive that is damaged, incomplete, newer than this library or of another kind."""


class MissingFileError(PtychoError, FileNotFoundError):
    """A file that was named and is not there."""


class OutputError(PtychoError, OSError):
    """A place that cannot be written."""


class BackendError(PtychoError, RuntimeError):
    """A backend that was asked for and cannot run."""


class LostProcessError(BackendError):
    """A process of several that share the work is gone, and with it what it had."""


class DivergedError(PtychoError, ArithmeticError):
    """A training whose loss or weights are no longer finite; what it and others wrote before is as it was."""

"""Configuration: dataclasses and their checks, fields, files, and the bridge to the legacy dictionary."""

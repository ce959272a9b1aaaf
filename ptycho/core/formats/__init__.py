"""Scans and results in the file formats of the field: one module per format, found through `registry`.

`catalogue` lists them, `record` is what all of them read and write; patterns stay in the file until they are copied.
specs/formats.md is the normative description.
"""

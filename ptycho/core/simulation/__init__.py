"""Scans made from known objects."""

"""Groups of neighbouring scan points: drawn, gathered, read batch by batch."""

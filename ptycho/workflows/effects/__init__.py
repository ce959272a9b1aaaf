"""What real scans have beside an object and a probe: asked for, found, and told of."""

"""Several processes at one run, by MultiWorkerMirroredStrategy."""

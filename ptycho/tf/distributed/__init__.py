"""Several processes at one training, by MultiWorkerMirroredStrategy."""

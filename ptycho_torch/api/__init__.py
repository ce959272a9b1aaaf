"""The interface for programs: configure, train, load and reconstruct, in few objects over the workflows."""

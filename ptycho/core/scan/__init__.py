"""One scan, however it is held: arrays, a file, a memory map."""

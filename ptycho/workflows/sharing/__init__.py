"""Work that several processes share, the first of which decides, writes and says something."""

"""Files and folders: written whole or not at all, read without belief, one run in each folder."""

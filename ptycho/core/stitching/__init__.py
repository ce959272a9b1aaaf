"""From patches to one object."""

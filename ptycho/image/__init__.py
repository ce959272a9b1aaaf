"""Images of the object: names of old for `ptycho.core`."""

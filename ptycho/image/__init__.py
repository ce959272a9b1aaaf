"""Images of the object: `ptycho.core` under the names that callers import."""

"""How far a result holds: unseen patterns, what speaks against it, what to do next, error bars."""

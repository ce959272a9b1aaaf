"""Figures of merit, what they need to be fair, and how far a result can be trusted."""

"""Directed tests of the pure machines: what happened, and all that follows from it."""

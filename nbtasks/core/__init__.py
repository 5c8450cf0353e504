"""Decisions only: nothing in this folder touches a socket, a file, a clock, a thread or global randomness."""

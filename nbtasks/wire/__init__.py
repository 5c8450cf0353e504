"""The outside, one door each: sockets, keys, the connection file, the lock, the clock, processes."""

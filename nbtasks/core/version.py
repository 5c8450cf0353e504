"""The version of nbtasks, for peers to tell each other; a test compares it with the project's file."""

VERSION = "0.1.0"

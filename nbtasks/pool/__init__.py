"""The pool process: `python -m nbtasks.pool`, which starts, watches, ends and replaces workers."""

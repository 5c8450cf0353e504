"""The broker process: `python -m nbtasks.broker`."""

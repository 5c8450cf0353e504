"""The page of a home: served by the Jupyter server as `/nbtasks`, or by `nbtasks dashboard` alone.

A face like the others: it asks the broker as a client does, draws with the modules of the widgets, and
executes nothing of the user's.
"""

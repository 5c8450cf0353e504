"""Live views of runs and the board, whatever shows them: widgets of a notebook, or a page."""

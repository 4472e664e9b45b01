"""An instrument for measuring how humanoid motion tracking scales."""

__version__ = "0.1.0"

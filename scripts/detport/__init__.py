"""The library that stages share.

A program that is run by hand gets one thread for NumPy's linear algebra, as a job of one thread does in the workflow:
nothing here has use for more, and to start them takes a third of the time that NumPy takes to import.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

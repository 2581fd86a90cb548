"""Run a program and print the megabytes that it had at its peak: python launch.py PROGRAM ARGUMENT...

From a process that is small itself: a peak begins with what the parent has in memory.
"""

import os
import subprocess
import sys

process = subprocess.Popen(sys.argv[1:], stdout=sys.stderr)
_, status, usage = os.wait4(process.pid, 0)
print(usage.ru_maxrss * 1024 / 1e6)
sys.exit(os.waitstatus_to_exitcode(status))

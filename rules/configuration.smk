# The configuration file, checked before Snakemake reads it, whose own complaints name neither key nor line. Only code.

import os
import sys

sys.path.insert(0, str(ROOT / "scripts"))

from detport import config as detport_config
from detport import engine as detport_engine
from detport import utf8 as detport_utf8
from detport.errors import Failure, UsageError

CONFIGURATION = Path("config/config.yaml")
# A job that the kernel kills for want of memory says nothing itself; its shell does. Not at EXIT: jobs clear up there.
ON_KILL = (
    "trap 'test $? != 137 || echo detport: error: killed by signal 9, most likely for want of memory:"
    " run fewer jobs at once with --cores, or on a larger machine >&2' ERR; "
)


def give_up(message: object, status: int = 2) -> None:
    """Stop for the user's mistake: plain text and exit status 2. Snakemake would add a traceback to an exception."""
    print(f"detport: error: {message}", file=sys.stderr)
    sys.exit(status)


detport_engine.plan_quickly()
detport_engine.look_for_jobs_when_some_end()
try:
    detport_utf8.insist(detport_engine.started_in(workflow))
except UsageError as error:
    give_up(error)
if not os.access(".", os.W_OK | os.X_OK):
    give_up(f"{Path.cwd()}: may not be written; Snakemake keeps its records and all results in its working directory")
if not CONFIGURATION.exists():
    give_up(f"{CONFIGURATION}: not in {Path.cwd()}; go to the folder that has one, or name it: --directory demo")
# The files of the configuration, each over the one before it.
CONFIGURATIONS = [Path(os.path.relpath(file)) for file in detport_engine.configuration_files(workflow, CONFIGURATION)]
try:
    detport_config.load_configuration(CONFIGURATIONS)
except UsageError as error:
    give_up(error)


configfile: CONFIGURATION

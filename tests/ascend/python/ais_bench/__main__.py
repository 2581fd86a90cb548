import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from sim import ais_bench

sys.exit(ais_bench.main(sys.argv[1:]))

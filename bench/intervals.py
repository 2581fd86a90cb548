"""How often 95 % intervals cover the truth: many sets of images, two simulated detectors whose true AP is known.

    PYTHONPATH=scripts python bench/intervals.py --images 500 --sets 1000     # or: make coverage

A set's interval is the one that a report has of it. With --say the words of a gate on sets of 64, 500 and 5000 images,
for two detectors that are 0.3 AP apart, are printed instead.
"""

import argparse
import math

import numpy as np

import simulated
from detport.report import gates, statistics

MARGIN = {"name": "g", "measure": "bbox.AP", "reference": None, "against": "baseline", "minus": 0, "times": 1}
SIZES = (64, 500, 5000)  # images
MODEL = {"references": [], "statistics": {"confidence": 0.95}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300, help="of a set (default: %(default)s)")
    parser.add_argument("--sets", type=int, default=500, help="default: %(default)s")
    parser.add_argument("--resamples", type=int, default=2000, help="default: %(default)s")
    parser.add_argument("--classes", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--worse", type=float, default=0.1, help="how much the second one is (default: %(default)s)")
    parser.add_argument("--noise", type=float, default=0.4, help="what is different by chance (default: %(default)s)")
    parser.add_argument("--say", action="store_true", help="print what gates say with 64, 500 and 5000 images")
    args = parser.parse_args()
    say(args) if args.say else cover(args)


def truth(found: list) -> list[float]:
    """The AP of both detectors on all images."""
    once = np.ones((1, len(found[0][0].objects)), np.int16)
    return [simulated.ap(classes, once)[0] for classes in found]


def cover(args: argparse.Namespace) -> None:
    """Print the share of the sets whose intervals have the truth in them."""
    found = simulated.detectors(args.images * args.sets, args.classes, args.worse, args.noise, seed=1)
    first, second = truth(found)
    print(f"true AP {first:.4f} and {second:.4f}, difference {second - first:+.4f}", flush=True)
    hits = {"difference": 0, "AP of one": 0}
    for i in range(args.sets):
        written = simulated.resampled(found, i * args.images, args.images, args.resamples, seed=i)
        own, bar = (statistics.sampled(each, "bbox.AP") for each in reversed(written))
        shared = (0.95, args.images)
        around = statistics.interval(own.value - bar.value, own.resamples - bar.resamples, *shared, True)
        hits["difference"] += around.low <= second - first <= around.high
        around = statistics.interval(own.value, own.resamples, *shared, False)
        hits["AP of one"] += around.low <= second <= around.high
    for name, count in hits.items():
        share = count / args.sets
        error = math.sqrt(share * (1 - share) / args.sets)
        print(f"{name:<12} {100 * share:.1f} % (± {100 * error:.1f}) of {args.sets} sets of {args.images} images")


def say(args: argparse.Namespace, sizes: tuple[int, ...] = SIZES, population: int = 20_000) -> None:
    """Print the notes of a gate on growing sets."""
    found = simulated.detectors(population, args.classes, args.worse, args.noise, seed=2)
    first, second = truth(found)
    print(f"true AP {first:.4f} and {second:.4f}, difference {second - first:+.4f}")
    for margin in (0.005, 0.001):
        gate = MARGIN | {"margin": margin, "backends": None}
        for images in sizes:
            baseline, own = simulated.resampled(found, 0, images, args.resamples, seed=0)
            values = {"backend": own, "baseline": baseline}
            measured = {name: {"bbox.AP": float(each["measures"]["bbox.AP"]["value"])} for name, each in values.items()}
            row = gates.judge(gate, "backend", measured, [], trusted=True)
            row = statistics.judge(row, gate, values, MODEL, None)
            print(f"{row['verdict']:<10} {row['note']}", flush=True)


if __name__ == "__main__":
    main()

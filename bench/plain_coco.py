"""Score a list of COCO results as pycocotools' own example does: python plain_coco.py TRUTH RESULTS OUTPUT TYPE...

Writes the twelve numbers of every type, as JSON.
"""

import contextlib
import io
import json
import sys
from pathlib import Path

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

truth, results, output, *types = sys.argv[1:]
figures = {}
with contextlib.redirect_stdout(io.StringIO()):
    ground_truth = COCO(truth)
    found = ground_truth.loadRes(results)
    for kind in types:
        evaluator = COCOeval(ground_truth, found, kind)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
        figures[kind] = evaluator.stats.tolist()
Path(output).write_text(json.dumps(figures), encoding="utf-8")

"""Metrics, one module each.

The yaml beside it is the schema of its settings. `figures` there is the pattern of those that gates may be on,
`resampled` of those that its function of that name makes, `intervals` are those that a sample has intervals of, `masks`
the key and value with which it scores masks, `result_files` is true where it has write_results. All but `figures` may
be left out, and so may the functions resampled and curves: there are then no intervals, and no analysis.
"""

import importlib
from types import ModuleType

NOTHING_TO_FIND = -1.0  # COCO's mark in place of a figure: the ground truth has nothing of the kind


def load(kind: str) -> ModuleType:
    """The module of a metric. Ground truth comes from a dataset kind, in COCO's form. It has

    check(truth, image_ids, categories, settings): UsageError for what evaluate would refuse of this ground truth, or of
    a model with these categories, after everything else has run; else what it would leave out, one line each;
    categories(truth, settings): id and name of everything that can be found;
    counted(truth, image_ids, settings): those of the scored images that the figures are over;
    which_images(settings): the same in words;
    evaluate(truth, image_ids, rows, settings, cross_check): the figures; where BY_COLUMNS is there and true, of
    columns.Columns as well as of rows;
    resampled(truth, image_ids, rows, settings, measures, drawn): some of the figures by name in every resample, NaN
    where one is not defined; `drawn` is how often each image is there, [resamples, images];
    curves(truth, image_ids, rows, settings): by group of the figures the mean precision at recalls 0, 0.01 … 1, at
    each IoU that counts;
    notes(figures, settings): what one has to know of the figures, in sentences;
    SECOND_EVALUATOR: who can cross-check them, None if nobody; evaluators(cross_checked): who computed them, in words;
    write_results(folder, image_ids, rows, settings, image_set): the detections in files of the metric's own tools.
    """
    return importlib.import_module(f"detport.metrics.{kind}")

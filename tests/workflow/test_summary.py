"""The whole demo: what is made if no target is named."""

import shutil

from runs import ROOT, planned

NETWORKS = {"retinamask", "efficientdet", "gfocalv2", "rfcn"}


def test_no_target_means_every_report_and_the_summary(tmp_path):
    for part in ("config", "data", "weights"):
        shutil.copytree(ROOT / "demo" / part, tmp_path / part)
    jobs = planned(tmp_path)
    reports = planned(tmp_path, *(f"reports/{name}.txt" for name in NETWORKS))
    assert reports["report"] == len(NETWORKS)
    assert jobs["report"] >= len(NETWORKS)
    assert jobs["summary"] == 1

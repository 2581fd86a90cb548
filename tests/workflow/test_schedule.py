"""Which jobs a run keeps cores free for."""

import re

from runs import reduced_demo, snakemake


def test_only_what_must_be_alone_takes_more_than_a_core(tmp_path):
    """Two jobs do more on two cores than one with two threads; and jobs that need all cores follow each other."""
    folder = reduced_demo(tmp_path / "demo", "retinamask", parity=4)
    said = snakemake(folder, "-n", "--cores", "2").stdout
    blocks = dict(re.findall(r"^(?:local)?rule (\w+):\n((?:    .*\n)+)", said, re.MULTILINE))
    wide = {rule for rule, block in blocks.items() if re.search(r"^    threads: 2$", block, re.MULTILINE)}
    assert {"simplify", "parity", "infer"} <= blocks.keys() and wide == {"check", "index_dataset", "benchmark"}
    order = {rule: int(found[1]) for rule, block in blocks.items() if (found := re.search(r"priority: (\d+)", block))}
    assert order["check"] > order["index_dataset"] > order["decode"] > order["benchmark"]
    assert "report" not in order, "its turn comes when no benchmark waits for all cores any more"

# detport: from a trained detector to an inference backend, with proof. Entry point of the workflow.

from pathlib import Path

from snakemake.utils import min_version

min_version("9.0")


ROOT = Path(workflow.snakefile).parent


include: "rules/configuration.smk"
include: "rules/common.smk"
include: "rules/runs.smk"
include: "rules/inputs.smk"
include: "rules/dataset.smk"
include: "rules/model.smk"
include: "rules/inference.smk"
include: "rules/evaluation.smk"
include: "rules/benchmark.smk"
include: "rules/report.smk"


wildcard_constraints:
    model=alternatives(MODELS),
    backend=alternatives(BACKENDS),
    dataset=alternatives(DATASETS),
    flavour=alternatives(detport_config.flavours()),
    kind=r"\w+",
    canvas=f"({alternatives({suffix for model in MODELS for suffix in canvas_suffixes(model)})})",
    shard=r"\d{4}",
    before=r"\d{4}",
    backends="[0-9a-f]{8}",


onsuccess:
    order_times()


rule all:
    """The report of every configured model, and their summary."""
    default_target: True
    input:
        expand("reports/{model}.txt", model=MODELS),
        "reports/summary.txt",


rule accept:
    """Exit status 0 only if every gate of every configured model passes."""
    input:
        expand("reports/{model}.json", model=MODELS),
    log:
        "logs/accept.log",
    conda:
        "envs/run.yaml"
    params:
        script=script("accept.py"),
    shell:
        "python {params.script:q} --reports {input:q} 2>&1 | tee {log:q}"


rule plan:
    """Print what a run would take, before anything runs: jobs, bytes, peak of temporary disk, time."""
    input:
        only_asks,
    log:
        "logs/plan.log",
    conda:
        "envs/run.yaml"
    params:
        script=script("plan.py"),
        models=[model_file(name) for name in MODELS],
        datasets=[DATASET_FILES[model["dataset"]] for model in MODELS.values()],
        backends=[str(backend_file(name)) for name in BACKENDS],
        limit=SETTINGS["disk_limit_gb"],
        keep=SETTINGS["keep_outputs_gb"],
    shell:
        "python {params.script:q} --model {params.models:q} --dataset-config {params.datasets:q}"
        " --backend {params.backends:q} --disk-limit-gb {params.limit} --keep-outputs-gb {params.keep}"
        " --results results --benchmarks benchmarks 2>&1 | tee {log:q}"

# detport: from a trained detector to an inference backend, with proof. Entry point of the workflow.

from pathlib import Path

from snakemake.utils import min_version

min_version("9.27")


ROOT = Path(workflow.snakefile).parent


include: "rules/configuration.smk"
include: "rules/common.smk"
include: "rules/runs.smk"
include: "rules/inputs.smk"


wildcard_constraints:
    model=alternatives(MODELS),
    backend=alternatives(BACKENDS),
    dataset=alternatives(DATASETS),
    flavour=alternatives(detport_config.flavours()),
    kind=r"\w+",
    canvas=f"({alternatives({suffix for model in MODELS for suffix in canvas_suffixes(model)})})",
    shard=r"\d{4}",
    recorded=r"\w+-[0-9a-f]{8}",


include: "rules/dataset.smk"
include: "rules/model.smk"
include: "rules/inference.smk"
include: "rules/evaluation.smk"
include: "rules/benchmark.smk"
include: "rules/report.smk"


onstart:
    clear_away()


onsuccess:
    check_again()


onerror:
    CONSOLE.end()
    tell_failures()


# What only prints is no job for a cluster.
localrules:
    accept,
    plan,


rule all:
    """The report of every configured model, and their summary."""
    default_target: True
    input:
        expand("reports/{model}.{form}", model=MODELS, form=["txt", "html"]),
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
        scripts=SCRIPTS,
    shell:
        "python {params.scripts:q}/accept.py --reports {input:q} 2>&1 | tee {log:q}"


rule plan:
    """Print what a run takes, before anything runs: jobs, bytes, peak of temporary disk, time."""
    input:
        only_asks,
    log:
        "logs/plan.log",
    conda:
        "envs/run.yaml"
    params:
        scripts=SCRIPTS,
        settings=json.dumps(SETTINGS | {"keep_outputs_gb": KEEP_GB}),
        snakefile=workflow.snakefile,
        outputs=detport_engine.several_outputs(workflow),
        models=[model_file(name) for name in MODELS],
        datasets=[str(file) for file in CONFIGURATIONS],
        backends=[str(backend_file(name)) for name in BACKENDS],
        sample=sample_flag,
        cores=CORES,
        parity=SETTINGS["parity"]["images"],
        limit=SETTINGS["disk_limit_gb"],
        keep=KEEP_GB,
        per_node="--per-node" * ON_NODES,
        memory="" if MEMORY_MB is None else f"--memory-mb {MEMORY_MB}",
    shell:
        'asked=$(mktemp -d); trap \'rm -r "$asked"\' EXIT; printf %s {params.settings:q} > "$asked/config.json";'
        ' python -m snakemake --snakefile {params.snakefile:q} --configfile "$asked/config.json"'
        ' --summary -- all > "$asked/jobs.tsv" 2> {log:q} || {{ cat {log:q}; exit 1; }};'
        ' python {params.scripts:q}/plan.py --summary "$asked/jobs.tsv" --outputs {params.outputs}'
        " --model {params.models:q} --dataset-config {params.datasets:q} --backend {params.backends:q} {params.sample}"
        " --parity-images {params.parity} --cores {params.cores} --disk-limit-gb {params.limit} --keep-outputs-gb {params.keep} {params.per_node} {params.memory} 2>&1 | tee {log:q}"

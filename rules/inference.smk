# From images to detections, shard by shard. A job takes its shard through the stages in a scratch folder of its own, so
# that the jobs at work bound the disk that tensors take, and a device that one job waits for keeps no other from preparing.


rule detect:
    """Preprocess one shard, run the model over it and decode its outputs, which are too large to be kept."""
    input:
        index=index_of,
        source=source_of("outputs"),
    output:
        "results/{model}/{backend}/detections/{shard}.json.gz",
    log:
        preprocess="logs/preprocess/{model}/{backend}/{shard}.log",
        infer="logs/infer/{model}/{backend}/{shard}.log",
        decode="logs/decode/{model}/{backend}/{shard}.log",
    benchmark:
        "benchmarks/detect/{model}/{backend}/{shard}.tsv"
    wildcard_constraints:
        model=alternatives(MODELS.keys() - BUDGET.kept.keys()),
    conda:
        RUNNER_ENV
    resources:
        mem_mb=mem_mb("infer"),
        scratch_mb=scratch_mb,
        runtime=minutes,
    params:
        scripts=SCRIPTS,
        model=model_yaml,
        backend=backend_yaml,
        images=lambda wildcards: dataset_of(wildcards)["images"],
        part=part,
        on_bad_image=SETTINGS["on_bad_image"],
        flag=source_flag("outputs"),
        scratch=scratch,
        expect=expect,
    shell:
        "{params.scratch};"
        " python {params.scripts:q}/preprocess.py --model {params.model:q} --index {input.index:q}"
        " --images {params.images:q} --shard {params.part} --on-bad-image {params.on_bad_image}"
        ' --output "$scratch/shard" --scratch 2> {log.preprocess:q};'
        " python {params.scripts:q}/infer.py --model {params.model:q} --backend {params.backend:q}"
        ' {params.flag} {input.source:q} --shard "$scratch/shard" --threads {threads}'
        ' --output "$scratch/outputs" --scratch 2> {log.infer:q};'
        ' python {params.scripts:q}/decode.py --model {params.model:q} --shard "$scratch/shard"'
        ' --outputs "$scratch/outputs" --expect {params.expect} --output {output:q} 2> {log.decode:q}'


rule infer:
    """Preprocess one shard and run the model over it; its outputs are kept."""
    input:
        index=index_of,
        source=source_of("outputs"),
    output:
        "results/{model}/{backend}/outputs/{shard}/made.json",
    log:
        preprocess="logs/preprocess/{model}/{backend}/{shard}.log",
        infer="logs/infer/{model}/{backend}/{shard}.log",
    benchmark:
        "benchmarks/infer/{model}/{backend}/{shard}.tsv"
    conda:
        RUNNER_ENV
    resources:
        mem_mb=mem_mb("infer"),
        scratch_mb=scratch_mb,
        runtime=minutes,
    params:
        scripts=SCRIPTS,
        model=model_yaml,
        backend=backend_yaml,
        images=lambda wildcards: dataset_of(wildcards)["images"],
        part=part,
        on_bad_image=SETTINGS["on_bad_image"],
        flag=source_flag("outputs"),
        scratch=scratch,
        folder=lambda wildcards, output: Path(output[0]).parent,
        expect=expect,
    shell:
        "{params.scratch};"
        " python {params.scripts:q}/preprocess.py --model {params.model:q} --index {input.index:q}"
        " --images {params.images:q} --shard {params.part} --on-bad-image {params.on_bad_image}"
        ' --output "$scratch/shard" --scratch 2> {log.preprocess:q};'
        " python {params.scripts:q}/infer.py --model {params.model:q} --backend {params.backend:q}"
        ' {params.flag} {input.source:q} --shard "$scratch/shard" --threads {threads}'
        " --expect {params.expect} --output {params.folder:q} 2> {log.infer:q}"


rule decode:
    """Turn the kept outputs of one shard into detections in the original images."""
    input:
        "results/{model}/{backend}/outputs/{shard}/made.json",
    output:
        "results/{model}/{backend}/detections/{shard}.json.gz",
    log:
        "logs/decode/{model}/{backend}/{shard}.log",
    benchmark:
        "benchmarks/decode/{model}/{backend}/{shard}.tsv"
    wildcard_constraints:
        model=alternatives(BUDGET.kept),
    priority: 10
    conda:
        "../envs/run.yaml"
    params:
        scripts=SCRIPTS,
        model=model_yaml,
        folder=lambda wildcards, input: Path(input[0]).parent,
        expect=expect,
    shell:
        "python {params.scripts:q}/decode.py --model {params.model:q} --shard {params.folder:q} --outputs {params.folder:q}"
        " --expect {params.expect} --output {output:q} 2> {log:q}"

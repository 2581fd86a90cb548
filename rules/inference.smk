# From shards to detections. The priorities make a shard run through before the next one is prepared.


rule infer:
    """Run the compiled model over one shard."""
    input:
        source=source_of("outputs"),
        shard="results/{model}/shards/{shard}",
    output:
        directory("results/{model}/{backend}/outputs/{shard}"),
    log:
        "logs/infer/{model}/{backend}/{shard}.log",
    benchmark:
        "benchmarks/infer/{model}/{backend}/{shard}.tsv"
    wildcard_constraints:
        model=alternatives(KEEPING_OUTPUTS),
    priority: 10
    conda:
        runner_env
    resources:
        npu=devices,
    params:
        script=script("infer.py"),
        model=model_yaml,
        backend=backend_yaml,
        flag=source_flag("outputs"),
        settings=settings("infer"),
        code=code("infer"),
    shell:
        "python {params.script:q} --model {params.model:q} --backend {params.backend:q}"
        " {params.flag} {input.source:q} --shard {input.shard:q} --threads {threads} --output {output:q} 2> {log:q}"


use rule infer as infer_temporary with:
    """Run the compiled model over one shard; its outputs are too large to be kept."""
    output:
        temp(directory("results/{model}/{backend}/outputs/{shard}")),
    wildcard_constraints:
        model=alternatives(MODELS.keys() - KEEPING_OUTPUTS),


rule decode:
    """Turn the outputs of one shard into detections in the original images."""
    input:
        "results/{model}/{backend}/outputs/{shard}",
    output:
        "results/{model}/{backend}/detections/{shard}.json.gz",
    log:
        "logs/decode/{model}/{backend}/{shard}.log",
    benchmark:
        "benchmarks/decode/{model}/{backend}/{shard}.tsv"
    priority: 20
    conda:
        "../envs/run.yaml"
    params:
        script=script("decode.py"),
        model=model_yaml,
        settings=settings("decode"),
        code=code("decode"),
    shell:
        "python {params.script:q} --model {params.model:q} --shard {input:q} --outputs {input:q}"
        " --output {output:q} 2> {log:q}"

# From detections to accuracy.


rule evaluate:
    """Score all detections against the ground truth; every indexed image must be there exactly once."""
    input:
        index=index_of,
        truth=truth_file,
        detections=detections_of,
    output:
        "results/{model}/{backend}/accuracy.json",
    log:
        "logs/evaluate/{model}/{backend}.log",
    benchmark:
        "benchmarks/evaluate/{model}/{backend}.tsv"
    conda:
        "../envs/run.yaml"
    params:
        script=script("evaluate.py"),
        model=model_yaml,
        annotations=lambda wildcards: dataset_of(wildcards)["annotations"],
        truth=truth_signature,
        cross_check="--cross-check" if SETTINGS["cross_check"] else "",
        settings=settings("evaluate"),
        code=code("evaluate"),
    shell:
        "python {params.script:q} --model {params.model:q} --index {input.index:q} {params.cross_check}"
        " --annotations {params.annotations:q} --detections {input.detections:q} --output {output:q} 2> {log:q}"


rule comp4:
    """Write the detections as VOC's result files, one per class; only on request (comp4: true, or as a target)."""
    input:
        index=index_of,
        detections=detections_of,
    output:
        directory("results/{model}/{backend}/comp4"),
    log:
        "logs/comp4/{model}/{backend}.log",
    benchmark:
        "benchmarks/comp4/{model}/{backend}.tsv"
    conda:
        "../envs/run.yaml"
    params:
        script=script("evaluate.py"),
        model=model_yaml,
        annotations=lambda wildcards: dataset_of(wildcards)["annotations"],
        image_set=image_set,
        settings=settings("evaluate"),
        code=code("evaluate"),
    shell:
        "python {params.script:q} --model {params.model:q} --index {input.index:q}"
        " --annotations {params.annotations:q} --detections {input.detections:q}"
        " --image-set={params.image_set:q} --comp4 {output:q} 2> {log:q}"

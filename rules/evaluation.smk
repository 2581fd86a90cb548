# From detections to accuracy.


rule evaluate:
    """Score all detections against the ground truth; every indexed image must be there exactly once."""
    input:
        index=index_of,
        checked="results/{model}/checked.json",
        detections=shards_of("results/{model}/{backend}/detections/{shard}.json.gz"),
    output:
        accuracy="results/{model}/{backend}/accuracy.json",
        analysis="results/{model}/{backend}/analysis.json",
    log:
        "logs/evaluate/{model}/{backend}.log",
    benchmark:
        "benchmarks/evaluate/{model}/{backend}.tsv"
    conda:
        "../envs/run.yaml"
    params:
        scripts=SCRIPTS,
        model=model_yaml,
        config=lambda wildcards: DATASET_FILES[MODELS[wildcards.model]["dataset"]],
        dataset=lambda wildcards: MODELS[wildcards.model]["dataset"],
        cross_check="--cross-check" if SETTINGS["cross_check"] else "",
        expect=expect,
    shell:
        "python {params.scripts:q}/evaluate.py --expect {params.expect} --model {params.model:q} --index {input.index:q} --checked {input.checked:q} {params.cross_check}"
        " --dataset-config {params.config:q} --dataset {params.dataset:q} --detections {input.detections:q}"
        " --output {output.accuracy:q} --output-analysis {output.analysis:q} 2> {log:q}"


rule comp4:
    """Write the detections as VOC's result files, one per class; only on request (comp4: true, or as a target)."""
    input:
        index=index_of,
        detections=shards_of("results/{model}/{backend}/detections/{shard}.json.gz"),
    output:
        directory("results/{model}/{backend}/comp4"),
    log:
        "logs/comp4/{model}/{backend}.log",
    benchmark:
        "benchmarks/comp4/{model}/{backend}.tsv"
    conda:
        "../envs/run.yaml"
    params:
        scripts=SCRIPTS,
        model=model_yaml,
        config=lambda wildcards: DATASET_FILES[MODELS[wildcards.model]["dataset"]],
        dataset=lambda wildcards: MODELS[wildcards.model]["dataset"],
        image_set=image_set,
        expect=expect,
    shell:
        "python {params.scripts:q}/evaluate.py --expect {params.expect} --model {params.model:q} --index {input.index:q}"
        " --dataset-config {params.config:q} --dataset {params.dataset:q} --detections {input.detections:q}"
        " --image-set={params.image_set:q} --comp4 {output:q} 2> {log:q}"


rule coco_results:
    """Write the detections as one list of COCO results; only on request."""
    input:
        index=index_of,
        detections=shards_of("results/{model}/{backend}/detections/{shard}.json.gz"),
    output:
        "results/{model}/{backend}/coco_results.json",
    log:
        "logs/coco_results/{model}/{backend}.log",
    benchmark:
        "benchmarks/coco_results/{model}/{backend}.tsv"
    conda:
        "../envs/run.yaml"
    params:
        scripts=SCRIPTS,
        model=model_yaml,
        config=lambda wildcards: DATASET_FILES[MODELS[wildcards.model]["dataset"]],
        dataset=lambda wildcards: MODELS[wildcards.model]["dataset"],
        expect=expect,
    shell:
        "python {params.scripts:q}/evaluate.py --expect {params.expect} --model {params.model:q} --index {input.index:q}"
        " --dataset-config {params.config:q} --dataset {params.dataset:q} --detections {input.detections:q}"
        " --coco-results {output:q} 2> {log:q}"


rule doctor:
    """Try the usual mistakes in a model's yaml on a few images; only on request."""
    input:
        index=index_of,
        onnx="results/{model}/onnx/standard/simplified.onnx",
    output:
        "results/{model}/doctor.txt",
    log:
        "logs/doctor/{model}.log",
    benchmark:
        "benchmarks/doctor/{model}.tsv"
    conda:
        "../envs/run.yaml"
    threads: CORES
    params:
        scripts=SCRIPTS,
        model=model_yaml,
        config=lambda wildcards: DATASET_FILES[MODELS[wildcards.model]["dataset"]],
        dataset=lambda wildcards: MODELS[wildcards.model]["dataset"],
        expect=expect,
    shell:
        "python {params.scripts:q}/doctor.py --expect {params.expect} --model {params.model:q} --index {input.index:q}"
        " --dataset-config {params.config:q} --dataset {params.dataset:q} --onnx {input.onnx:q} --threads {threads}"
        " --output {output:q} 2> {log:q}"

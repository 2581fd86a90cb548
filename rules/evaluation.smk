# From detections to accuracy.


rule evaluate:
    """Score all detections against the ground truth; every indexed image must be there exactly once."""
    input:
        index=index_of,
        checked="results/{model}/checked.json",
        detections=shards_of("results/{model}/{backend}/detections/{shard}.json.gz"),
    output:
        "results/{model}/{backend}/accuracy.json",
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
        " --output {output:q} 2> {log:q}"


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


rule resample:
    """Figures on images drawn with replacement, many times; for gates with a margin, and for a sample."""
    input:
        index=index_of,
        checked="results/{model}/checked.json",
        detections=shards_of("results/{model}/{backend}/detections/{shard}.json.gz"),
    output:
        "results/{model}/{backend}/resampled.json",
    log:
        "logs/resample/{model}/{backend}.log",
    benchmark:
        "benchmarks/resample/{model}/{backend}.tsv"
    conda:
        "../envs/run.yaml"
    params:
        scripts=SCRIPTS,
        model=model_yaml,
        config=lambda wildcards: DATASET_FILES[MODELS[wildcards.model]["dataset"]],
        dataset=lambda wildcards: MODELS[wildcards.model]["dataset"],
        measures=lambda wildcards: resampled_measures(wildcards.model).get(wildcards.backend, []),
        expect=expect,
    shell:
        "python {params.scripts:q}/resample.py --expect {params.expect} --model {params.model:q} --index {input.index:q} --checked {input.checked:q}"
        " --dataset-config {params.config:q} --dataset {params.dataset:q} --measure {params.measures}"
        " --name {wildcards.backend:q} --detections {input.detections:q} --output {output:q} 2> {log:q}"


rule resample_recorded:
    """The same of detections that an earlier run or another tool has left in a file."""
    input:
        index=index_of,
        checked="results/{model}/checked.json",
        recorded=recorded_file,
    output:
        "results/{model}/recorded/{recorded}.json",
    log:
        "logs/resample/{model}/recorded/{recorded}.log",
    benchmark:
        "benchmarks/resample/{model}/recorded/{recorded}.tsv"
    conda:
        "../envs/run.yaml"
    params:
        scripts=SCRIPTS,
        model=model_yaml,
        config=lambda wildcards: DATASET_FILES[MODELS[wildcards.model]["dataset"]],
        dataset=lambda wildcards: MODELS[wildcards.model]["dataset"],
        measures=lambda wildcards: resampled_measures(wildcards.model)[recorded_path(wildcards)],
        file=recorded_path,
        expect=expect,
    shell:
        "python {params.scripts:q}/resample.py --expect {params.expect} --model {params.model:q} --index {input.index:q} --checked {input.checked:q}"
        " --dataset-config {params.config:q} --dataset {params.dataset:q} --measure {params.measures}"
        " --name {params.file:q} --recorded {params.file:q} --output {output:q} 2> {log:q}"


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

# From images and annotations to shards of tensors.


rule index_dataset:
    """List every image of the ground truth, after decoding each one once; before what is expensive, and alone."""
    input:
        index_waits,
    output:
        "results/datasets/{dataset}/index.tsv",
    log:
        "logs/index_dataset/{dataset}.log",
    benchmark:
        "benchmarks/index_dataset/{dataset}.tsv"
    priority: 90
    conda:
        "../envs/run.yaml"
    threads: CORES
    params:
        scripts=SCRIPTS,
        config=lambda wildcards: DATASET_FILES[wildcards.dataset],
        sample=sample_flag,
        on_bad_image=SETTINGS["on_bad_image"],
        expect=expect,
    shell:
        "python {params.scripts:q}/index_dataset.py --dataset-config {params.config:q} --dataset {wildcards.dataset:q}"
        " {params.sample} --on-bad-image {params.on_bad_image} --threads {threads}"
        " --expect {params.expect} --output {output:q} 2> {log:q}"


rule check:
    """Check that a model can be scored on its dataset; before all else, and alone."""
    input:
        truth_waits,
    output:
        "results/{model}/checked.json",
    log:
        "logs/check/{model}.log",
    benchmark:
        "benchmarks/check/{model}.tsv"
    priority: 100
    conda:
        "../envs/run.yaml"
    threads: CORES
    params:
        scripts=SCRIPTS,
        model=model_yaml,
        config=lambda wildcards: DATASET_FILES[MODELS[wildcards.model]["dataset"]],
        dataset=lambda wildcards: MODELS[wildcards.model]["dataset"],
        sample=sample_flag,
        expect=expect,
    shell:
        "python {params.scripts:q}/check.py --expect {params.expect} --model {params.model:q}"
        " --dataset-config {params.config:q} --dataset {params.dataset:q} {params.sample} --output {output:q} 2> {log:q}"


rule preprocess:
    """Turn one shard of the dataset into one .bin per image, for those who run the model elsewhere."""
    input:
        index=index_of,
    output:
        "shards/{model}/{shard}/made.json",
    log:
        "logs/preprocess/{model}/{shard}.log",
    benchmark:
        "benchmarks/preprocess/{model}/{shard}.tsv"
    conda:
        "../envs/run.yaml"
    params:
        scripts=SCRIPTS,
        model=model_yaml,
        images=lambda wildcards: dataset_of(wildcards)["images"],
        part=part,
        on_bad_image=SETTINGS["on_bad_image"],
        folder=lambda wildcards, output: Path(output[0]).parent,
        expect=expect,
    shell:
        "python {params.scripts:q}/preprocess.py --model {params.model:q} --index {input.index:q} --images {params.images:q}"
        " --shard {params.part} --on-bad-image {params.on_bad_image} --expect {params.expect}"
        " --output {params.folder:q} 2> {log:q}"


for each in MODELS:

    rule:
        """All shards of a model: they are kept, and need neither compiler nor device."""
        name:
            f"shards/{each}"
        input:
            expand("shards/{model}/{shard}/made.json", model=each, shard=shard_names(each)),

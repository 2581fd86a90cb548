# From images and annotations to shards of tensors.


rule index_dataset:
    """List every image of the ground truth, after decoding each one once."""
    input:
        truth_file,
    output:
        "results/datasets/{dataset}/index.tsv",
    log:
        "logs/index_dataset/{dataset}.log",
    benchmark:
        "benchmarks/index_dataset/{dataset}.tsv"
    conda:
        "../envs/run.yaml"
    threads: 4
    params:
        script=script("index_dataset.py"),
        config=lambda wildcards: DATASET_FILES[wildcards.dataset],
        settings=lambda wildcards: DATASETS[wildcards.dataset]["kind"],
        images=images_signature,
        truth=index_signature,
        models=scored_models,
        on_bad_image=SETTINGS["on_bad_image"],
        code=dataset_code,
    shell:
        "python {params.script:q} --dataset-config {params.config:q} --dataset {wildcards.dataset:q}"
        " --model {params.models} --on-bad-image {params.on_bad_image} --threads {threads}"
        " --output {output:q} 2> {log:q}"


localrules:
    make_room,


rule make_room:
    """Wait until so many shards are done that another one fits below disk_limit_gb."""
    input:
        lambda wildcards: [str(path) for path in done_files(wildcards.model, wildcards.before)],
    output:
        touch(temp("results/{model}/room/{backends}/{shard}-after-{before}")),


rule preprocess:
    """Turn one shard of the dataset into one .bin per image."""
    input:
        index=index_of,
        room=room,
    output:
        temp(directory("results/{model}/shards/{shard}")),
    log:
        "logs/preprocess/{model}/{shard}.log",
    benchmark:
        "benchmarks/preprocess/{model}/{shard}.tsv"
    conda:
        "../envs/run.yaml"
    params:
        script=script("preprocess.py"),
        model=model_yaml,
        images=lambda wildcards: dataset_of(wildcards)["images"],
        part=lambda wildcards: f"{int(wildcards.shard)}/{dataset_of(wildcards)['shards']}",
        on_bad_image=SETTINGS["on_bad_image"],
        settings=settings("preprocess"),
        code=code("preprocess"),
    shell:
        "python {params.script:q} --model {params.model:q} --index {input.index:q} --images {params.images:q}"
        " --shard {params.part} --on-bad-image {params.on_bad_image} --output {output:q} 2> {log:q}"

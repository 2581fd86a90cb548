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


rule parity:
    """Run a few images through every form of the model and compare each with the one before."""
    input:
        index=index_of,
        weights=rung("weights"),
        exported=rung("exported"),
        simplified=rung("simplified"),
        patched=rung("patched"),
        compiled=rung("compiled"),
    output:
        "results/{model}/{backend}/parity.json",
    log:
        "logs/parity/{model}/{backend}.log",
    benchmark:
        "benchmarks/parity/{model}/{backend}.tsv"
    conda:
        "../envs/export.yaml"
    resources:
        mem_mb=mem_mb("parity"),
        scratch_mb=few_mb("parity"),
        runtime=minutes,
    params:
        scripts=SCRIPTS,
        model=model_yaml,
        backend=backend_yaml,
        images=lambda wildcards: dataset_of(wildcards)["images"],
        drawn="--count {images} --seed={seed} --score {score}".format(**SETTINGS["parity"]),
        brought=lambda wildcards: "--brought" if brought(wildcards.model, wildcards.backend, "outputs") else "",
        expect=expect,
    shell:
        "python {params.scripts:q}/parity.py --expect {params.expect} --model {params.model:q} --backend {params.backend:q}"
        " --index {input.index:q} --images {params.images:q} {params.drawn} {params.brought} --threads {threads}"
        " --weights {input.weights:q} --exported {input.exported:q} --simplified {input.simplified:q}"
        " --patched {input.patched:q} --compiled {input.compiled:q} --output {output:q} 2> {log:q}"


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
    resources:
        mem_mb=mem_mb("doctor"),
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


rule layers:
    """Find the nodes where the error of a backend enters, on a few images; only on request."""
    input:
        index=index_of,
        onnx=layers_graph,
        second=layers_source,
    output:
        "results/{model}/{backend}/layers.tsv",
    log:
        "logs/layers/{model}/{backend}.log",
    benchmark:
        "benchmarks/layers/{model}/{backend}.tsv"
    conda:
        "../envs/run.yaml"
    threads: CORES
    resources:
        mem_mb=mem_mb("layers"),
    params:
        scripts=SCRIPTS,
        model=model_yaml,
        images=lambda wildcards: dataset_of(wildcards)["images"],
        flag=source_flag("dump"),
        drawn=f"--count {SETTINGS['layers']['images']} --seed={SETTINGS['parity']['seed']}",
        memory=SETTINGS["layers"]["memory_gb"],
        expect=expect,
    shell:
        "python {params.scripts:q}/layers.py --expect {params.expect} --model {params.model:q} --index {input.index:q}"
        " --images {params.images:q} --onnx {input.onnx:q} {params.flag} {input.second:q} {params.drawn}"
        " --memory-gb {params.memory} --threads {threads} --output {output:q} 2> {log:q}"


rule layers_page:
    """Show these nodes in a browser; only on request."""
    input:
        "results/{model}/{backend}/layers.tsv",
    output:
        "results/{model}/{backend}/layers.html",
    log:
        "logs/layers_page/{model}/{backend}.log",
    benchmark:
        "benchmarks/layers_page/{model}/{backend}.tsv"
    conda:
        "../envs/run.yaml"
    params:
        scripts=SCRIPTS,
        name=lambda wildcards: f"{wildcards.model} on {wildcards.backend}",
        expect=expect,
    shell:
        "python {params.scripts:q}/layers_page.py --expect {params.expect} --name {params.name:q} --layers {input:q}"
        " --output {output:q} 2> {log:q}"


rule mixed:
    """Find the nodes that a backend has to keep in float32, by measuring detections; only on request."""
    input:
        index=index_of,
        reference="results/{model}/onnx/standard/simplified.onnx",
        onnx="results/{model}/{backend}/patched.onnx",
        layers="results/{model}/{backend}/layers.tsv",
        calibration=mixed_calibration,
    output:
        "results/{model}/{backend}/mixed.yaml",
    log:
        "logs/mixed/{model}/{backend}.log",
    benchmark:
        "benchmarks/mixed/{model}/{backend}.tsv"
    conda:
        RUNNER_ENV
    threads: CORES
    resources:
        mem_mb=mem_mb("mixed"),
    params:
        scripts=SCRIPTS,
        model=model_yaml,
        backend=backend_yaml,
        images=lambda wildcards: dataset_of(wildcards)["images"],
        drawn="--count {images} --seed={seed} --score {score}".format(**SETTINGS["parity"]),
        steps=SETTINGS["mixed"]["steps"],
        calibration=lambda wildcards, input: "--calibration" * bool(input.calibration),
        expect=expect,
    shell:
        "python {params.scripts:q}/mixed.py --expect {params.expect} --model {params.model:q} --backend {params.backend:q}"
        " --index {input.index:q} --images {params.images:q} --reference {input.reference:q} --onnx {input.onnx:q}"
        " --layers {input.layers:q} {params.calibration} {input.calibration:q} {params.drawn}"
        " --steps {params.steps} --threads {threads} --output {output:q} 2> {log:q}"

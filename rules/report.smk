# From measured numbers to a verdict.


rule report:
    """Write the report of a model over all configured backends."""
    input:
        accuracy=expand("results/{{model}}/{backend}/accuracy.json", backend=BACKENDS),
        analysis=expand("results/{{model}}/{backend}/analysis.json", backend=BACKENDS),
        performance=expand("results/{{model}}/{backend}/performance.json", backend=BACKENDS),
        detections=detections_of,
        files=provenance_files,
        resampled=resampled_files,
        patches=patch_files,
        parity=parity_files,
        calibration=calibration_files,
        result_files=result_files,
    output:
        text="reports/{model}.txt",
        json="reports/{model}.json",
    log:
        "logs/report/{model}.log",
    benchmark:
        "benchmarks/report/{model}.tsv"
    conda:
        "../envs/run.yaml"
    params:
        scripts=SCRIPTS,
        model=model_yaml,
        backends=[str(backend_file(name)) for name in BACKENDS],
        expect=expect,
    shell:
        "python {params.scripts:q}/report.py --expect {params.expect} --model {params.model:q} --backend {params.backends:q}"
        " --accuracy {input.accuracy:q} --analysis {input.analysis:q} --performance {input.performance:q}"
        " --files {input.files:q} --detections {input.detections:q}"
        " --patches {input.patches:q} --calibration {input.calibration:q} --parity {input.parity:q}"
        " --resampled {input.resampled:q}"
        ' --history reports/history --command "$DETPORT_COMMAND" --output-text {output.text:q} --output-json {output.json:q} 2> {log:q}'


rule page:
    """Show a model's report in a browser: one file that holds all it needs."""
    input:
        index=index_of,
        report="reports/{model}.json",
        detections=detections_of,
    output:
        "reports/{model}.html",
    log:
        "logs/page/{model}.log",
    benchmark:
        "benchmarks/page/{model}.tsv"
    conda:
        "../envs/run.yaml"
    params:
        scripts=SCRIPTS,
        model=model_yaml,
        config=lambda wildcards: DATASET_FILES[MODELS[wildcards.model]["dataset"]],
        dataset=lambda wildcards: MODELS[wildcards.model]["dataset"],
        images=SETTINGS["report"]["images"],
        expect=expect,
    shell:
        "python {params.scripts:q}/page.py --expect {params.expect} --model {params.model:q} --report {input.report:q}"
        " --index {input.index:q} --dataset-config {params.config:q} --dataset {params.dataset:q}"
        " --detections {input.detections:q} --images {params.images} --output {output:q} 2> {log:q}"


rule preview:
    """Show what a model sees in a few images; only on request, and before anything is measured."""
    input:
        index=index_of,
        compiled=preview_source,
    output:
        "results/{model}/{backend}/preview.html",
    log:
        "logs/preview/{model}/{backend}.log",
    benchmark:
        "benchmarks/preview/{model}/{backend}.tsv"
    conda:
        RUNNER_ENV
    threads: 2
    resources:
        mem_mb=mem_mb("preview"),
        scratch_mb=few_mb("preview"),
    params:
        scripts=SCRIPTS,
        model=model_yaml,
        backend=backend_yaml,
        config=lambda wildcards: DATASET_FILES[MODELS[wildcards.model]["dataset"]],
        dataset=lambda wildcards: MODELS[wildcards.model]["dataset"],
        drawn="--count {images} --seed={seed}".format(**SETTINGS["preview"]),
        images=SETTINGS["report"]["images"],
        expect=expect,
    shell:
        "python {params.scripts:q}/preview.py --expect {params.expect} --model {params.model:q} --backend {params.backend:q}"
        " --index {input.index:q} --dataset-config {params.config:q} --dataset {params.dataset:q}"
        " --compiled {input.compiled:q} {params.drawn} --images {params.images} --threads {threads}"
        " --output {output:q} 2> {log:q}"


rule bundle:
    """Pack a report with all that its figures rest on; only on request. verify.py checks it by itself."""
    input:
        report="reports/{model}.json",
        files=packed_files,
    output:
        "reports/{model}.zip",
    log:
        "logs/bundle/{model}.log",
    benchmark:
        "benchmarks/bundle/{model}.tsv"
    conda:
        "../envs/run.yaml"
    params:
        scripts=SCRIPTS,
        model=model_yaml,
        backends=[str(backend_file(name)) for name in BACKENDS],
        config=lambda wildcards: DATASET_FILES[MODELS[wildcards.model]["dataset"]],
        dataset=lambda wildcards: MODELS[wildcards.model]["dataset"],
        expect=expect,
    shell:
        "python {params.scripts:q}/bundle.py --expect {params.expect} --model {params.model:q} --report {input.report:q}"
        " --files {input.files:q} --backend {params.backends:q} --dataset-config {params.config:q}"
        " --dataset {params.dataset:q} --logs logs --output {output:q} 2> {log:q}"


rule summary:
    """Write one line per model and backend."""
    input:
        expand("reports/{model}.json", model=MODELS),
    output:
        text="reports/summary.txt",
        json="reports/summary.json",
        csv="reports/summary.csv",
        html="reports/summary.html",
    log:
        "logs/summary.log",
    benchmark:
        "benchmarks/summary.tsv"
    conda:
        "../envs/run.yaml"
    params:
        scripts=SCRIPTS,
        expect=expect,
    shell:
        "python {params.scripts:q}/summary.py --expect {params.expect} --reports {input:q}"
        " --output-text {output.text:q} --output-json {output.json:q} --output-csv {output.csv:q}"
        " --output-html {output.html:q} 2> {log:q}"

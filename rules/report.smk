# From measured numbers to a verdict.


rule report:
    """Write the report of a model over all configured backends."""
    input:
        accuracy=expand("results/{{model}}/{backend}/accuracy.json", backend=BACKENDS),
        performance=expand("results/{{model}}/{backend}/performance.json", backend=BACKENDS),
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
        " --accuracy {input.accuracy:q} --performance {input.performance:q} --files {input.files:q}"
        " --resampled {input.resampled:q} --patches {input.patches:q} --calibration {input.calibration:q} --parity {input.parity:q}"
        ' --history reports/history --command "$DETPORT_COMMAND" --output-text {output.text:q} --output-json {output.json:q} 2> {log:q}'


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
        " --output-text {output.text:q} --output-json {output.json:q} 2> {log:q}"

# Speed, measured alone on the machine.


rule benchmark:
    """Time the compiled model; takes every core, so that no other job runs beside it."""
    input:
        source_of("log"),
    output:
        "results/{model}/{backend}/performance.json",
    log:
        "logs/benchmark/{model}/{backend}.log",
    benchmark:
        "benchmarks/benchmark/{model}/{backend}.tsv"
    priority: 1
    conda:
        RUNNER_ENV
    threads: CORES
    resources:
        mem_mb=mem_mb("benchmark"),
        runtime=minutes,
    params:
        scripts=SCRIPTS,
        model=model_yaml,
        backend=backend_yaml,
        flag=source_flag("log"),
        expect=expect,
    shell:
        "python {params.scripts:q}/benchmark.py --expect {params.expect} --model {params.model:q} --backend {params.backend:q} {params.flag} {input:q}"
        " --threads {threads} --output {output:q} 2> {log:q}"

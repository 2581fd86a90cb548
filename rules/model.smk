# From a checkpoint to a compiled model.


rule convert_checkpoint:
    """Open the checkpoint as data only and store its tensors as safetensors."""
    input:
        weights_file,
    output:
        "results/{model}/weights.safetensors",
    log:
        "logs/convert_checkpoint/{model}.log",
    benchmark:
        "benchmarks/convert_checkpoint/{model}.tsv"
    conda:
        "../envs/export.yaml"
    resources:
        mem_mb=mem_mb("convert_checkpoint"),
    params:
        scripts=SCRIPTS,
        model=model_yaml,
        expect=expect,
    shell:
        "python {params.scripts:q}/convert_checkpoint.py --expect {params.expect} --model {params.model:q} --weights {input:q} --output {output:q} 2> {log:q}"


rule export:
    """Export the network with its weights to ONNX."""
    input:
        export_source,
    output:
        "results/{model}/onnx/{flavour}/exported{canvas}.onnx",
    log:
        "logs/export/{model}/{flavour}{canvas}.log",
    benchmark:
        "benchmarks/export/{model}/{flavour}{canvas}.tsv"
    conda:
        "../envs/export.yaml"
    resources:
        mem_mb=mem_mb("export"),
    params:
        scripts=SCRIPTS,
        model=model_yaml,
        canvas=canvas,
        expect=expect,
    shell:
        "python {params.scripts:q}/export.py --expect {params.expect} --model {params.model:q} --weights {input:q} --flavour {wildcards.flavour}"
        " --canvas {params.canvas} --output {output:q} 2> {log:q}"


rule simplify:
    """Simplify the graph and prove that it computes the same."""
    input:
        "results/{model}/onnx/{flavour}/exported{canvas}.onnx",
    output:
        "results/{model}/onnx/{flavour}/simplified{canvas}.onnx",
    log:
        "logs/simplify/{model}/{flavour}{canvas}.log",
    benchmark:
        "benchmarks/simplify/{model}/{flavour}{canvas}.tsv"
    conda:
        "../envs/export.yaml"
    resources:
        mem_mb=mem_mb("simplify"),
    params:
        scripts=SCRIPTS,
        model=model_yaml,
        canvas=canvas,
        expect=expect,
    shell:
        "python {params.scripts:q}/simplify.py --expect {params.expect} --model {params.model:q} --onnx {input:q} --threads {threads}"
        " --canvas {params.canvas} --output {output:q} 2> {log:q}"


rule patch:
    """Apply the graph edits that the model declares for this family of backends."""
    input:
        simplified_graph,
    output:
        graph="results/{model}/{backend}/patched{canvas}.onnx",
        json="results/{model}/{backend}/patches{canvas}.json",
    log:
        "logs/patch/{model}/{backend}{canvas}.log",
    benchmark:
        "benchmarks/patch/{model}/{backend}{canvas}.tsv"
    conda:
        "../envs/export.yaml"
    resources:
        mem_mb=mem_mb("patch"),
    params:
        scripts=SCRIPTS,
        model=model_yaml,
        backend=backend_yaml,
        canvas=canvas,
        expect=expect,
    shell:
        "python {params.scripts:q}/patch.py --expect {params.expect} --model {params.model:q} --backend {params.backend:q} --onnx {input:q}"
        " --canvas {params.canvas} --threads {threads} --output {output.graph:q} --output-json {output.json:q}"
        " 2> {log:q}"


rule calibrate:
    """Measure the range of every tensor on images, for a backend that computes with 8-bit integers."""
    input:
        index=index_of,
        graph="results/{model}/{backend}/patched{canvas}.onnx",
    output:
        "results/{model}/{backend}/calibration{canvas}.json",
    log:
        "logs/calibrate/{model}/{backend}{canvas}.log",
    benchmark:
        "benchmarks/calibrate/{model}/{backend}{canvas}.tsv"
    conda:
        "../envs/run.yaml"
    threads: 2
    resources:
        mem_mb=mem_mb("calibrate"),
    params:
        scripts=SCRIPTS,
        model=model_yaml,
        backend=backend_yaml,
        images=lambda wildcards: dataset_of(wildcards)["images"],
        canvas=canvas,
        expect=expect,
    shell:
        "python {params.scripts:q}/calibrate.py --expect {params.expect} --model {params.model:q} --backend {params.backend:q}"
        " --onnx {input.graph:q} --index {input.index:q} --images {params.images:q} --canvas {params.canvas}"
        " --threads {threads} --output {output:q} 2> {log:q}"


rule compile:
    """Compile the graph for the backend."""
    input:
        graph="results/{model}/{backend}/patched{canvas}.onnx",
        calibration=calibration,
    output:
        "results/{model}/{backend}/model{canvas}.{kind}",
    log:
        "logs/compile/{model}/{backend}{canvas}.{kind}.log",
    benchmark:
        "benchmarks/compile/{model}/{backend}{canvas}.{kind}.tsv"
    conda:
        "../envs/run.yaml"
    resources:
        mem_mb=mem_mb("compile"),
    params:
        scripts=SCRIPTS,
        model=model_yaml,
        backend=backend_yaml,
        canvas=canvas,
        calibration=lambda wildcards, input: "--calibration" * bool(input.calibration),
        expect=expect,
    shell:
        "python {params.scripts:q}/compile.py --expect {params.expect} --model {params.model:q} --backend {params.backend:q}"
        " --onnx {input.graph:q} {params.calibration} {input.calibration:q}"
        " --canvas {params.canvas} --output {output:q} 2> {log:q}"

"""Simulated Ascend tools: strict about options, names, printed lines and exit statuses; the arithmetic is float16-like.

What is simulated: atc builds an .om that holds the ONNX graph, edited as the device would run it (device.py). The
runners execute it in ONNX Runtime. What is not: kernels, memory, fusion, tuning, speed. Every program prints one line
that begins with ANNOUNCEMENT, the files with benchmark's figures end in it, and beside outputs lies a file SIMULATOR,
so that nothing of a simulator can be taken for a device's.

Environment variables that choose the simulated machine and provoke failures:

    ASCEND_SIM_CHIPS    "310x4,310P3x2": chips in the order of their device ids (default 310P3x2)
    ASCEND_SIM_CANN     version of the toolkit (default 6.0.RC1)
    ASCEND_SIM_DRIVER   version of the driver, which decides npu-smi's layout (default by the chips)
    ASCEND_SIM_BUSY     device ids on which npu-smi shows a process
    ASCEND_SIM_ERA      of ais_bench: 2022-06, 2022-07, 2022-09, 2022-11, 2023-06 (default), 2024-09
    ASCEND_SIM_LOAD_S   seconds that it takes to load a model, and
    ASCEND_SIM_LATENCY_S  to run it once; never less than the computer needs (default 0)
    ASCEND_SIM_FAIL     failures, comma separated: E10016, E19010, crash, no_om, full_disk, load, wrong_soc,
                        missing:STEM, short:STEM (an output of that input is not written, or cut), no_driver,
                        hang (a child that sleeps, and no further word), killed (by signal 9)
"""

ANNOUNCEMENT = "[SIMULATOR]"

"""AIPP: the device normalises, from the model's yaml."""


def config(size: dict, settings: dict) -> str:
    """The file for --insert_op_conf: out = (in - min) * var_reci per channel, counted after the channel swap.

    The mean goes into min_chn, because mean_chn takes integers only.
    """
    lines = [
        "aipp_mode: static",
        "related_input_rank: 0",
        "input_format: RGB888_U8",
        f"src_image_size_w: {size['width']}",
        f"src_image_size_h: {size['height']}",
        "csc_switch: false",
        f"rbuv_swap_switch: {'true' if settings['channels'] == 'BGR' else 'false'}",
    ]
    for channel, (mean, std) in enumerate(zip(settings["mean"], settings["std"], strict=True)):
        lines += [f"mean_chn_{channel}: 0", f"min_chn_{channel}: {mean}", f"var_reci_chn_{channel}: {1 / std:.10g}"]
    return "aipp_op {\n" + "".join(f"    {line}\n" for line in lines) + "}\n"

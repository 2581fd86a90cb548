"""--configfile: as little over config.yaml as one folder, with mistakes named by their file."""

import yaml

from runs import reduced_demo, snakemake

INDEX = "results/datasets/shapes/index.tsv"


def test_another_folder_of_images_for_one_dataset(tmp_path):
    folder = reduced_demo(tmp_path / "demo", "retinamask")
    (folder / "data" / "images").rename(folder / "moved")
    missing = snakemake(folder, "-n", INDEX)
    assert (missing.returncode, "config/config.yaml: datasets.shapes.images" in missing.stderr) == (2, True)
    (folder / "over.yaml").write_text(yaml.safe_dump({"datasets": {"shapes": {"images": "moved"}}}))
    overlay = ("--configfile", folder / "over.yaml")
    done = snakemake(folder, "--cores", "1", INDEX, *overlay)
    assert done.returncode == 0, done.stderr
    assert "--dataset-config config/config.yaml over.yaml --dataset" in done.stderr
    # A file that says nothing of the dataset is no reason to list its images again.
    (folder / "limit.yaml").write_text("disk_limit_gb: 3\n")
    again = snakemake(folder, "-n", INDEX, *overlay, folder / "limit.yaml")
    assert "Nothing to be done" in again.stdout + again.stderr
    plan = snakemake(folder, "--cores", "1", "plan", *overlay, folder / "limit.yaml")
    assert plan.returncode == 0, plan.stderr
    (folder / "limit.yaml").write_text("disk_limit_gb: 3\ndisk_limit: 4\n")
    mistake = snakemake(folder, "-n", INDEX, *overlay, folder / "limit.yaml")
    assert mistake.returncode == 2
    assert "detport: error: limit.yaml:2: disk_limit: unknown key" in mistake.stderr


def test_a_dataset_on_the_command_line_is_refused(tmp_path):
    folder = reduced_demo(tmp_path / "demo", "retinamask")
    done = snakemake(folder, "-n", INDEX, "--config", "datasets={shapes: {images: moved}}")
    assert done.returncode == 2
    assert "datasets.shapes: change it in a file (--configfile), not with --config" in done.stderr

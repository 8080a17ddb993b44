"""`experiments/run.py` as a user meets it: one tiny run from end to end, and every mistake."""

import dataclasses
import hashlib
import io
import json
import os
import pathlib
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import warnings

import jax
import numpy as np
import pytest
import tiny
from PIL import Image

import jaxae
from jaxae.command import main as command
from jaxae.command import outputs, results
from jaxae.command import run as runs
from jaxae.command.flags import from_flags, from_folder
from jaxae.data import Options, download
from jaxae.models import vae
from jaxae.recipes import RECIPES
from jaxae.training import Workdir
from jaxae.training.checkpoint import DamagedCheckpoint
from jaxae.training.manifest import make_manifest
from jaxae.training.records import DamagedRecords, MetricsFile, OlderRecords
from jaxae.training.workdir import OlderConfig, digest, read_config

RUN = str(pathlib.Path(__file__).parents[1] / "experiments" / "run.py")
TINY = ["--devices", "1", "--steps", "6", "--batch-size", "8", "--log-every", "2",
        "--eval-every", "4", "--save-every", "4", "--widths", "8", "--latent", "2",
        "--test-examples", "20", "--probe-examples", "60", "--report-batch", "20"]  # fmt: skip
VAE = ["--model", "vae", *TINY, "--iwae-samples", "3"]
HELD = [*VAE, "--seeds", "2", "--validation", "37"]
ACN = ["--model", "acn", *TINY, "--prior-widths", "8"]


@pytest.fixture
def call(capsys):
    """Runs the command in this process: exit code, standard output, standard error."""

    def run(*words):
        try:
            code = command.main([str(word) for word in words])
        except SystemExit as left:
            code = left.code
        seen = capsys.readouterr()
        return code, seen.out, seen.err

    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A workdir in which a tiny VAE has been trained, evaluated and drawn."""
    folder, train = tmp_path_factory.mktemp("vae"), runs.train
    with pytest.MonkeyPatch.context() as patched:
        # Whatever is chosen while it trains, the test images have no part in it.
        unseen = lambda run: dataclasses.replace(
            run, load_data=lambda: run.data._replace(test=None)
        )
        patched.setattr(runs, "train", lambda run, workdir: train(unseen(run), workdir))
        assert command.main([*HELD, "--workdir", str(folder)]) == 0
    return folder


def test_a_run_leaves_what_it_promises(finished):
    names = {str(f.relative_to(finished)) for f in finished.rglob("*") if f.is_file()}
    assert {"config.json", "metrics.jsonl", "result.json", "report.html"} <= names
    assert any(name.startswith("tensorboard/") for name in names)
    result = json.loads((finished / "result.json").read_text())
    for figure in result["figures"]:
        with Image.open(finished / figure) as image:
            assert np.asarray(image.convert("L")).std() > 0
    assert result["seeds"] == [0, 1]
    assert len(result["results"]["test"]["loss"]["values"]) == 2
    both = result["results"]["likelihood"]
    assert both["iwae_nats"]["mean"] >= both["elbo_nats"]["mean"]
    config = json.loads((finished / "config.json").read_text())
    assert config["plan"]["steps"] == 6
    assert config["config"]["widths"] == [8]
    assert config["report"] == result["report"]
    assert config["report"]["iwae_samples"] == 3
    assert result["images"] == {"train": 1400, "validation": 37, "test": 360}
    assert result["looked_at"] == "validation"
    assert result["warnings"] == []
    assert result["results"]["data"]["validation"] == "37 images"
    assert result["results"]["data"]["class_names"] == list("0123456789")
    lines = (finished / "metrics.jsonl").read_text().splitlines()
    names = {name for line in lines for name in json.loads(line)}
    assert {"train/loss", "validation/loss"} <= names
    assert not any(name.startswith("test/") for name in names)
    assert (finished / "checkpoints" / "6" / "MANIFEST.json").exists()


def test_the_workdir_alone_goes_on_and_finds_itself_finished(finished, call):
    before = (finished / "metrics.jsonl").read_bytes()
    first = json.loads((finished / "result.json").read_text())["results"]
    code, out, err = call("--workdir", finished, "--beta", "2")
    assert code == 1
    assert "--beta 2: a run's settings are fixed, but for --steps" in err
    code, out, _ = call(*HELD, "--workdir", finished)
    assert code == 0
    assert (finished / "metrics.jsonl").read_bytes() == before
    assert json.loads((finished / "result.json").read_text())["results"] == first
    assert "result.json" in out


def test_sample_and_encode_without_training(finished, call, tmp_path):
    code, out, _ = call("sample", "--workdir", finished, "--out", tmp_path / "s", "--n", 3)
    assert (code, out) == (0, f"3 samples of seed 0 in {tmp_path / 's'}\n")
    assert len(list((tmp_path / "s").glob("*.png"))) == 3
    code, out, _ = call("encode", "--workdir", finished, "--out", tmp_path / "codes")
    assert code == 0
    assert out.endswith(f"of seed 0 in {tmp_path / 'codes'}\n")
    with np.load(tmp_path / "codes") as codes:  # the file that was named
        assert codes["train"].shape == (1400, 2)
        assert codes["validation"].shape == (37, 2)
        assert codes["test_labels"].shape == (360,)
        assert codes["class_names"].tolist() == list("0123456789")
    assert call("sample", "--workdir", finished)[0] == 1  # no --out


def pixels_of(*files):
    return [np.asarray(Image.open(file)) for file in files]


def test_decode_reconstruct_and_interpolate_without_training(finished, call, tmp_path):
    """Oracle: the object of `jaxae.load`, given the same images."""
    trained, out = jaxae.load(finished), tmp_path / "r"
    raw = trained.data.test.arrays["image"]
    code, said, _ = call("reconstruct", "--workdir", finished, "--out", out, "--n", 11)
    assert (code, said) == (
        0,
        f"11 images and their reconstructions, and a page of both, in {out}\n",
    )
    assert len(list(out.iterdir())) == 23
    with Image.open(out / "grid.png") as page:
        assert np.asarray(page.convert("L")).std() > 0
    back = np.uint8(np.round(255 * trained.reconstruct(raw[:11] / 16)))
    image, found = pixels_of(out / "00010-image.png", out / "00010-reconstruction.png")
    np.testing.assert_array_equal(image, np.uint8(np.round(255 * (raw[10, ..., 0] / 16))))
    assert np.abs(found.astype(int) - back[10, ..., 0]).max() <= 1

    assert call("encode", "--workdir", finished, "--out", tmp_path / "codes.npz")[0] == 0
    words = ("decode", "--workdir", finished, "--codes-from", tmp_path / "codes.npz")
    code, said, _ = call(*words, "--out", tmp_path / "d", "--n", 11)
    assert (code, said) == (0, f"11 decoded codes of 360 in {tmp_path / 'd'}\n")
    (decoded,) = pixels_of(tmp_path / "d" / "00010.png")
    assert np.abs(decoded.astype(int) - found).max() <= 1  # of the test images, too
    np.save(tmp_path / "one.npy", np.zeros((1, 2), np.float32))
    code, said, _ = call(*words[:-1], tmp_path / "one.npy", "--out", tmp_path / "one")
    assert (code, said) == (0, f"1 decoded codes of 1 in {tmp_path / 'one'}\n")

    page = tmp_path / "i.png"
    code, said, _ = call("interpolate", "--workdir", finished, "--out", page, "--n", 3)
    assert (code, said) == (0, f"3 interpolations in {page}\n")
    with Image.open(page) as drawn:
        assert np.asarray(drawn.convert("L")).std() > 0


def test_reconstruct_takes_images_from_elsewhere(finished, call, tmp_path):
    """A folder of images of any size, and files of arrays: the same image by three ways."""
    trained = jaxae.load(finished)
    grey = np.uint8(trained.data.test.arrays["image"][:2] * np.float32(255 / 16))
    (tmp_path / "pics" / "a").mkdir(parents=True)
    Image.fromarray(grey[0, ..., 0]).save(tmp_path / "pics" / "0.png")
    big = Image.fromarray(grey[1, ..., 0]).resize((40, 30))
    big.convert("RGB").save(tmp_path / "pics" / "a" / "1.png")
    np.save(tmp_path / "x.npy", grey / np.float32(255))
    np.savez(tmp_path / "x.npz", images=grey / np.float32(255), labels=[0, 1])
    found = {}
    for name, source in (("folder", f"folder:{tmp_path / 'pics'}"), ("npy", tmp_path / "x.npy"),
                         ("npz", tmp_path / "x.npz")):  # fmt: skip
        words = ("--workdir", finished, "--images-from", source)
        code, said, err = call("reconstruct", *words, "--out", tmp_path / name)
        assert code == 0, said + err
        assert len(list((tmp_path / name).iterdir())) == 5
        found[name] = pixels_of(*sorted((tmp_path / name).glob("00000-*.png")))
        assert call("interpolate", *words, "--out", tmp_path / f"{name}.png")[0] == 0
    np.testing.assert_array_equal(found["npy"][0], grey[0, ..., 0])
    for other in ("folder", "npz"):
        np.testing.assert_array_equal(found[other], found["npy"])


def test_files_that_do_not_fit_are_refused(finished, call, tmp_path):
    np.savez(tmp_path / "two.npz", a=np.zeros(3), b=np.zeros(3))
    np.save(tmp_path / "wide.npy", np.zeros((2, 9, 9, 1)))
    np.save(tmp_path / "one.npy", np.zeros((1, 8, 8, 1)))
    (tmp_path / "text.npz").write_text("no array")
    (tmp_path / "empty").mkdir()
    many = ["--out", tmp_path / "o", "--workdir", finished]
    of = lambda name: ["--images-from", tmp_path / name]
    for words, message in (
        (["decode", *many], "decode needs --codes-from"),
        (["decode", *many, "--codes-from", tmp_path / "x.npz"], "x.npz cannot be read as an .npz"),
        (["decode", *many, "--codes-from", tmp_path / "two.npz"], "the arrays a, b, and none is"),
        (["decode", *many, "--codes-from", tmp_path / "wide.npy"], r"codes of vae are \[N,2\]"),
        (["reconstruct", *many, *of("two.npz")], "a, b, and none is called images"),
        (["reconstruct", *many, *of("text.npz")], "text.npz cannot be read as an .npz or .npy"),
        (["reconstruct", *many, *of("wide.npy")], r"vae takes images \[N,8,8,1\]"),
        (["reconstruct", *many, "--images-from", "folder:no/where"], "there is no such folder"),
        (["reconstruct", *many, "--images-from", f"folder:{tmp_path / 'empty'}"], "no image of"),
        (["reconstruct", *many, "--n", 0], "--n 0: must be at least 1"),
        (["reconstruct", *many, "--codes-from", "x"], "reconstruct does not use --codes-from"),
        (["reconstruct", *many, "--latent", 3], "reconstruct does not use --latent 3"),
        (["interpolate", *many, *of("one.npy")], "needs two images, there is 1"),
        (["interpolate", *many, "--n", 10**9], "at most 1,000,000"),
        (["sample", *many, *of("one.npy")], "sample does not use --images-from"),
    ):
        code, out, err = call(*words)
        assert code == 1, words
        assert re.search(f"^error: .*{message}", err, re.M), out + err
    assert not (tmp_path / "o").exists()


def test_a_model_that_lacks_what_a_verb_needs_is_named(call, tmp_path):
    words = ["--model", "gan", *TINY[:-8], "--widths", "8", "--latent", "2", "--images", "0"]
    assert call(*words, "--workdir", tmp_path / "w")[0] == 0
    for verb in ("encode", "reconstruct", "interpolate"):
        code, _, err = call(verb, "--workdir", tmp_path / "w", "--out", tmp_path / "o")
        assert (code, "error: model gan has no encode (it has: decode, sample)" in err) == (1, True)
    np.save(tmp_path / "z.npy", np.zeros((3, 2)))
    words = ["--workdir", tmp_path / "w", "--codes-from", tmp_path / "z.npy"]
    assert call("decode", *words, "--out", tmp_path / "o")[0] == 0
    assert len(list((tmp_path / "o").iterdir())) == 3


def test_what_cannot_be_written_is_one_clear_message(finished, call, tmp_path):
    (tmp_path / "taken").write_text("a file")
    (tmp_path / "full.npz").symlink_to("/dev/full")
    for words, message in {
        ("sample", "--out", tmp_path / "taken"): "taken.*exists",
        ("sample", "--out", tmp_path / "taken" / "s"): "taken/s.*Not a directory",
        ("encode", "--out", tmp_path / "full.npz"): "No space left on device",
    }.items():
        code, out, err = call(*words, "--workdir", finished)
        assert code == 1
        assert re.search(f"^error: .*{message}.*the same command goes on", err, re.M), out + err


def test_evaluate_keeps_the_report_and_what_training_took(finished, call, tmp_path):
    shutil.copytree(finished, tmp_path / "w")
    file = tmp_path / "w" / "result.json"
    before = json.loads(file.read_text())
    assert call("evaluate", "--workdir", tmp_path / "w", "--images", "0")[0] == 0
    after = json.loads(file.read_text())
    assert after["report"] == before["report"] | {"images": 0}
    assert after["mode"] == before["mode"]
    assert 0 < after["seconds_training"] <= before["seconds_training"]
    for name in ("test", "likelihood"):
        assert after["results"][name] == before["results"][name]


def test_what_calls_for_action_is_told_and_kept(finished, call, tmp_path, monkeypatch):
    """Whatever the model: of the second of two seeds, on stderr, in result.json and the report."""
    shutil.copytree(finished, tmp_path / "w")
    build, idle = runs.build, lambda found: ["wake it"] if found["idle"] > 0.5 else []

    def advising(*words):
        run = build(*words)
        return dataclasses.replace(run, model=run.model._replace(advise=idle))

    loss = {"loss": {"mean": 1.5, "se": 0.5, "values": [1.0, 2.0]}}
    idle_seeds = {"idle": {"mean": 0.5, "se": 0.4, "values": [0.1, 0.9]}}
    numbers = {"test": loss, "whole_set": idle_seeds}
    monkeypatch.setattr(runs, "build", advising)
    monkeypatch.setattr(results, "assess", lambda run, states: numbers)
    monkeypatch.setattr(results.evaluation, "draw_all", lambda *_: [])
    code, _, err = call("evaluate", "--workdir", tmp_path / "w")
    assert (code, err) == (0, "warning: seed 1: wake it\n")
    result = json.loads((tmp_path / "w" / "result.json").read_text())
    assert result["warnings"] == ["seed 1: wake it"]
    assert "wake it" in (tmp_path / "w" / "report.html").read_text()


def test_ctrl_c_during_the_evaluation(finished, monkeypatch, capsys):
    def pressed(*_):
        raise KeyboardInterrupt

    before = (finished / "result.json").read_bytes()
    monkeypatch.setattr(results, "conclude", pressed)
    monkeypatch.setattr(sys, "argv", ["run.py", "evaluate", "--workdir", str(finished)])
    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit) as left:
        runpy.run_path(RUN, run_name="__main__")
    assert left.value.code == 130
    assert capsys.readouterr().err.splitlines()[-1].startswith("stopped: ")
    assert (finished / "result.json").read_bytes() == before


def test_names_are_shown_as_they_are(finished, capsys):
    result = json.loads((finished / "result.json").read_text())
    path = pathlib.Path("runs") / "vae[lr=0.1][red]:tada:"
    command.show(result | {"data": "folder:/x[/bold]"}, path)
    out = capsys.readouterr().out
    assert f"{path}/result.json" in out.splitlines()
    assert "folder:/x[/bold]" in out


@pytest.fixture(scope="module")
def elsewhere(finished, tmp_path_factory):
    """The run in a folder whose name few terminals can show."""
    return shutil.copytree(finished, tmp_path_factory.mktemp("a") / "vae[β=1]")


CLOSED = """
import os, sys
os.close(int(sys.argv.pop(1)))
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.parametrize("case", ["nobody reads", "no stderr"])
def test_any_terminal_will_do(elsewhere, case):
    """A real process: letters that cannot be shown, and `| true` or `2>&-`."""
    words = [RUN, "evaluate", "--workdir", elsewhere, "--images", "0"]
    reader, writer = os.pipe()
    if case == "nobody reads":
        os.close(reader)
    else:
        words = ["-c", CLOSED, "2", *words]
    before = (elsewhere / "result.json").stat().st_mtime_ns
    done = subprocess.run(
        [sys.executable, *words],
        env=os.environ | {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
        stdout=writer if case == "nobody reads" else subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (elsewhere / "result.json").stat().st_mtime_ns > before
    if case == "no stderr":
        os.close(reader)
        assert b"likelihood.elbo_nats" in done.stdout
        assert b"vae[\\u03b2=1]/report.html" in done.stdout


def test_a_list_whose_reader_has_gone():
    """`jaxae list | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, RUN, "list"], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_standard_output_that_is_closed(finished):
    words = ["-c", CLOSED, "1", RUN, "--list"]
    done = subprocess.run([sys.executable, *words], stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_error_without_stderr_still_has_its_exit_code(tmp_path):
    words = ["-c", CLOSED, "2", RUN, "--workdir", tmp_path]
    done = subprocess.run([sys.executable, *words], stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (1, b"")


def test_a_run_whose_data_has_changed_is_refused(call, tmp_path):
    for i in range(30):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8)).astype(np.uint8)
        (tmp_path / "pics").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "pics" / f"{i}.png")
    words = [*VAE, "--data", f"folder:{tmp_path / 'pics'}", "--workdir", tmp_path / "w"]
    code, out, err = call(*words)
    assert code == 0, out + err
    code, _, err = call("evaluate", *words[-2:], "--checkpoint", "best")
    assert code == 1
    assert re.search("best: folder:.*no validation images.*--validation N.*folder val/", err), err
    Image.fromarray(pixels).save(tmp_path / "pics" / "more.png")
    for again in (words, words[-2:]):
        code, _, err = call(*again)
        assert code == 1
        assert f"folder:{tmp_path / 'pics'} is no longer the data that {tmp_path / 'w'}" in err
    make_older(tmp_path / "w", ["digest", "report", "spec"], ["eval_batch"], ["validation"])
    for again in (words, words[-2:]):
        with pytest.warns(OlderConfig, match=r"w/config.json was written by an earlier version"):
            code, out, err = call("sample", *again, "--out", tmp_path / "s", "--n", "1")
        assert code == 0, out + err


def make_older(folder, fields=(), of_plan=(), of_options=()):
    """Makes a run's folder what an earlier version would have left."""
    config = json.loads((folder / "config.json").read_text()) | {"format": 1}
    for name in ("sha256", *fields):
        del config[name]
    for name in of_plan:
        del config["plan"][name]
    for name in of_options:
        del config["options"][name]
    (folder / "config.json").write_text(json.dumps(config))
    text = (folder / "metrics.jsonl").read_text()
    (folder / "metrics.jsonl").write_text(re.sub(r',"n":\d+,"crc":"[0-9a-f]+"', "", text))
    (folder / ".jaxae").unlink()
    for step in (folder / "checkpoints").glob("[0-9]*"):
        about = json.loads((step / "meta" / "metadata").read_text())
        for name in ("settings", "metrics", "refresh_owed"):
            del about["meta"][name]
        (step / "meta" / "metadata").write_text(json.dumps(about))
        (step / "MANIFEST.json").write_bytes(make_manifest(step))


def states_of(folder):
    """Every number of the newest checkpoint of a run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = runs.build(*from_folder(folder, []), None)
        with Workdir.open(folder) as workdir:
            step, states, _ = runs.restore(run, workdir)
    return step, tiny.leaves(states)


def test_a_run_is_lengthened_and_never_shortened(finished, call, tmp_path):
    for name in ("w", "model", "older"):
        shutil.copytree(finished, tmp_path / name)
    longer = [*HELD, "--steps", "10", "--decay-steps", "0"]
    assert call(*longer, "--workdir", tmp_path / "whole")[0] == 0
    wanted = states_of(tmp_path / "whole")
    assert call("--workdir", tmp_path / "w", "--steps", "10")[0] == 0
    assert call(*longer, "--workdir", tmp_path / "model")[0] == 0
    make_older(tmp_path / "older")
    with pytest.warns((OlderConfig, OlderRecords)):
        assert call("--workdir", tmp_path / "older", "--steps", "10")[0] == 0
    for name in ("w", "model", "older"):
        step, leaves = states_of(tmp_path / name)
        assert step == 10
        tiny.assert_same_bits(leaves, wanted[1])
        assert read_config(tmp_path / name)["plan"]["steps"] == 10
        assert json.loads((tmp_path / name / "result.json").read_text())["step"] == 10
    before = (tmp_path / "w" / "config.json").read_bytes()
    for words in (["--steps", "9"], [*HELD, "--steps", "4"]):
        code, _, err = call(*words, "--workdir", tmp_path / "w")
        assert code == 1
        assert re.search(r"steps=\d: the run in .* has done 10 of 10 steps; ask for more than", err)
    code, _, err = call("evaluate", "--workdir", tmp_path / "w", "--steps", "20")
    assert (code, "evaluate does not use --steps" in err) == (1, True)
    assert call("--workdir", tmp_path / "w", "--steps", "0")[0] not in (0, None)
    assert (tmp_path / "w" / "config.json").read_bytes() == before


def test_what_ends_before_the_longer_run_does_is_said(call, tmp_path):
    words = [*VAE, "--images", "0", "--decay-steps", "6", "--workdir", tmp_path]
    assert call(*words)[0] == 0
    code, _, err = call("--workdir", tmp_path, "--steps", "8")
    assert code == 0
    assert "note: decay_steps=6, a setting of its own, stays" in err


def test_a_refresh_that_an_earlier_version_left_out_is_not_passed_over(call, tmp_path):
    words = [*ACN, "--images", "0", "--refresh-every", "3", "--workdir", tmp_path]
    assert call(*words)[0] == 0
    make_older(tmp_path)
    with pytest.warns((OlderConfig, OlderRecords)):
        code, _, err = call("--workdir", tmp_path, "--steps", "8")
    assert code == 1
    assert re.search("steps=8: an earlier version ended .* at step 6 without the refresh", err)


def test_an_edited_configuration_is_refused(finished, call, tmp_path):
    shutil.copytree(finished, tmp_path / "w")
    file = tmp_path / "w" / "config.json"
    text = file.read_text()
    file.write_text(text.replace('"learning_rate": 0.001', '"learning_rate": 0.01'))
    assert file.read_text() != text
    code, _, err = call("--workdir", tmp_path / "w")
    assert code == 1
    assert re.search(f"^error: {file} is not as it was written: it was edited", err)
    # Even where the checksum was made to fit, the checkpoint knows better.
    file.write_text(text)
    with Workdir.open(tmp_path / "w") as workdir:
        workdir.change_config("config.learning_rate", 0.01)
    for words in (["--workdir", tmp_path / "w"], ["evaluate", "--workdir", tmp_path / "w"]):
        code, _, err = call(*words)
        assert code == 1
        assert re.search(f"{file} is not what step 6 was trained with", err), err


def test_somebody_elses_folder_is_left_as_it_is(call, tmp_path):
    files = {"config.json": '{"mine": 1}', "result.json": "{}", "report.html": "<p>",
             "metrics.jsonl": '{"step": 900}\n', "figures/samples.png": "picture",
             "tensorboard/events.out.tfevents.1": "events"}  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for words in (VAE, ["evaluate", *VAE], ["sample", *VAE, "--out", tmp_path / "s"]):
        code, _, err = call(*words, "--workdir", tmp_path)
        assert code == 1
        assert f"workdir {tmp_path} holds files and is not a run's folder" in err
    found = {str(f.relative_to(tmp_path)): f.read_text() for f in tmp_path.rglob("*.*")}
    assert found == files


def test_a_run_that_diverged_says_so(finished, call, tmp_path, monkeypatch):
    shutil.copytree(finished, tmp_path / "w")
    file = tmp_path / "w" / "metrics.jsonl"
    records = MetricsFile(file).read()
    file.unlink()
    for record in records:
        MetricsFile(file).write(
            record | {"train/loss": [20.0, 1e28 if record["step"] == 6 else 21]}
        )
    result = tmp_path / "w" / "result.json"
    with pytest.warns(DamagedRecords):  # they are not those of the checkpoint
        code, _, err = call("--workdir", tmp_path / "w", "--images", "0")
    assert code == 0
    says = r"the training loss ended at 1e\+28 and started at \d\d\.\d+: the run has diverged"
    assert re.search(f"^warning: {says}", err, re.M), err
    assert re.match(says, json.loads(result.read_text())["diverged"])
    assert json.loads((finished / "result.json").read_text())["diverged"] is None


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, of overflows
@pytest.mark.parametrize(
    ("what", "value"),
    [("evaluate", np.nan), ("encode", np.nan), ("sample", np.inf), ("decode", np.nan)],
)  # fmt: skip
def test_a_finite_state_that_computes_what_is_not(
    finished, call, tmp_path, monkeypatch, what, value
):
    """Whatever the final evaluation meets ends in a message, an exit code and result.json."""
    shutil.copytree(finished, tmp_path / "w")
    make = vae.make

    def broken(*words):
        model = make(*words)
        of = getattr(model, what)
        worse = lambda *a: jax.tree.map(lambda x: x * value, of(*a))
        return model._replace(**{what: worse})

    monkeypatch.setattr(vae, "make", broken)
    code, out, err = call("evaluate", "--workdir", tmp_path / "w", "--images", "20")
    assert "Traceback" not in out + err
    result = json.loads((tmp_path / "w" / "result.json").read_text())
    assert code == 1
    assert re.search("^error: step 6: the final evaluation is not finite.*has diverged", err, re.M)
    assert result["diverged"].startswith("the final evaluation is not finite")
    if what in ("sample", "encode") and not np.isfinite(value):
        code, _, err = call(what, "--workdir", tmp_path / "w", "--out", tmp_path / "out")
        assert (code, "hold NaN or infinity: the run has diverged" in err) == (1, True)


def test_samples_are_drawn_in_batches(finished, call, tmp_path, monkeypatch):
    monkeypatch.setattr(outputs, "SAMPLES", 4)
    words = ("sample", "--workdir", finished, "--out")
    assert call(*words, tmp_path / "s", "--n", 10)[0] == 0
    pictures = [(tmp_path / "s" / f"{i:05d}.png").read_bytes() for i in range(10)]
    assert len(set(pictures)) == len(list((tmp_path / "s").iterdir())) == 10
    for count in (0, -1, 10**9):
        code, _, err = call(*words, tmp_path / "t", "--n", count)
        assert (code, f"--n {count}: must be at least 1 and at most 1,000,000" in err) == (1, True)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 2**20))
    code, _, err = call(*words, tmp_path / "t", "--n", 300)
    assert code == 1
    assert re.search(r"--n 300: about \d+ MiB of pictures, and .*t has room for 1 MiB", err), err
    assert not list((tmp_path / "t").iterdir())


def test_the_best_of_none_that_was_looked_at(finished, call, tmp_path):
    shutil.copytree(finished, tmp_path / "w")
    for folder in (tmp_path / "w" / "checkpoints").glob("[0-9]*"):
        (folder / "metrics" / "metrics").write_text('{"metric": null}')
        (folder / "MANIFEST.json").write_bytes(make_manifest(folder))
    code, _, err = call("evaluate", "--workdir", tmp_path / "w", "--checkpoint", "best")
    assert code == 1
    assert re.search("no saved step was looked at.*multiple of eval_every", err), err


def test_evaluate_from_the_best_checkpoint(finished, call):
    code, out, _ = call("evaluate", *HELD, "--workdir", finished, "--checkpoint", "best")
    assert code == 0
    records = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    losses = {r["step"]: np.mean(r["validation/loss"]) for r in records if "validation/loss" in r}
    best = f"step {min(losses, key=losses.get)}"
    assert best in out
    assert f"{best}, the best on validation images" in (finished / "report.html").read_text()


def test_acn_from_end_to_end(call, tmp_path):
    """After 6 steps of 8 images most rows of the memory are noise, if nobody refreshes them."""
    code, out, _ = call(*ACN, "--test-examples", "0", "--workdir", tmp_path / "acn")
    assert code == 0
    for name in ("rate_neighbour", "rate_unordered", "rate_ordered", "order_credit"):
        assert name in out
    result = json.loads((tmp_path / "acn" / "result.json").read_text())["results"]
    test, whole = result["test"], result["whole_set"]
    rate = whole["rate_neighbour_train_memory"]["mean"]
    assert test["rate_given_neighbours"]["mean"] == pytest.approx(rate, rel=1e-4)
    # No key that stands before a VAE's bound.
    assert not {"loss", "rate"} & set(test)
    loss = test["rate_given_neighbours"]["mean"] + test["distortion"]["mean"]
    assert test["loss_given_neighbours"]["mean"] == pytest.approx(loss, rel=1e-5)
    assert re.search(r"test\.loss_given_neighbours +.* ± ", out)

    run = runs.build(*from_folder(tmp_path / "acn", []), None)
    with Workdir.open(tmp_path / "acn") as workdir:
        _, (state,), _ = runs.restore(run, workdir)
    codes, images = [], run.data.train
    for batch, mask in images.examples(500):
        codes.append(np.asarray(run.model.encode(state, batch["image"], None))[mask])
    np.testing.assert_allclose(state.extra["memory"], np.concatenate(codes), rtol=1e-4, atol=1e-5)
    figures = {f.stem for f in (tmp_path / "acn" / "figures").glob("*.png")}
    assert {"samples", "reconstructions", "interpolations", "daydream", "latent_scatter"} <= figures


def test_newsgroups_from_its_archive(call, tmp_path, monkeypatch):
    """Up to the batch: four documents cannot fill it."""
    names = [f"20news-bydate-{half}/{group}/1" for half in ("train", "test") for group in "ab"]
    path = tmp_path / "newsgroups" / "20news-bydate.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            about, text = tarfile.TarInfo(name), " ".join(f"word{i}" for i in range(2000)).encode()
            about.size = len(text)
            archive.addfile(about, io.BytesIO(text))
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest()}
    remote = download.REMOTE["newsgroups"]._replace(files=files)
    monkeypatch.setitem(download.REMOTE, "newsgroups", remote)
    words = ["--model", "hashing", "--recipe", "paper-20", "--workdir", tmp_path / "w"]
    code, _, err = call(*words, "--data-dir", tmp_path)
    assert (code, err) == (1, "error: batch_size must be in 1..2 (the images), is 100\n")


def test_list_and_print_config(call):
    out = call("--list")[1]
    for word in ("acn", "vae", "--recipe digits", "--recipe mnist", "--data tfds:"):
        assert word in out
    assert call("list")[1] == out
    usage = call()
    assert usage[0] == 0
    assert usage == call("--help")
    for verb in command.VERBS:
        assert verb == "train" or f"jaxae {verb} " in usage[1]
    code, out, _ = call("--model", "acn", "--print-config", "--latent", "3")
    assert code == 0
    assert json.loads(out)["config"]["latent"] == 3


def test_help_is_the_models_own(call):
    acn, vae = (call("--model", name, "--help")[1] for name in ("acn", "vae"))
    assert "--neighbours" in acn
    assert "--neighbours" not in vae
    assert "--iwae-k" in vae
    for flag in ("--parallel", "--seeds", "--binarise", "--steps"):
        assert flag in acn
        assert flag in vae


@pytest.mark.parametrize("model", RECIPES)
def test_no_flags_are_the_recipe(model):
    recipe = next(iter(RECIPES[model].values()))()
    assert from_flags(model, recipe, []) == recipe
    assert from_flags(model, recipe, ["--seed", "7"]).plan.seed == 7


MISTAKES = {
    "model": (["--model", "acm"], "unknown model 'acm'.*did you mean acn"),
    "recipe": (["--model", "acn", "--recipe", "mnits"], "unknown recipe 'mnits'.*mean mnist"),
    "field": (["--model", "acn", "--latnt", "3"], "(?s)latnt.*--latent"),
    "type": (["--model", "acn", "--latent", "x"], "(?s)--latent.*'x'"),
    "value": (["--model", "acn", "--latent", "0"], "latent=0 must be at least 1"),
    "contradiction": ([*VAE, "--iwae-k", "3", "--beta", "2"], "iwae_k.*beta"),
    "data set": ([*VAE, "--data", "digitz"], "unknown data set 'digitz'.*digits"),
    "batch": ([*VAE, "--batch-size", "100000"], "batch_size.*1437.*100000"),
    "devices": ([*VAE, "--devices", "1000"], "devices=1000, but there are only"),
    "share": ([*VAE, "--devices", "3"], "batch_size=8 is not divisible by the 3 devices"),
    "neighbours": ([*ACN, "--neighbours", "2000"], "neighbours=2000.*leave only 1436"),
    "likelihood": (
        [*VAE, "--likelihood", "logistic_mixture", "--data", "lines", "--binarise", "none"],
        "logistic_mixture needs data on a grid",
    ),
    "labels": ([*VAE, "--labels", "5000"], "labels"),
    "some labels": (
        ["--model", "aae", "--task", "supervised", "--labels", "100"],
        "labels=100: task=supervised reads the label of every image",
    ),
    "options": ([*VAE, "--dequantise"], "binarise.*dequantise"),
    "range": (
        [*VAE, "--binarise", "none", "--standardise"],
        "standardise: likelihood=bernoulli is of pixels in",
    ),
    "range of a loss": (["--model", "dae", "--standardise"], "standardise: loss=bce is of pixels"),
    "range of an output": (["--model", "aae", "--standardise"], "output=sigmoid is of pixels in"),
    "refresh": ([*VAE, "--refresh-every", "4"], "refresh_every=4.*nothing to refresh"),
    "batch of one": (
        ["--model", "ali", *TINY, "--widths", "8", "8", "--batch-size", "1"],
        "batch_size=1: encoder_norm=batch .*batch_size must be at least 3",
    ),
    "no labelled batch": (
        ["--model", "aae", *TINY, "--task", "semisupervised"],
        "labels_batch=0: task=semisupervised .*labels_batch must be at least 1",
    ),
    "odd batch": (
        ["--model", "acai", "--batch-size", "3"],
        "batch_size=3: method=acai interpolates pairs of images.*a multiple of 2",
    ),
    "best, untrained": ([*VAE, "--checkpoint", "best"], "train does not use --checkpoint"),
    "out, untrained": ([*VAE, "--out", "x"], "train does not use --out"),
    "count": (["encode", *VAE, "--out", "x", "--n", "3"], "encode does not use --n"),
    "no run": (["evaluate", "--model", "vae"], "holds no run"),
    "recipe alone": (["--workdir", "x", "--recipe", "mnist"], "--recipe mnist needs --model"),
    "nothing": (["--workdir", "there/is/nothing"], "there/is/nothing holds no run"),
    "no name": ([*VAE, "--workdir", ""], "--workdir: the name is empty"),
    "a file": ([*VAE, "--workdir", __file__], "test_command.py cannot be created: it is a file"),
    "memory": (
        [*VAE, "--seeds", "1000", "--widths", "65536", "65536", "65536"],
        "seeds=1000: 1000 x .* for states .* more memory .*fewer seeds",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_ends_in_one_clear_message(name, call, tmp_path):
    words, message = MISTAKES[name]
    if "--workdir" not in words:
        words = [*words, "--workdir", tmp_path / "w"]
    code, out, err = call(*words)
    assert code not in (0, None)
    assert re.search(message, out + err), out + err
    assert "Traceback" not in out + err
    assert not (tmp_path / "w" / "config.json").exists()


def test_another_configuration_in_the_same_workdir(finished, call):
    before = {f: f.read_bytes() for f in (finished / "checkpoints").rglob("*") if f.is_file()}
    code, _, err = call(*HELD, "--beta", "3", "--workdir", finished)
    assert code == 1
    assert "config.beta: 1.0 in" in err
    assert "3.0 now" in err
    assert all(f.read_bytes() == data for f, data in before.items())


OTHER_DATA = {
    "bits": (("vae", "digits"), ["--data", "folder:x"], Options(), "binarise=dynamic"),
    "written with =": (("acn", "digits"), ["--data=mnist"], Options(), "not used on mnist; to keep "
                       "it add --binarise dynamic"),
    "kept by its flag": (("vae", "digits"), ["--binarise", "dynamic", "--data", "folder:x"],
                         Options(binarise="dynamic"), None),
    "another in its place": (("vae", "digits"), ["--data", "folder:x", "--dequantise"],
                             Options(dequantise=True), "binarise=dynamic"),
    "a flag": (("gan", "digits"), ["--data", "lines"], Options(), "to keep it add --dequantise"),
    "labels": (("ali", "digits-100"), ["--data", "mnist"], Options(),
               "labels=100, labels_batch=50 for digits.*--labels 100 --labels-batch 50"),
    "the same by name": (("vae", "digits"), ["--data", "digits"],
                         Options(binarise="dynamic"), None),
    "the same through tfds": (("vae", "mnist"), ["--data", "tfds:mnist"],
                              Options(binarise="dynamic"), None),
    "the same in another folder": (("alae", "paper-celebahq256"), ["--data", "folder:mine"],
                                   Options(image_size=256), None),
    "nothing to lose": (("acn", "cifar10"), ["--data", "digits"], Options(), None),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER_DATA)
def test_options_of_a_recipe_stay_with_its_data_set(name, capsys):
    (model, recipe), flags, wanted, note = OTHER_DATA[name]
    settings = from_flags(model, RECIPES[model][recipe](), flags)
    assert settings.options == wanted
    err = capsys.readouterr().err
    assert re.search(f"^note: .*{note}", err) if note else not err


def test_a_bernoulli_of_colours_is_refused_and_of_grey_levels_remarked(call, tmp_path):
    for i in range(12):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3)).astype(np.uint8)
        for kind, image in (("rgb", pixels), ("grey", pixels[..., 0])):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.fromarray(image).save(tmp_path / kind / f"{i}.png")
    words = [*VAE, "--workdir", tmp_path / "w", "--data"]
    code, _, err = call(*words, f"folder:{tmp_path / 'rgb'}")
    assert code == 1
    told = "note: this recipe has binarise=dynamic for digits, which is not used on folder:"
    refused = "error: likelihood=bernoulli is of bits, .* have colours: take --likelihood gaussian"
    assert re.search(f"^{told}.*\n{refused}", err), err
    assert not (tmp_path / "w" / "config.json").exists()
    # A batch that the folder has not: found after the images were looked at, before training.
    for data, more, note in (
        ("rgb", ["--likelihood", "logistic_mixture"], False),
        ("rgb", ["--binarise", "dynamic"], False),
        ("grey", [], True),
        ("grey", ["--binarise", "fixed"], False),
    ):
        code, _, err = call(*words, f"folder:{tmp_path / data}", *more, "--batch-size", "500")
        assert code == 1
        assert ("note: likelihood=bernoulli takes the pixels" in err) == note, err
        assert "error: batch_size must be in 1..11" in err


def test_images_the_networks_cannot_take_and_labels_that_are_not_there(call, tmp_path):
    for i in range(12):
        pixels = np.random.default_rng(i).integers(0, 256, (6, 6)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    data = ["--data", f"folder:{tmp_path}", "--workdir", tmp_path / "w", "--batch-size", "4"]
    code, _, err = call(*VAE, *data, "--network", "conv")
    assert code == 1
    assert re.search(r"\(6, 6, 1\).*at least 8", err)
    code, _, err = call(*VAE, *data, "--labels", "4")
    assert code == 1
    assert "labels" in err


def test_a_corrupt_image_is_named(call, tmp_path):
    for i in range(12):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / f"{i}.png")
    whole = (tmp_path / "3.png").read_bytes()
    (tmp_path / "3.png").write_bytes(whole[: len(whole) // 2])
    code, _, err = call(*VAE, "--data", f"folder:{tmp_path}", "--workdir", tmp_path / "w")
    assert code == 1
    assert "3.png" in err


def test_a_loss_that_is_not_finite_and_another_try_in_the_same_folder(call, tmp_path):
    words = [*VAE, "--binarise", "none", "--likelihood", "gaussian", "--workdir", tmp_path]
    code, _, err = call(*words, "--scale", "1e-30")
    assert code == 1
    assert re.search(r"step \d+.*learning rate", err)
    # Nothing was there to lose, so other settings may take the folder over.
    code, _, err = call(*words, "--scale", "1e-29")
    assert code == 1
    assert "another configuration" not in err


def test_a_damaged_config_and_checkpoints(finished, call, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.json").write_text("{")
    code, _, err = call("--workdir", tmp_path)
    assert code == 1
    assert "config.json cannot be read: Expecting property name" in err
    whole = json.loads((finished / "config.json").read_text())
    del whole["sha256"]
    for wrong, words in (
        ({name: value for name, value in whole.items() if name != "plan"}, "KeyError: 'plan'"),
        (whole | {"config": {"latnt": 3}}, "latnt"),
        (whole | {"plan": []}, "AttributeError"),
        (whole | {"model": "acm"}, "unknown model 'acm'"),
        (whole | {"plan": {"steps": 0}}, "steps=0"),
    ):
        sealed = wrong | {"sha256": digest(wrong)}
        (tmp_path / "config.json").write_text(json.dumps(sealed))
        code, _, err = call("--workdir", tmp_path)
        assert code == 1
        assert re.search(f"^error: {tmp_path}/config.json does not hold .*{words}", err), err
    for name in ("config.json", "mean_image.npy"):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    code, _, err = call("sample", "--workdir", tmp_path, "--out", tmp_path / "s")
    assert code == 1
    assert "no checkpoint" in err


def test_damaged_checkpoints_are_named_and_the_older_one_is_used(finished, call, tmp_path):
    shutil.copytree(finished, tmp_path / "w")
    folders = (tmp_path / "w" / "checkpoints").glob("[0-9]*")
    newest, older = sorted(folders, key=lambda folder: -int(folder.name))
    words = ("sample", "--workdir", tmp_path / "w", "--out", tmp_path / "s")

    def damage(step):
        whole = (step / "meta" / "metadata").read_bytes()
        (step / "meta" / "metadata").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))

    damage(newest)
    with pytest.warns(DamagedCheckpoint, match=f"checkpoints/{newest.name} is damaged"):
        assert call(*words)[0] == 0
    damage(older)
    code, out, err = call(*words)
    assert code == 1
    assert re.search(f"(?s)^error: .*checkpoints.*step {older.name}", err), err
    assert "Traceback" not in out + err


def test_without_a_network_the_remedies_are_named(call, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXAE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("JAXAE_DATA_DIR", raising=False)
    nobody = download.REMOTE["mnist"]._replace(base="http://127.0.0.1:9/")
    monkeypatch.setitem(download.REMOTE, "mnist", nobody)
    code, _, err = call(*VAE, "--data", "mnist", "--workdir", tmp_path / "w")
    assert code == 1
    assert re.search("(?sm)^error: .*JAXAE_DATA_DIR=<folder>.*--data digits", err), err
    assert not (tmp_path / "w" / "config.json").exists()


def test_the_report_opens_without_a_network(finished):
    page = (finished / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 5
    assert not re.search(r"(src|href)=\"http", page)

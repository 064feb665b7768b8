"""Steps made of several passes, devices and threads: the same gradients; what they do a second."""

import os
import subprocess
import sys
import threading
import warnings

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode

import bgbench
import bgbench_prose.training
import bgbench_tbg.training
from bgbench_prose.data import TrainingSet
from bgbench_prose.network import Config
from bgbench_prose.recipe import Recipe
from bgbench_tbg.flow_matching import FlowMatchingBatches
from bgbench_tbg.recipe import TBGRecipe
from bgbench_training import ahead, module, throughput
from bgbench_training.ahead import Ahead
from bgbench_training.batches import Part
from bgbench_training.curves import Curves, metric_name
from bgbench_training.peaks import PEAKS, find_peak
from bgbench_training.throughput import Work, count_flops
from bgbench_verse.batches import PeptideBatches
from bgbench_verse.recipe import VerseRecipe
from bgbench_verse.training import LikelihoodTraining

SMALL = Config(channels=16, n_blocks=2, n_layers=1, head_dim=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_training_file):
    folder = tmp_path_factory.mktemp("training-parts")
    for name in ("GG", "QG"):
        make_training_file(folder, name)
    return folder


@pytest.fixture(autouse=True)
def small_prose(monkeypatch):
    monkeypatch.setitem(bgbench_prose.training.SIZES, "prose-tiny", SMALL)


def training(name, folder, **words):
    """A module in float64, whose random weights make every gradient count."""
    if name == "prose":
        recipe = Recipe(config="prose-tiny", data=str(folder), batch=8, **words)
        made = bgbench_prose.training.Training(recipe, TrainingSet(recipe.folders, SMALL, 0))
    else:
        recipe = TBGRecipe(config="tbg-tiny", data=str(folder), batch=8, **words)
        config = bgbench_tbg.training.SIZES["tbg-tiny"]
        made = bgbench_tbg.training.FlowMatchingTraining(
            recipe, FlowMatchingBatches(recipe.folders, config, 0)
        )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.network.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return made


def gradients_of_step(name, folder, monkeypatch, **words):
    """Mean over passes and devices of the gradients of step 3."""
    made = training(name, folder, device="cpu", **words)
    accumulate, devices = made.recipe.accumulate, made.recipe.devices
    for rank in range(devices):
        monkeypatch.setattr(type(made), "global_rank", rank)
        for turn in range(accumulate):
            (made.loss(3 * accumulate + turn) / (accumulate * devices)).backward()
    return [parameter.grad for parameter in made.network.parameters()]


@pytest.mark.parametrize("name", ["prose", "tbg"])
@pytest.mark.parametrize("words", [{"accumulate": 2}, {"devices": 2}, {"accumulate": 2, "devices": 4}])
def test_a_step_is_the_same_however_many_passes_and_devices_make_it(name, words, folder, monkeypatch):
    whole = gradients_of_step(name, folder, monkeypatch)
    parts = gradients_of_step(name, folder, monkeypatch, **words)
    assert any(float(gradient.abs().max()) > 1e-3 for gradient in whole)
    for one, other in zip(whole, parts, strict=True):
        assert torch.allclose(other, one, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("n_frames", "n_peptides", "count"), [(64, 8, 4), (12, 3, 12), (64, 8, 16), (5, 5, 5), (8, 1, 1)]
)
def test_parts_of_a_batch_are_all_of_it(n_frames, n_peptides, count):
    each, seen = n_frames // n_peptides, []
    for number in range(count):
        rows, peptides = Part(number, count).rows(n_frames, n_peptides)
        chosen = range(n_peptides)[peptides]
        # Row k of the part is of peptide k // (rows / peptides) of the part.
        assert (rows // each).tolist() == [k for k in chosen for _ in range(len(rows) // len(chosen))]
        seen += rows.tolist()
    assert sorted(seen) == list(range(n_frames))


def test_parts_that_do_not_fit_leave_frames_out_or_are_refused():
    rows = [Part(k, 2).rows(21 * 3, 3)[0].tolist() for k in range(2)]
    assert [len(part) for part in rows] == [30, 30]
    assert not set(rows[0]) & set(rows[1])
    with pytest.raises(bgbench.BgbenchError, match="3 peptides with 2 frames each cannot be split into 4"):
        Part(0, 4).rows(6, 3)


def test_batches_for_a_gpu_are_made_ahead_on_a_thread(monkeypatch):
    made, names = [], set()

    def make(number):
        names.add(threading.current_thread().name)
        made.append(number)
        if number == 9:
            raise bgbench.BgbenchError("number 9 is bad")
        return torch.tensor(number)

    monkeypatch.setattr(ahead, "pinned", lambda value: value)
    batches, gpu = Ahead(make), torch.device("cuda")
    assert [int(batches(k, gpu)) for k in (0, 1, 2)] == [0, 1, 2]
    assert [int(batches(k, gpu)) for k in (5, 6, 7)] == [5, 6, 7]
    # Each is made once, whatever has been made ahead.
    assert len(made) == len(set(made))
    with pytest.raises(bgbench.BgbenchError, match="number 9 is bad"):
        batches(9, gpu)
    batches.close()
    assert all(name.startswith("bgbench-batches") for name in names)
    assert int(batches(3, torch.device("cpu"))) == 3
    assert threading.current_thread().name in names


def test_peaks_by_the_names_that_drivers_give():
    for name, peak in {
        "NVIDIA A100-SXM4-80GB": "A100",
        "NVIDIA A100-PCIE-40GB": "A100-SXM4-40GB|A100-PCIE-40GB",
        "NVIDIA A10": "A10",
        "NVIDIA H100 80GB HBM3": "H100",
        "NVIDIA H100 PCIe": "H100 PCIe",
        "NVIDIA H200": "H200",
        "NVIDIA GH200 480GB": "GH200",
        "NVIDIA L40S": "L40S",
        "NVIDIA L4": "L4",
        "NVIDIA GeForce RTX 4090": "RTX 4090",
    }.items():
        assert find_peak(name) is PEAKS[peak], name
    for name in ("NVIDIA L40", "Tesla T4", "NVIDIA GeForce RTX 4090 D", "NVIDIA A100-SXM4-40GB MIG 1g.5gb"):
        assert find_peak(name) is None, name
    for peak in PEAKS.values():
        assert 0 < peak.float32 <= peak.tf32 < peak.bfloat16
        assert peak.memory > 100
    h100 = PEAKS["H100"]
    assert h100.seconds(989.4e12, 0, "bfloat16") == pytest.approx(1)
    assert h100.seconds(1.0, 3352e9, "float32") == pytest.approx(1)


def test_flops_are_three_times_those_of_the_pass(folder):
    """Gradients need two products for each of the pass, but for the first layer that of its input."""
    made = training("prose", folder)
    with FlopCounterMode(display=False) as counter:
        made.loss(0)
    forward, flops = counter.get_total_flops(), count_flops(lambda: made.loss(0), made.network.parameters())
    assert 2.5 * forward < flops <= 3 * forward
    assert all(parameter.grad is None for parameter in made.network.parameters())


def test_the_bar_and_the_curve_show_frames_and_the_share_of_the_peak(folder, tmp_path, monkeypatch, capsys):
    seen = {}

    class Spy(Curves):
        def __init__(self, *arguments):
            super().__init__(*arguments, every=2)

        def on_train_end(self, trainer, pl_module):
            seen.update(trainer.progress_bar_metrics, work=pl_module.work)

    monkeypatch.setattr(bgbench_prose.training, "Curves", Spy)
    monkeypatch.setattr(module, "device_peak", lambda device, precision: 1e12)
    bgbench_prose.training.train(options(folder, tmp_path, steps=4))
    assert seen["work"].peak == 1e12
    assert seen["work"].flops > 1000
    assert seen["% of peak"] == pytest.approx(seen["work"].share(seen["frames/s"]))
    assert "frames/s" in capsys.readouterr().err
    assert Work(flops=2e9, peak=1e12).share(frames=250) == 50
    assert metric_name("% of peak") == "percent_of_peak"
    assert metric_name("frames/s") == "frames_per_s"


def test_the_peak_is_that_of_the_precision_that_products_have(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    gpu, h100 = torch.device("cuda", 0), PEAKS["H100"]
    assert throughput.device_peak(gpu, "bfloat16") == h100.flops("bfloat16")
    assert throughput.device_peak(gpu, "float32") == h100.flops("float32")
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    assert throughput.device_peak(gpu, "float32") == h100.flops("TF32")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card of next year")
    assert throughput.device_peak(gpu, "float32") is None
    assert throughput.device_peak(torch.device("cpu"), "float32") is None


def options(folder, out, **words):
    words = {"config": "prose-tiny", "batch": 8, "steps": 2, "device": "cpu", **words}
    return {"data": str(folder), "out": str(out), **{name: str(value) for name, value in words.items()}}


@pytest.mark.slow
def test_compiled_networks_train_to_the_same_weights(folder, tmp_path, monkeypatch):
    """By the compiler's tracing alone: making kernels takes half a minute, and is its own business."""
    compiled, original = [], torch.compile

    def traced(function, **words):
        compiled.append(words)
        return original(function, backend="eager", **words)

    monkeypatch.setattr(torch, "compile", traced)
    plain = load_file(bgbench_prose.training.train(options(folder, tmp_path / "plain")))
    assert compiled == []
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="torch.compile failed")
        path = bgbench_prose.training.train(options(folder, tmp_path / "compiled", compile="true"))
    assert compiled == [{"dynamic": True}]
    weights = load_file(path)
    assert weights.keys() == plain.keys()
    assert all(torch.allclose(weights[name], plain[name], atol=1e-5) for name in plain)


def test_auto_compiles_on_a_gpu_alone():
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    compiles = {
        word: [module.compiles_on(Recipe(compile=word), device) for device in (gpu, cpu)]
        for word in ("auto", "true", "false")
    }
    assert compiles == {"auto": [True, False], "true": [True, True], "false": [False, False]}
    with pytest.raises(bgbench.BgbenchError, match="compile=maybe: 'maybe' is not one of auto, true, false"):
        Recipe.build({"compile": "maybe"})


def test_where_compiling_fails_training_goes_on_without(folder):
    made = training("prose", folder)
    loss = made.loss(0)

    def broken(*_):
        raise RuntimeError("no compiler")

    made._fast = broken
    with pytest.warns(RuntimeWarning, match=r"torch\.compile failed \(RuntimeError\); going on without it"):
        assert torch.equal(made.loss(0), loss)
    assert torch.equal(made.loss(0), loss)


def test_a_network_that_is_called_in_parts_is_not_said_to_be_compiled(folder):
    recipe = VerseRecipe(config="verse-tiny", compile="true")
    with pytest.raises(bgbench.BgbenchError, match="compile=true: verse-tiny calls its network in parts"):
        LikelihoodTraining(recipe, PeptideBatches([folder], 0))


def test_a_checkpoint_of_a_gpu_goes_on_without_one(folder, tmp_path, monkeypatch):
    """Its tensors are marked as the GPU's: whoever reads them to where they came from fails here."""
    whole = bgbench_prose.training.train(options(folder, tmp_path / "whole", steps=4, save_every=2))
    stopped, loss = tmp_path / "stopped", bgbench_prose.training.Training.loss

    def ending(self, number):
        if number == 3:
            raise KeyboardInterrupt
        return loss(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        patch.setattr(bgbench_prose.training.Training, "loss", ending)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            bgbench_prose.training.train(options(folder, stopped, steps=4, save_every=2))
    assert torch.load(stopped / "last.ckpt", "cpu", weights_only=True)["global_step"] == 2
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(stopped / "last.ckpt", weights_only=True)
    resumed = bgbench_prose.training.train(options(folder, stopped, steps=4, save_every=2))
    one, two = load_file(whole), load_file(resumed)
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.slow
def test_two_processes_train_to_the_weights_of_one(folder, tmp_path):
    """Data-parallel on the CPU: Lightning starts the second process, gradients are averaged by gloo."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    weights = []
    for devices in (1, 2):
        words = options(folder, tmp_path / str(devices), devices=devices, steps=3)
        words["lr"] = "1e-4"
        command = [sys.executable, "-m", "bgbench", "train", "prose"]
        command += [word for name, value in words.items() for word in ("--set", f"{name}={value}")]
        subprocess.run(command, check=True, capture_output=True, env=environment, timeout=300)
        weights.append(load_file(tmp_path / str(devices) / "prose-tiny.safetensors"))
    one, two = weights
    assert any(not torch.equal(one[name], two[name]) for name in one)
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)

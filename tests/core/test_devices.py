"""Which device a word names, and which one computed. A GPU is made up where one is needed."""

import re

import pytest
import torch

import bgbench
from bgbench.core import devices
from bgbench.core.calls import call_latent
from bgbench.core.devices import DeviceWatch, describe_device, driver_version, find_device
from bgbench.core.elsewhere import elsewhere
from bgbench.core.errors import BrokenContract
from bgbench.energies.batched import BatchedEnergy
from bgbench.runs.provenance import provenance
from bgbench.testing import peptide_task
from bgbench_controls import Prior


@pytest.fixture
def gpus(monkeypatch):
    """Two GPUs, and how often memory was allocated on each."""
    # It is worked out once a process, and later tests want this machine's.
    provenance()
    counts = [0, 0]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"NVIDIA {device}")
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda k: {"allocation.all.allocated": counts[k]})
    return counts


@pytest.mark.parametrize(
    ("word", "found"), [("auto", "cuda:0"), ("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("cpu", "cpu")]
)
def test_words_name_devices(word, found, gpus):
    assert find_device(word) == torch.device(found)


def test_without_a_gpu_auto_is_the_cpu():
    assert find_device() == torch.device("cpu")


@pytest.mark.parametrize("word", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cuda 0", "CPU", "meta", ""])
def test_a_misspelt_device_is_one_line(word):
    with pytest.raises(bgbench.BgbenchError, match=r"^device must be auto, cpu, cuda or cuda:K .*got '"):
        find_device(word)


def test_a_near_miss_is_pointed_out():
    with pytest.raises(bgbench.BgbenchError, match=r"got 'cudda'; did you mean 'cuda'\?$"):
        find_device("cudda")


def test_a_gpu_that_is_not_there_is_one_line(gpus):
    with pytest.raises(
        bgbench.BgbenchError, match=r"^device=cuda:2: this machine has cuda:0 to cuda:1; choose"
    ):
        find_device("cuda:2")


@pytest.mark.parametrize(
    "words",
    [
        ("run", "prior"),
        ("audit", "prior"),
        ("train", "verse"),
        ("data", "weigh", "prior", "AL"),
        ("data", "simulate", "AL"),
    ],
)
def test_every_command_refuses_a_device_in_one_line_and_exit_code_2(words, cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for device, complaint in (("gpu", "device must be auto"), ("cuda:7", "device=cuda:7: PyTorch")):
        code, out, err = cli(*words, "--device", device)
        assert (code, out) == (2, "")
        assert err.startswith(f"bgbench: {complaint}")
        assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_python_refuses_it_too(tmp_path):
    for workers in (0, 1):
        with pytest.raises(bgbench.BgbenchError, match="finds no GPU"):
            bgbench.run("prior", device=torch.device("cuda", 0), workers=workers, out=tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_engines_say_that_they_compute_on_the_cpu(gpus, cli):
    code, _, err = cli("data", "simulate", "AL", "--device", "cuda", "--engine", "openmm")
    assert code == 2
    assert err == "bgbench: device=cuda:0: engine 'openmm' computes on the CPU; choose cpu or auto\n"


def test_what_computed_is_seen_not_believed(gpus):
    watch = DeviceWatch()
    assert watch.used() == (torch.device("cpu"),)
    gpus[1] += 3
    assert watch.used() == (torch.device("cuda:1"),)
    assert DeviceWatch().used() == (torch.device("cpu"),)


@pytest.mark.parametrize(
    ("device", "declared", "leave", "precision"),
    [
        ("cuda:1", "float32", "highest", "float32"),
        ("cuda:1", "float32", "high", "TF32"),
        ("cuda:1", "TF32", "highest", "TF32"),
        ("cpu", "TF32", "highest", "float32"),
        ("cuda:1", "bfloat16", "highest", "bfloat16"),
        ("cuda:1", "float64", "high", "float64"),
        ("cpu", "float32", "high", "float32"),
        ("cpu", "float32", "medium", "bfloat16"),
    ],
)
def test_records_name_device_precision_and_driver(
    device, declared, leave, precision, gpus, monkeypatch, tmp_path
):
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: leave)
    driver = tmp_path / "version"
    driver.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 2024\nGCC 12\n")
    monkeypatch.setattr(devices, "DRIVER", driver)
    entries = describe_device(torch.device(device), declared)
    assert (entries["device"], entries["precision"]) == (device, precision)
    if device != "cpu":
        assert (entries["name"], entries["driver"]) == ("NVIDIA cuda:1", "550.54.15")


def test_without_a_driver_none_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(devices, "DRIVER", tmp_path / "nothing")
    assert driver_version() == ""


def test_a_record_says_what_computed_and_what_was_handed_over(own_references, tmp_path):
    [record] = bgbench.run(
        "prior", only=["AA"], budget=20, seeds=1, workers=0, out=tmp_path, device="cpu", tracking_uri="none"
    )
    assert record.status == "ok"
    assert record.provenance["device"] == {"device": "cpu", "task_device": "cpu", "precision": "float32"}
    assert "device" not in record.provenance["host"]


def test_doctor_says_what_runs_use(cli, gpus, monkeypatch):
    code, out, _ = cli("doctor")
    assert code == 0
    assert "runs use cuda:0 (NVIDIA cuda:0, float32" in out
    assert "2 workers" in out
    assert "energies cannot be computed on cuda:0: " in out


@pytest.mark.parametrize(("spec", "word"), [(None, "is not"), ("triton", "is")])
def test_doctor_says_whether_triton_is_there(spec, word, cli, monkeypatch):
    monkeypatch.setattr("bgbench.energies.triton_engine.find_spec", lambda name: spec)
    _, out, _ = cli("doctor")
    assert re.search(
        f"^energies are computed by numba .*; Triton, for GPUs, {word} installed$", out, re.MULTILINE
    )


@pytest.mark.parametrize(
    ("used", "words"),
    [
        ({"triton": "3.9.0"}, "are computed by Triton 3.9.0"),
        ({"without_triton": "no gcc"}, "are computed by PyTorch, without Triton (no gcc)"),
        ({}, "are computed by PyTorch, without Triton (Triton is for CUDA)"),
    ],
)
def test_doctor_says_which_engine_computed_on_a_device(used, words, cli, monkeypatch):
    describe = BatchedEnergy.describe
    monkeypatch.setattr(BatchedEnergy, "describe", lambda self: {**describe(self), **used})
    with elsewhere() as device:
        monkeypatch.setattr(devices, "find_device", lambda word="auto": device)
        code, out, _ = cli("doctor")
    assert code == 0
    assert f"energies on {device} {words}\n" in out


class CpuOnly(bgbench.AbstractEnergy):
    """A stranger's energy: NumPy, and no thought of devices."""

    def _energy(self, x):
        return torch.from_numpy((x.double().numpy() ** 2).sum((1, 2)))

    def _energy_and_force(self, x):
        return self._energy(x), torch.from_numpy(-2 * x.numpy())


@pytest.mark.parametrize("backend", ["batched", "openmm", "stranger", "analytic"])
def test_energies_and_forces_come_back_to_the_device_of_the_positions(backend):
    """numba, OpenMM and NumPy see tensors of the CPU; torch computes where the positions are."""
    from bgbench.systems.analytic import analytic_system

    system = analytic_system("analytic:correlated") if backend == "analytic" else bgbench.peptide("GG")
    energy = CpuOnly(system) if backend == "stranger" else bgbench.energy(system, backend)
    noise = torch.randn(3, *system.positions.shape, generator=torch.Generator().manual_seed(0))
    x = system.positions.float() + 0.01 * noise
    u, force = energy.energy_and_force(x)
    with elsewhere() as device:
        there = x.to(device).requires_grad_()
        u_there, force_there = energy.energy_and_force(there)
        assert u_there.device == force_there.device == device
        (gradient,) = torch.autograd.grad(energy.energy(there).sum(), there)
        assert gradient.device == device
    assert torch.allclose(u_there.cpu(), u, atol=1e-3)
    for found in (force_there.cpu(), -gradient.cpu()):
        assert torch.allclose(found.to(force), force, atol=1e-2, rtol=1e-4)


def test_compiled_kernels_get_tensors_of_the_cpu_and_nothing_else():
    system = bgbench.peptide("GG")
    compiled = BatchedEnergy(system, "compiled")
    x = system.positions[None].float()
    expected = compiled.energy(x)
    with elsewhere() as device:
        assert torch.allclose(compiled.energy(x.to(device)).cpu(), expected, atol=1e-2)
    assert compiled.describe()["engines"] == {"compiled": 1, "eager": 1}


def test_latent_is_checked_and_moved():
    class Odd(Prior):
        def latent(self, task, x):
            z, log_det = super().latent(task, x)
            return z, log_det[:, None]

    task = peptide_task("GG")
    x = Prior().sample(task, 3).x
    with pytest.raises(BrokenContract, match=r"Odd\.latent returned shapes \(3, 17, 3\) and \(3, 1\)"):
        call_latent(Odd(), task, x)

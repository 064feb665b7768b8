"""Losses, looks at validation peptides and fine-tuning on a device that is not the CPU, and bfloat16."""

from pathlib import Path
from types import SimpleNamespace

import lightning
import pytest
import torch
from safetensors.torch import load_file

import bgbench
import bgbench_prose.training
import bgbench_tbg.training
import bgbench_verse.training
from bgbench.core.elsewhere import elsewhere
from bgbench.testing import peptide_task
from bgbench_prose import ProseSampler
from bgbench_prose.data import TrainingSet
from bgbench_prose.network import Config, Prose, tokens
from bgbench_prose.recipe import Recipe
from bgbench_prose.validation import Validation
from bgbench_tbg.flow_matching import FlowMatchingBatches
from bgbench_tbg.recipe import TBGRecipe
from bgbench_tbg.validation import FlowMatchingValidation
from bgbench_training.curves import Curves
from bgbench_training.devices import moved
from bgbench_training.loop import trainer
from bgbench_verse import VerseSampler
from bgbench_verse.batches import PeptideBatches
from bgbench_verse.recipe import VerseRecipe
from bgbench_verse.validation import LikelihoodValidation
from bgbench_verse.weights import TrainedVerse

SMALL = Config(channels=16, n_blocks=2, n_layers=1, head_dim=8)
MIXED = "expected all tensors to be on the same device"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_training_file):
    folder = tmp_path_factory.mktemp("training-devices")
    for name in ("GG", "QG"):
        make_training_file(folder, name)
    return folder


@pytest.fixture(scope="module")
def validation(tmp_path_factory, make_training_file):
    folder = tmp_path_factory.mktemp("validation-devices")
    make_training_file(folder, "GQ")
    return folder


@pytest.fixture(params=["prose", "tbg", "verse"])
def training(request, folder, monkeypatch):
    """A module in training, whose random weights move everything, and the Python module of its loss."""
    monkeypatch.setitem(bgbench_prose.training.SIZES, "prose-tiny", SMALL)
    if request.param == "prose":
        recipe = Recipe(config="prose-tiny", data=str(folder), batch=8)
        data = TrainingSet(recipe.folders, SMALL, 0)
        made = bgbench_prose.training.Training(recipe, data), bgbench_prose.training
    elif request.param == "tbg":
        recipe = TBGRecipe(config="tbg-tiny", data=str(folder), batch=8)
        field_data = FlowMatchingBatches(recipe.folders, bgbench_tbg.training.SIZES["tbg-tiny"], 0)
        made = bgbench_tbg.training.FlowMatchingTraining(recipe, field_data), bgbench_tbg.training
    else:
        recipe = VerseRecipe(config="verse-tiny", data=str(folder), batch=8, energies=0.5)
        peptides = PeptideBatches(recipe.folders, 0)
        made = bgbench_verse.training.LikelihoodTraining(recipe, peptides), bgbench_verse.training
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made[0].network.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return made


def loss_and_gradients(module):
    module.network.zero_grad()
    loss = module.loss(3)
    loss.backward()
    return loss, [parameter.grad for parameter in module.network.parameters()]


def test_losses_and_their_gradients_are_the_same_on_any_device(training):
    module, _ = training
    loss, gradients = loss_and_gradients(module)
    gradients = [gradient.clone() for gradient in gradients]
    with elsewhere() as device:
        module.to(device)
        there, gradients_there = loss_and_gradients(module)
        assert there.device == device
        assert all(gradient.device == device for gradient in gradients_there)
        module.average.update_parameters(module.network)
        assert {parameter.device for parameter in module.averaged.parameters()} == {device}
    assert torch.allclose(there.cpu(), loss, rtol=1e-5)
    for gradient, other in zip(gradients, gradients_there, strict=True):
        assert torch.allclose(other.cpu(), gradient, rtol=1e-3, atol=1e-5)


def test_a_batch_that_is_left_on_the_cpu_fails(training, monkeypatch):
    """What happened to every trained sampler on a GPU before batches were moved."""
    module, source = training
    monkeypatch.setattr(source, "moved", lambda batch, device: batch)
    assert torch.isfinite(module.loss(3))
    with elsewhere() as device, pytest.raises(RuntimeError, match=MIXED):
        module.to(device).loss(3)


def test_looks_at_validation_peptides_follow_the_network(training, validation, monkeypatch):
    module, source = training
    if source is bgbench_prose.training:
        monkeypatch.setattr("bgbench_prose.validation.DRAWS", 4)
        look = Validation(validation, SMALL).look
    elif source is bgbench_tbg.training:
        look = FlowMatchingValidation(validation, module.network.config).evaluate
    else:
        monkeypatch.setattr("bgbench_verse.validation.N_SAMPLES", 4)
        look = LikelihoodValidation(validation, module.data).evaluate
    here = look(module.averaged.eval())
    with elsewhere() as device:
        there = look(module.averaged.to(device))
    assert there.keys() == here.keys()
    assert there == pytest.approx(here, rel=1e-2)


def small_sampler(name, folder):
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(0)
        if name == "prose":
            return ProseSampler(Prose(SMALL))
        data = PeptideBatches([folder], 0)
        recipe = VerseRecipe(config="verse-tiny")
        net = bgbench_verse.training.Verse(recipe.network_config(len(data.vocabulary)))
        return VerseSampler(TrainedVerse(net, data.vocabulary, data.table))


@pytest.mark.parametrize("name", ["prose", "verse"])
def test_fine_tuning_and_saving_work_on_any_device(name, folder, tmp_path):
    sampler = small_sampler(name, folder)
    notes = {"system": "GG", "evaluations": 4, "hours": 0.0}
    tuning = bgbench.Tuning(steps=2, batch=3)
    x = sampler.sample(peptide_task("GG"), 4).x
    sampler.finetuned(peptide_task("GG"), x, tuning).save(tmp_path / "here.safetensors", notes)
    with elsewhere() as device:
        task = bgbench.Task(**{**vars(peptide_task("GG")), "device": device})
        sampler.finetuned(task, x, tuning).save(tmp_path / "there.safetensors", notes)
    here, there = (load_file(tmp_path / f"{place}.safetensors") for place in ("here", "there"))
    assert all(torch.allclose(there[name], here[name], atol=1e-4) for name in here)


def test_inside_autocast_log_determinants_stay_in_float32():
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(0)
        flow = Prose(SMALL)
        for block in flow.blocks:
            torch.nn.init.normal_(block.proj_out.weight, std=0.1)
    system = bgbench.peptide("GG")
    t = tokens([system.atoms], SMALL)
    x = torch.randn(5, system.n_atoms, 3, generator=torch.Generator().manual_seed(0))
    z, log_det = flow(x, t)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough_z, rough_log_det = flow(x, t)
    assert rough_z.dtype == rough_log_det.dtype == torch.float32
    # a has all digits of float32: what bfloat16 rounded is its input alone.
    assert not torch.equal(rough_log_det, rough_log_det.bfloat16().float())
    assert torch.allclose(rough_log_det, log_det, atol=0.5)
    assert torch.allclose(rough_z, z, atol=0.2)


def test_training_in_bfloat16_ends_near_training_in_float32(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(bgbench_prose.training.SIZES, "prose-tiny", SMALL)
    words = {"config": "prose-tiny", "data": str(folder), "batch": "8", "steps": "3", "device": "cpu"}
    states = []
    for precision in ("float32", "bfloat16"):
        path = bgbench_prose.training.train(
            {**words, "precision": precision, "out": str(tmp_path / precision)}
        )
        states.append(load_file(path))
    one, two = states
    assert {tensor.dtype for tensor in two.values()} == {torch.float32}
    assert any(not torch.equal(one[name], two[name]) for name in one)
    assert all(torch.allclose(one[name], two[name], atol=1e-2) for name in one)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ("gpu", [0], "32-true")),
        ({"device": "cuda:1", "precision": "bfloat16"}, ("gpu", [1], "bf16-mixed")),
        ({"device": "cuda", "devices": 2}, ("gpu", 2, "32-true")),
        ({"device": "cpu"}, ("cpu", 1, "32-true")),
    ],
)
def test_lightning_gets_the_device_that_was_asked_for(options, expected, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(lightning, "Trainer", lambda **words: SimpleNamespace(**words))
    recipe = Recipe(config="prose-tiny", out=str(tmp_path), **options)
    made = trainer(recipe, Curves(recipe, None))
    assert (made.accelerator, made.devices, made.precision) == expected


def test_wrong_devices_and_precisions_say_so():
    for build, words, complaint in (
        (Recipe, {"device": "cuda"}, "--set device=cuda: PyTorch .* finds no GPU"),
        (Recipe, {"device": "gpu"}, "--set device must be auto, cpu, cuda or cuda:K"),
        (TBGRecipe, {"precision": "half"}, "'half' is not one of float32, bfloat16"),
        (VerseRecipe, {"precision": "bfloat16"}, "precision"),
    ):
        with pytest.raises(bgbench.BgbenchError, match=complaint):
            build.build(words)


def test_one_gpu_is_not_several(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(bgbench.BgbenchError, match="device=cuda:1 is one GPU, and devices=2"):
        Recipe(config="prose-tiny", device="cuda:1", devices=2)


def test_values_are_moved_at_any_depth_and_stay_what_they_are():
    t = tokens([bgbench.peptide("GG").atoms], SMALL)
    with elsewhere() as device:
        x, there, name = moved((torch.ones(2), t, "GG"), device)
        assert (x.device, there.mask.device, there.orders.device, name) == (device,) * 3 + ("GG",)
    assert moved(t, torch.device("cpu")).mask is t.mask
    assert moved(Path("x"), torch.device("cpu")) == Path("x")

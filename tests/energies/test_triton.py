"""The Triton engine: its kernels in Triton's interpreter, and compiled for a GPU that is not there."""

import ast
import doctest
import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bgbench import BgbenchError, peptide
from bgbench.core.elsewhere import elsewhere
from bgbench.energies import triton_cost, triton_engine
from bgbench.energies.batched import BatchedEnergy
from bgbench.energies.eager import EagerEngine
from bgbench.energies.openmm import OpenMMEnergy, openmm_system
from bgbench.energies.parameters import BornTerms, Parameters, read_parameters
from bgbench.energies.triton_cost import OPERATIONS, cost_of_forces
from bgbench.energies.triton_engine import has_triton

SOURCES = Path(triton_engine.__file__).parent
needs_triton = pytest.mark.skipif(not has_triton(), reason="triton is not installed")


INTERPRETER = """
import numpy
import triton.runtime.interpreter as interpreter

numpy.seterr(all="ignore")  # A GPU says nothing of infinities either.

# Triton's functions are put in the place of its compiler's before each call of a function, which takes more
# than half of the time. In a process that only interprets they may stay there.
class Stays:
    def restore(self):
        pass

replace_functions, modules = interpreter._patch_lang, set()

def replace_once(function):
    if id(function.__globals__) not in modules:
        modules.add(id(function.__globals__))
        replace_functions(function)
    return Stays()

interpreter._patch_lang = replace_once
"""


def interpret(tmp_path, script, **values):
    """What a script makes of `values` in a process of its own, in which Triton interprets.

    The environment is read when triton is imported, which this process may have done.
    """
    torch.save(values, tmp_path / "in.pt")
    frame = (
        f"import torch\n{INTERPRETER}\n"
        f"values = torch.load({str(tmp_path / 'in.pt')!r}, weights_only=False)\n"
        f"{script}\n"
        f"torch.save(result, {str(tmp_path / 'out.pt')!r})\n"
    )
    run(frame, {"TRITON_INTERPRET": "1"})
    return torch.load(tmp_path / "out.pt", weights_only=False)


def run(script, environment):
    """What a script prints in a process of its own; warnings are errors there too."""
    command = [sys.executable, "-W", "error", "-c", script]
    environment = {**os.environ, **environment}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def five_atoms(rng, born=True, cutoff=np.inf):
    """Parameters of a chain of five atoms with every kind of term, which the kernels take in a moment."""
    n, pairs = 5, 10
    linked = np.zeros(pairs, bool)
    linked[[0, 1, 4, 7]] = True
    index = lambda *rows: np.array(rows, np.int64)  # noqa: E731
    terms = BornTerms(
        offset_radius=rng.uniform(0.1, 0.15, n),
        scaled_radius=rng.uniform(0.07, 0.12, n),
        radius=rng.uniform(0.16, 0.2, n),
        self_energy=rng.uniform(-20, -5, n),
        surface=rng.uniform(1e-6, 1e-5, n),
        tanh=np.array([1.0, -0.8, 4.85]),
        charge=rng.normal(0, 0.4, n),
        pair_scale=-137.0,
        shift=0.5,
        cutoff=cutoff,
    )
    return Parameters(
        n_atoms=n,
        masses=np.ones(n),
        bonds=index((0, 1), (1, 2), (3, 2), (3, 4)),
        bond_values=np.column_stack([rng.uniform(0.1, 0.15, 4), rng.uniform(1e5, 3e5, 4)]),
        angles=index((0, 1, 2), (1, 2, 3), (4, 3, 2)),
        angle_values=np.column_stack([rng.uniform(1.6, 2.1, 3), rng.uniform(300, 600, 3)]),
        torsions=index((0, 1, 2, 3), (4, 3, 2, 1), (2, 0, 4, 1)),
        torsion_coefficients=rng.normal(0, 5, (3, 12)),
        torsion_constant=1.25,
        pair_charge=np.where(linked, 0, rng.normal(0, 20, pairs)),
        pair_c12=np.where(linked, 0, rng.uniform(1e-7, 1e-6, pairs)),
        pair_c6=np.where(linked, 0, rng.uniform(1e-4, 1e-3, pairs)),
        exceptions=index((0, 3), (4, 1)),
        exception_values=np.column_stack([rng.normal(0, 10, 2), [5e-7] * 2, [5e-4] * 2]),
        cutoff=cutoff,
        reaction_k=0.02 if np.isfinite(cutoff) else 0.0,
        reaction_c=0.7 if np.isfinite(cutoff) else 0.0,
        born=terms if born else None,
    )


@dataclass(frozen=True)
class Answer:
    """Conformers, what the kernels made of them, and what they ought to have."""

    x: torch.Tensor
    u: torch.Tensor
    force: torch.Tensor
    expected: torch.Tensor
    push: torch.Tensor

    def force_error(self):
        """Of each conformer, in lengths of its force."""
        return (self.force - self.push).flatten(1).norm(dim=1) / self.push.flatten(1).norm(dim=1)


TINY = """
from bgbench.energies.triton_engine import TritonEngine
tiny = {}
for name, (parameters, x, block) in values["cases"].items():
    engine = TritonEngine(parameters, block)
    assert engine.is_interpreted and engine.computes(x) and not engine.computes(x.double())
    tiny[name] = engine.energy_and_force(x)
parameters, x, block = values["cases"]["all terms"]
tiny["energy alone"] = TritonEngine(parameters, block).energy(x[:5])
"""

PEPTIDE = """
from bgbench import peptide
from bgbench.energies.batched import BatchedEnergy
energy = BatchedEnergy(peptide(values["sequence"]), "triton")
u, force = energy.energy_and_force(values["x"])
result = {"u": u, "force": force, "record": dict(energy.describe())}
"""


def tiny_cases():
    """Five atoms are no multiple of a tile's rows, and 19 conformers none of a block; atoms may overlap."""
    rng = np.random.default_rng(0)
    x = np.array([[0, 0, 0], [0.13, 0, 0], [0.18, 0.12, 0], [0.31, 0.13, 0.02], [0.36, 0.2, 0.12]])
    x = torch.tensor(x + rng.normal(0, 0.02, (19, 5, 3)))
    x[3] *= 5
    overlapping = x[:3].clone()
    overlapping[0, 1] = overlapping[0, 3]
    overlapping[1] = 0.0
    broken = x[:2].clone()
    broken[0, 0], broken[1, 2, 1] = torch.nan, torch.inf
    empty = {
        "bonds": np.zeros((0, 2), np.int64),
        "bond_values": np.zeros((0, 0)),
        "angles": np.zeros((0, 3), np.int64),
        "angle_values": np.zeros((0, 0)),
        "torsions": np.zeros((0, 4), np.int64),
        "torsion_coefficients": np.zeros((0, 12)),
        "exceptions": np.zeros((0, 2), np.int64),
        "exception_values": np.zeros((0, 3)),
    }
    return {
        "all terms": (five_atoms(rng), x.float(), 16),
        "vacuum": (five_atoms(rng, born=False), x[:7].float(), 32),
        "cut off": (five_atoms(rng, cutoff=0.35), x[:7].float(), 32),
        "pairs alone": (replace(five_atoms(rng, born=False), **empty), x[:4].float(), 32),
        "overlapping": (five_atoms(rng), overlapping.float(), 32),
        "broken": (five_atoms(rng), broken.float(), 32),
        "none": (five_atoms(rng), x[:0].float(), 32),
    }


def shaken(sequence):
    """At which it was made, shaken, and stretched beyond the cut-off of 2 nm."""
    system = peptide(sequence)
    noise = torch.randn(5, system.n_atoms, 3, generator=torch.Generator().manual_seed(0))
    x = system.positions.float() + torch.tensor([0.003, 0.01, 0.02, 0.03, 0.0])[:, None, None] * noise
    x[4] *= 4.0
    return x


def compare_with_openmm(sequence, x, result):
    """Judged by the Reference platform."""
    expected, push = OpenMMEnergy(peptide(sequence), "Reference").energy_and_force(x)
    answer = Answer(x, result["u"], result["force"], expected, push)
    assert ((answer.u - expected).abs() <= torch.clamp(1e-5 * expected.abs(), min=1e-2)).all()
    assert (answer.u[:2] - expected[:2]).abs().max() < 1e-2
    assert answer.force_error().max() < 1e-4
    assert result["record"]["engines"] == {"triton": 5}
    assert "triton" in result["record"]


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    """All that the fast tests need of the interpreter, from one process: the answers by name, and of GG."""
    cases, x = tiny_cases(), shaken("GG")
    script = f"{TINY}\n{PEPTIDE}\nresult['tiny'] = tiny"
    result = interpret(tmp_path_factory.mktemp("triton"), script, cases=cases, sequence="GG", x=x)
    answers = {}
    for name, (parameters, positions, _) in cases.items():
        expected = EagerEngine(parameters).energy_and_force(positions.double())
        answers[name] = Answer(positions, *result["tiny"][name], *expected)
    return answers, result


@needs_triton
@pytest.mark.parametrize("name", ["all terms", "vacuum", "cut off", "pairs alone"])
def test_kernels_in_the_interpreter_equal_the_eager_engine(name, interpreted):
    answer = interpreted[0][name]
    assert (answer.u.dtype, answer.force.dtype) == (torch.float64, torch.float32)
    assert answer.force.is_contiguous()
    torch.testing.assert_close(answer.u, answer.expected, rtol=1e-6, atol=2e-3)
    assert answer.force_error().max() < 1e-4


@needs_triton
def test_the_cut_off_case_has_pairs_on_both_sides():
    """Or it would say nothing of the cut-off."""
    _, x, _ = tiny_cases()["cut off"]
    distances = torch.cat([torch.pdist(frame) for frame in x])
    assert 0.2 < float((distances < 0.35).float().mean()) < 0.9


@needs_triton
def test_energy_alone_is_that_with_forces(interpreted):
    answers, result = interpreted
    alone = result["tiny"]["energy alone"]
    torch.testing.assert_close(alone, answers["all terms"].u[:5], rtol=1e-6, atol=1e-4)


@needs_triton
def test_overlapping_atoms_have_finite_energies_and_forces_in_the_interpreter(interpreted):
    answer = interpreted[0]["overlapping"]
    assert torch.isfinite(answer.force).all()
    torch.testing.assert_close(answer.u, answer.expected, rtol=1e-5, atol=2e-3)


@needs_triton
def test_missing_atoms_have_no_finite_energy_in_the_interpreter(interpreted):
    assert not torch.isfinite(interpreted[0]["broken"].u).any()


@needs_triton
def test_no_conformers_are_no_energies_in_the_interpreter(interpreted):
    answer = interpreted[0]["none"]
    assert (answer.u.shape, answer.force.shape) == ((0,), (0, 5, 3))


@needs_triton
def test_a_dipeptide_in_the_interpreter_equals_openmm(interpreted):
    compare_with_openmm("GG", shaken("GG"), interpreted[1])


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("sequence", ["PCA", "WHD", "ARIP"])
def test_peptides_in_the_interpreter_equal_openmm(tmp_path, sequence):
    x = shaken(sequence)
    compare_with_openmm(sequence, x, interpret(tmp_path, PEPTIDE, sequence=sequence, x=x))


COMPILE = """
import json
import sys
import torch
from bgbench import peptide
from bgbench.energies.batched import BatchedEnergy
from bgbench.energies.triton_engine import TritonEngine

system = peptide("GG")
parameters = BatchedEnergy(system).parameters
assert "triton.language" not in sys.modules

from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

class Absent:
    \"\"\"A driver for an H100 that is not there.\"\"\"
    def get_current_device(self):
        return 0
    def get_current_stream(self, device):
        return 0
    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)

driver.set_active(Absent())
launch, kernels = JITFunction.run, {}

def compile_only(self, *arguments, grid, warmup, **options):
    kernel = kernels[self.fn.__name__] = launch(self, *arguments, grid=grid, warmup=True, **options)
    return kernel

JITFunction.run = compile_only

engine = TritonEngine(parameters)
assert not engine.is_interpreted and not engine.computes(system.positions.float()[None])
engine.energy_and_force(system.positions.float().repeat(200, 1, 1))
print(json.dumps({name: [kernel.metadata.shared, len(kernel.asm["cubin"]), kernel.asm["ttgir"]]
                  for name, kernel in kernels.items()}))
"""


@needs_triton
def test_kernels_compile_for_an_h100_and_exchange_nothing_between_threads(tmp_path):
    """By way of the engine's own launches, before which bgbench has not imported triton.

    Shared memory would be tiles on their way between threads.
    """
    kernels = json.loads(run(COMPILE, {"TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}))
    assert list(kernels) == ["bonded", "pairs", "solvation", "chain"]
    for name, (shared, size, code) in kernels.items():
        assert size > 0
        assert shared == 0, f"{name} uses {shared} bytes of shared memory"
        assert "convert_layout" not in code, f"{name} exchanges tiles between threads"
        assert code.count("#ttg.blocked<") == 1


def test_without_triton_the_engine_says_what_to_install(alanine, monkeypatch):
    monkeypatch.setattr(triton_engine, "find_spec", lambda name: None)
    with pytest.raises(
        BgbenchError, match=r"^engine triton needs the package triton, which is not .*bgbench\[gpu\]"
    ):
        BatchedEnergy(alanine, "triton")


def test_on_another_device_auto_is_eager(alanine):
    energy = BatchedEnergy(alanine)
    x = alanine.positions[None].float()
    expected = energy.energy(x)
    with elsewhere() as device:
        u = energy.energy(x.to(device))
        assert u.device == device
    torch.testing.assert_close(u.cpu(), expected)
    assert energy.describe()["engines"] == {"eager": 2}


@needs_triton
def test_triton_by_name_is_eager_on_a_cpu_and_says_so(alanine):
    energy = BatchedEnergy(alanine, "triton")
    energy.prepare(10_000)
    u = energy.energy(alanine.positions[None])
    assert torch.equal(u, BatchedEnergy(alanine, "eager").energy(alanine.positions[None]))
    assert energy.describe()["engines"] == {"eager": 1}


class Cuda(torch.Tensor):
    """A tensor of the CPU that claims a GPU."""

    is_cuda = True


class Engine:
    """In place of the Triton engine, or of its failure."""

    version = "0"

    def __init__(self, parameters, error=None):
        self._eager, self._error = EagerEngine(parameters), error

    def computes(self, x):
        return x.is_cuda and x.dtype == torch.float32

    def energy_and_force(self, x):
        if self._error is not None:
            raise self._error
        return self._eager.energy_and_force(x)

    def energy(self, x):
        return self._eager.energy(x)


def test_auto_computes_on_cuda_by_triton_in_float32(alanine, monkeypatch):
    monkeypatch.setattr("bgbench.energies.triton_engine.TritonEngine", Engine)
    energy = BatchedEnergy(alanine)
    x = alanine.positions[None].as_subclass(Cuda)
    energy._energy(x)
    energy._energy(x[:0].float())
    energy._energy(x.float())
    assert energy.describe()["engines"] == {"eager": 1, "triton": 1}
    assert energy.describe()["triton"] == "0"


def test_auto_goes_on_without_triton_where_it_fails_and_the_record_says_why(alanine, monkeypatch):
    tried = []

    def fail(parameters):
        tried.append(1)
        return Engine(parameters, RuntimeError("Failed to find C compiler.\nPlease specify via CC"))

    monkeypatch.setattr("bgbench.energies.triton_engine.TritonEngine", fail)
    energy = BatchedEnergy(alanine)
    x = alanine.positions[None].float().as_subclass(Cuda)
    for _ in range(2):
        energy._energy(x)
    record = energy.describe()
    assert len(tried) == 1
    assert record["engines"] == {"eager": 2}
    assert record["without_triton"] == "RuntimeError: Failed to find C compiler."


def test_a_full_gpu_is_no_reason_to_go_on_without_triton(alanine, monkeypatch):
    error = torch.OutOfMemoryError("CUDA out of memory")
    monkeypatch.setattr(
        "bgbench.energies.triton_engine.TritonEngine", lambda parameters: Engine(parameters, error)
    )
    with pytest.raises(torch.OutOfMemoryError):
        BatchedEnergy(alanine)._energy(alanine.positions[None].float().as_subclass(Cuda))


class Count:
    """Operations in the source of the kernels, without those of addresses."""

    free = ("SMALLEST", "tiny", "n")
    addresses = ("row", "entry")
    loads = ("tl.load", "position", "tl.static_range", "window")

    def __init__(self):
        self.functions = {}
        for part in ("lanes", "pairs", "bonded"):
            tree = ast.parse((SOURCES / f"triton_{part}.py").read_text())
            self.functions |= {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}

    def of_loops(self, name):
        return [self.of(*node.body) for node in self.functions[name].body if isinstance(node, ast.For)]

    def of(self, *nodes):
        return sum(map(self._of, nodes))

    def _of(self, node):
        if self._is_free(node):
            return 0
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in self.addresses:
            return 0
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in self.loads:
                return 0
            if name == "between":
                return 3
            inner = self.functions.get(name)
            return (1 if inner is None else self.of(*inner.body)) + self.of(*node.args)
        if isinstance(node, ast.For):
            return 5 * self.of(*node.body)
        own = isinstance(node, (ast.BinOp, ast.AugAssign, ast.Compare, ast.UnaryOp))
        return own + self.of(*ast.iter_child_nodes(node))

    def _is_free(self, node):
        if isinstance(node, ast.BinOp):
            return self._is_free(node.left) and self._is_free(node.right)
        if isinstance(node, ast.UnaryOp):
            return self._is_free(node.operand)
        return isinstance(node, ast.Constant) or (isinstance(node, ast.Name) and node.id in self.free)


def test_operations_are_those_of_the_source():
    count = Count()
    found = {name: count.of_loops(name)[0] for name in ("pairs", "solvation", "chain")}
    terms = ("bond", "exception", "angle", "torsion")
    assert found | dict(zip(terms, count.of_loops("bonded"), strict=True)) == OPERATIONS


def test_examples_of_cost_are_right():
    outcome = doctest.testmod(triton_cost)
    assert outcome.attempted > 0
    assert outcome.failed == 0


def test_cost_grows_with_pairs_and_falls_without_born():
    small, large = (read_parameters(openmm_system(peptide(word))) for word in ("AA", "ARIP"))
    ratio = cost_of_forces(large).operations / cost_of_forces(small).operations
    assert 5 < ratio < (70 / 23) ** 2
    vacuum = cost_of_forces(replace(small, born=None))
    assert cost_of_forces(small).operations - vacuum.operations == 23**2 * 165
    assert cost_of_forces(small).bytes - vacuum.bytes == 23 * 104
    assert cost_of_forces(small).limit(67e12, 3.35e12) > 5e6

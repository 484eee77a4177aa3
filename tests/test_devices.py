"""`companion.devices`: what is decided where, with hardware that is only pretended."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from companion.devices import evaluating, find_device, find_precision, global_generators, seeded


@pytest.fixture
def machine(monkeypatch):
    """Pretends a machine."""

    def pretend(*, cuda: bool = False, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return pretend


@pytest.mark.parametrize(
    ("hardware", "best"),
    [({}, "cpu"), ({"mps": True}, "mps"), ({"cuda": True}, "cuda:1"), ({"cuda": True, "mps": True}, "cuda:1")],
)
def test_the_best_device_is_found(machine, hardware, best):
    machine(**hardware)
    assert find_device() == torch.device(best)
    assert find_device(None, "cpu") == torch.device(best)


def test_a_wish_and_the_models_own_gpu_come_first(machine):
    machine(cuda=True)
    assert find_device("cpu") == torch.device("cpu")
    assert find_device("cpu", "cuda:3") == torch.device("cpu")
    assert find_device("cuda") == torch.device("cuda:1")
    assert find_device("cuda:0") == torch.device("cuda:0")
    assert find_device(None, "cuda:3") == torch.device("cuda:3")
    assert find_device(None, torch.device("cuda")) == torch.device("cuda:1")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
def test_a_precision_asked_for_is_used(precision, device):
    assert find_precision(precision, torch.device(device)) == precision


@pytest.mark.parametrize(
    ("native", "emulated", "precision"),
    [(True, True, "bfloat16"), (False, True, "float32"), (False, False, "float32")],  # A100, T4, older
)
def test_auto_on_cuda_wants_bfloat16_in_hardware(monkeypatch, native, emulated, precision):
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: emulated if including_emulation else native
    )
    assert find_precision("auto", torch.device("cuda", 0)) == precision


@pytest.mark.parametrize(("amx", "precision"), [(True, "bfloat16"), (False, "float32")])
def test_auto_on_a_cpu_wants_amx(monkeypatch, amx, precision):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert find_precision("auto", torch.device("cpu")) == precision
    assert find_precision("auto", torch.device("mps")) == "float32"


def test_auto_survives_a_torch_that_does_not_say(monkeypatch):
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    assert find_precision("auto", torch.device("cpu")) == "float32"


def test_this_machine_answers_as_its_flags_do():
    try:
        flags = open("/proc/cpuinfo").read().split()  # noqa: SIM115
    except OSError:
        pytest.skip("no /proc/cpuinfo")
    assert (find_precision("auto", torch.device("cpu")) == "bfloat16") == ("amx_tile" in flags)


def test_the_generators_are_those_that_code_draws_from(device):
    generators = global_generators(find_device(device))
    states = [generator.get_state() for generator in generators]
    first = torch.randn(3), torch.randn(3, device=device)
    for generator, state in zip(generators, states, strict=True):
        generator.set_state(state)
    again = torch.randn(3), torch.randn(3, device=device)
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a, b)


def test_a_generator_decides_what_is_drawn_inside_and_nothing_outside():
    def draw(generator: torch.Generator | None) -> torch.Tensor:
        with seeded(generator):
            return torch.distributions.Normal(0, 1).sample((3,))

    before = torch.get_rng_state()
    generator = torch.Generator().manual_seed(1)
    first, next_ = draw(generator), draw(generator)
    assert torch.equal(first, draw(torch.Generator().manual_seed(1)))
    assert not torch.equal(first, next_)
    assert torch.equal(torch.get_rng_state(), before)
    draw(None)
    assert not torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("end", ["normal", "error"])
def test_evaluation_mode_lasts_for_a_block_and_each_module_goes_back_to_its_own(end):
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5)))
    model[1][0].eval()  # such as a network that its user has frozen
    before = {name: module.training for name, module in model.named_modules()}
    assert len(set(before.values())) == 2
    try:
        with evaluating(model):
            assert not any(module.training for module in model.modules())
            if end == "error":
                raise RuntimeError
    except RuntimeError:
        pass
    assert {name: module.training for name, module in model.named_modules()} == before

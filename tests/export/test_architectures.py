"""The search's alphabet."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import Tensor, fx, nn
from torchvision.models.shufflenetv2 import InvertedResidual

from gensoup.export.architectures import WeightsError, build, count_cost, initial_model, pretrained_weights
from gensoup.export.names import ARCHITECTURES, CLASSIFIERS, check_names
from gensoup.runtime.errors import UsageError

SMALL = "shufflenet_v2_x0_5"


def donor(classes: int = 1000) -> dict[str, Tensor]:
    """The state of a network with another head, as ImageNet's are."""
    torch.manual_seed(99)
    return build(SMALL, classes).state_dict()


def test_the_alphabet_is_known_to_torchvision() -> None:
    assert len(ARCHITECTURES) == len(set(ARCHITECTURES)) == 11
    check_names(CLASSIFIERS)
    assert set(ARCHITECTURES) < set(CLASSIFIERS)
    assert list(CLASSIFIERS) == torchvision.models.list_models(module=torchvision.models)


@pytest.mark.parametrize(("wrong", "near"), [("shuflenet_v2_x1", "shufflenet_v2_x1_0"), ("resnet51", "resnet50")])
def test_an_unknown_name_is_refused_with_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(UsageError, match=near) as error:
        check_names((SMALL, wrong))
    assert f"'{wrong}'" in str(error.value) and "\n" not in str(error.value)


def test_a_name_like_none_is_refused_with_the_alphabet() -> None:
    with pytest.raises(UsageError, match="convnext_tiny"):
        check_names(("zzzzzzzz",))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_has_a_fresh_head(name: str) -> None:
    with torch.inference_mode():
        assert build(name, 7).eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 7)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_weights_of_every_architecture_are_taken_but_for_the_head(tmp_path: Path, name: str) -> None:
    state = build(name, 4).state_dict()
    save_file(state, tmp_path / f"{name}.safetensors")
    weights = pretrained_weights(name, 3, tmp_path, download=False)
    assert weights is not None
    left_out = state.keys() - weights.keys()
    assert left_out and all(state[key].shape[0] == 4 for key in left_out)
    model = initial_model(name, 3, seed=0, pretrained=weights).state_dict()
    assert all(torch.equal(model[key], state[key]) for key in weights)
    whole = build(name, 4)
    whole.load_state_dict(load_file(tmp_path / f"{name}.safetensors"))  # as a run takes up its own individuals
    assert all(torch.equal(value, state[key]) for key, value in whole.state_dict().items())


def test_squeezenets_logits_can_go_below_zero_and_nothing_clips_them() -> None:
    torch.manual_seed(0)
    model = build("squeezenet1_1", 5).eval()
    assert not any(isinstance(module, nn.ReLU) for module in model.classifier)
    with torch.inference_mode():
        logits = model(torch.randn(16, 3, 64, 64))
    assert (logits < 0).any() and (logits > 0).any()


def test_initial_weights_depend_on_seed_and_architecture_alone() -> None:
    first = initial_model(SMALL, 3, seed=5, pretrained=None).state_dict()
    torch.manual_seed(1234)
    torch.rand(7)
    state = torch.random.get_rng_state()
    again = initial_model(SMALL, 3, seed=5, pretrained=None).state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)  # the caller's random numbers are left alone
    other = initial_model(SMALL, 3, seed=6, pretrained=None).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(first["fc.weight"], other["fc.weight"])
    assert not torch.equal(first["conv1.0.weight"], other["conv1.0.weight"])


def test_pretrained_weights_keep_the_head_fresh(tmp_path: Path) -> None:
    state = donor()
    save_file(state, tmp_path / f"{SMALL}.safetensors")
    weights = pretrained_weights(SMALL, 3, tmp_path, download=False)
    assert weights is not None and not any(name.startswith("fc.") for name in weights)
    model = initial_model(SMALL, 3, seed=0, pretrained=weights).state_dict()
    plain = initial_model(SMALL, 3, seed=0, pretrained=None).state_dict()
    assert torch.equal(model["conv1.0.weight"], state["conv1.0.weight"])
    assert torch.equal(model["fc.weight"], plain["fc.weight"]) and model["fc.weight"].shape == (3, 1024)


def test_half_precision_weights_and_pth_files_are_taken(tmp_path: Path) -> None:
    state = donor()
    halves = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    torch.save(halves, tmp_path / f"{SMALL}.pth")
    weights = pretrained_weights(SMALL, 3, tmp_path, download=False)
    assert weights is not None and weights["conv1.0.weight"].dtype == torch.float32
    torch.testing.assert_close(weights["conv1.0.weight"], state["conv1.0.weight"], atol=1e-3, rtol=1e-3)


def test_a_set_of_as_many_classes_keeps_its_own_head(tmp_path: Path) -> None:
    save_file(donor(3), tmp_path / f"{SMALL}.safetensors")
    weights = pretrained_weights(SMALL, 3, tmp_path, download=False)
    assert weights is not None and "fc.weight" not in weights


def test_no_file_and_no_download_is_none(tmp_path: Path) -> None:
    assert pretrained_weights(SMALL, 3, tmp_path, download=False) is None
    assert pretrained_weights(SMALL, 3, None, download=False) is None


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    state = donor()
    del state["conv5.0.weight"]
    save_file(state, tmp_path / f"{SMALL}.safetensors")
    with pytest.raises(
        WeightsError, match=rf"{SMALL}\.safetensors: not the weights of .*'conv5\.0\.weight' is missing"
    ):
        pretrained_weights(SMALL, 3, tmp_path, download=False)


def test_another_networks_weights_are_refused(tmp_path: Path) -> None:
    save_file(build("shufflenet_v2_x1_0", 1000).state_dict(), tmp_path / f"{SMALL}.safetensors")
    with pytest.raises(WeightsError, match=r"not the weights of .*is \[\d+.*\], not \["):
        pretrained_weights(SMALL, 3, tmp_path, download=False)


class Hostile:
    """Would make a folder if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.mkdir, (self.path,)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_pickle_in_disguise_is_refused_and_never_run(tmp_path: Path, suffix: str) -> None:
    trap = tmp_path / "trap"
    (tmp_path / f"{SMALL}{suffix}").write_bytes(pickle.dumps(Hostile(trap)))
    with pytest.raises(WeightsError, match=SMALL) as error:
        pretrained_weights(SMALL, 3, tmp_path, download=False)
    assert not trap.exists()
    assert "\n" not in str(error.value) and "weights_only" not in str(error.value)  # no advice to unpickle it


def test_a_hostile_pickle_inside_a_torch_archive_is_refused(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    torch.save({"conv1.0.weight": Hostile(trap)}, tmp_path / f"{SMALL}.pth")
    with pytest.raises(WeightsError, match="refused"):
        pretrained_weights(SMALL, 3, tmp_path, download=False)
    assert not trap.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.999])
def test_a_file_cut_short_is_named(tmp_path: Path, suffix: str, part: float) -> None:
    path = tmp_path / f"{SMALL}{suffix}"
    torch.save(donor(), path) if suffix == ".pth" else save_file(donor(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(WeightsError, match=SMALL) as error:
        pretrained_weights(SMALL, 3, tmp_path, download=False)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": {}}, {"conv1.0.weight": 3}, torch.ones(3)])
def test_something_else_than_weights_is_refused(tmp_path: Path, content: object) -> None:
    if isinstance(content, dict):
        content = {**donor(), **content} if "conv1.0.weight" in content else content
    torch.save(content, tmp_path / f"{SMALL}.pth")
    with pytest.raises(WeightsError, match=SMALL) as error:
        pretrained_weights(SMALL, 3, tmp_path, download=False)
    assert "\n" not in str(error.value)


def test_cost_counts_multiply_adds_and_parameters() -> None:
    macs, parameters = count_cost("squeezenet1_1", 1000, 224)
    assert macs == pytest.approx(352e6, rel=0.02)  # torchvision states .35 G
    assert parameters == 1_235_496
    fewer, same = count_cost("squeezenet1_1", 1000, 112)
    assert fewer < macs / 3.5 and same == parameters
    assert count_cost("squeezenet1_1", 10, 112)[1] < parameters


def shuffled_by_us() -> type[InvertedResidual]:
    """The unit that a built ShuffleNetV2 has."""
    return next(type(one) for one in build(SMALL, 2).modules() if isinstance(one, InvertedResidual))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch.jit's age; fvcore counts with it
def test_what_is_exported_or_traced_is_torchvisions_own_unit() -> None:
    """The ONNX graph, the map of where the network looks and the count of multiply-adds are made so."""
    ours = nn.Sequential(InvertedResidual(16, 32, 2), InvertedResidual(32, 32, 1)).eval()
    theirs = copy.deepcopy(ours)
    for unit in ours:
        unit.__class__ = shuffled_by_us()
    images = torch.randn(2, 16, 8, 8).contiguous(memory_format=torch.channels_last)
    exported, traced, recorded = [], [], []
    for model in (theirs, ours):
        model.to(memory_format=torch.channels_last)
        exported.append([str(node.target) for node in torch.export.export(model, (images,)).graph.nodes])
        traced.append(fx.symbolic_trace(model).code)
        recorded.append(str(torch.jit.trace(model, images).inlined_graph).count("aten::"))
    assert exported[0] == exported[1] and traced[0] == traced[1] and recorded[0] == recorded[1]


@pytest.mark.parametrize("training", [True, False])
def test_shuffling_with_channels_last_gives_the_same_values_and_gradients(training: bool) -> None:
    """Against torchvision's own unit, of either stride, whose layout is another but whose numbers are these."""
    for stride in (1, 2):
        torch.manual_seed(stride)
        theirs = InvertedResidual(16, 32 if stride == 2 else 16, stride).train(training)
        ours = copy.deepcopy(theirs)
        ours.__class__ = shuffled_by_us()
        images = torch.randn(4, 16, 8, 8).contiguous(memory_format=torch.channels_last)
        found = []
        for unit in (theirs, ours):
            inputs = images.clone(memory_format=torch.preserve_format).requires_grad_()
            outputs = unit.to(memory_format=torch.channels_last)(inputs)
            outputs.square().sum().backward()
            found.append((outputs.detach(), inputs.grad))
        assert type(ours) is not InvertedResidual
        assert found[1][0].is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(found[0], found[1])

"""The search's architectures by name, all others of torchvision's, and the sizes they take. Imports neither."""

from __future__ import annotations

import difflib

from gensoup.runtime.errors import UsageError

LEAST_SIZE, LARGEST_SIZE = 32, 1024  # pixels
WHOLE_SIZE = f"a whole number between {LEAST_SIZE} and {LARGEST_SIZE}"

# The thesis' two alphabets (ch. 3 and ch. 5) together.
ARCHITECTURES = (
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "shufflenet_v2_x1_0",
    "shufflenet_v2_x1_5",
    "shufflenet_v2_x2_0",
    "squeezenet1_1",
    "mnasnet1_0",
    "regnet_x_400mf",
    "regnet_y_400mf",
    "efficientnet_v2_s",
    "convnext_tiny",
)


# All others of torchvision's, by name: to import it takes seconds, and a slip in a name is told at once. A test holds
# the list against torchvision's own.
_OTHERS = (
    *("alexnet", "convnext_base", "convnext_large", "convnext_small", "densenet121", "densenet161", "densenet169"),
    *("densenet201", "efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3", "efficientnet_b4"),
    *("efficientnet_b5", "efficientnet_b6", "efficientnet_b7", "efficientnet_v2_l", "efficientnet_v2_m"),
    *("googlenet", "inception_v3", "maxvit_t", "mnasnet0_5", "mnasnet0_75", "mnasnet1_3", "mobilenet_v2"),
    *("regnet_x_16gf", "regnet_x_1_6gf", "regnet_x_32gf", "regnet_x_3_2gf", "regnet_x_800mf", "regnet_x_8gf"),
    *("regnet_y_128gf", "regnet_y_16gf", "regnet_y_1_6gf", "regnet_y_32gf", "regnet_y_3_2gf", "regnet_y_800mf"),
    *("regnet_y_8gf", "resnet101", "resnet152", "resnet18", "resnet34", "resnet50", "resnext101_32x8d"),
    *("resnext101_64x4d", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_0", "swin_b", "swin_s", "swin_t"),
    *("swin_v2_b", "swin_v2_s", "swin_v2_t", "vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn"),
    *("vgg19", "vgg19_bn", "vit_b_16", "vit_b_32", "vit_h_14", "vit_l_16", "vit_l_32", "wide_resnet101_2"),
    *("wide_resnet50_2",),
)
CLASSIFIERS = tuple(sorted((*ARCHITECTURES, *_OTHERS)))


def check_names(names: tuple[str, ...]) -> None:
    """Raise UsageError, with the nearest names, when a name is no torchvision classifier."""
    for name in names:
        if name not in CLASSIFIERS:
            near = ", ".join(difflib.get_close_matches(name, CLASSIFIERS, 3))
            hint = f"did you mean {near}?" if near else f"the search's own are {', '.join(ARCHITECTURES)}"
            raise UsageError(f"--architectures: '{name}' is unknown; {hint}")


def check_size(size: int) -> None:
    """Raise UsageError for an image size that some of them shrink to nothing, or that no device serves."""
    if not LEAST_SIZE <= size <= LARGEST_SIZE:
        raise UsageError(f"--size {size}: must be {WHOLE_SIZE}")

"""Values on their way to a device."""

from __future__ import annotations

import torch

from gensoup.export.transfer import constant, sent

META = torch.device("meta")  # as good as a GPU for what is kept and what is made anew


def test_constants_are_sent_once_and_serve_a_training_too() -> None:
    with torch.inference_mode():
        first = constant((0.5, 1.0), META)
    assert constant((0.5, 1.0), META) is first and not first.is_inference()
    assert constant((2, 1, 0), META).dtype == torch.int64
    cpu = torch.device("cpu")
    assert torch.equal(constant((0.5, 1.0), cpu), torch.tensor([0.5, 1.0]))
    assert constant((0.5, 1.0), cpu) is not constant((0.5, 1.0), cpu)  # an exporter's trace must not keep one


def test_what_is_there_already_is_not_copied() -> None:
    values = torch.arange(3)
    assert sent(values, values.device) is values
    assert sent(values, META).device == META

"""Published weights under our names."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from flowtts.published import check, fold_weight_norm, rename, tensors
from flowtts.types import UserError

STATE = {"a.0.weight": torch.ones(2, 3), "a.0.bias": torch.ones(2), "mask": torch.ones(1)}


def test_names_are_replaced_in_order_and_what_is_not_wanted_is_left_out() -> None:
    made = rename(STATE, ((r"^a\.(\d)\.", r"b.\1."), (r"^b\.0\.", "first.")), "f", (r"ma.k",))
    assert list(made) == ["first.weight", "first.bias"] and made["first.bias"] is STATE["a.0.bias"]
    # An ignored pattern is of the whole name, and a weight that no rule knows keeps its name for `check` to find.
    assert list(rename(STATE, (), "f", ("ma",))) == list(STATE)


def test_two_weights_of_one_name_are_refused() -> None:
    with pytest.raises(UserError, match=r"f\.pth is not the published file: it has a\.0\.bias twice"):
        rename(STATE, ((r"weight|bias", "x"),), "f.pth")


def test_weights_are_checked_without_making_the_network() -> None:
    make = lambda: nn.Linear(3, 2)  # noqa: E731
    good = {"weight": torch.ones(2, 3), "bias": torch.ones(2)}
    check(make, good, "f")
    check(lambda: nn.Linear(100_000, 1_000_000), {
        "weight": torch.empty(1_000_000, 100_000, device="meta"), "bias": torch.empty(1_000_000, device="meta")
    }, "f")  # fmt: skip
    for change, said in (
        ({"more": torch.ones(1)}, "more is unknown"), ({"bias": torch.ones(3)}, r"bias is \(3,\), not \(2,\)")
    ):  # fmt: skip
        with pytest.raises(UserError, match=f"f does not fit Linear: {said}"):
            check(make, {**good, **change}, "f")
    with pytest.raises(UserError, match="bias is missing"):
        check(make, {"weight": good["weight"]}, "f")


@pytest.mark.parametrize("held", [{}, [1], torch.ones(2), {"a": 1}, {"a": torch.ones(1), "step": 3}])
def test_what_is_not_weights_by_name(held: Any) -> None:
    with pytest.raises(UserError, match="f does not hold weights by name"):
        tensors(held, "f")
    assert tensors(STATE, "f") is STATE


def test_weight_norm_is_folded_and_the_rest_left() -> None:
    direction = torch.tensor([[[3.0, 4.0]], [[0.0, 2.0]]])
    made = fold_weight_norm(
        {"c.weight_v": direction, "c.weight_g": torch.tensor([[[10.0]], [[1.0]]]), "c.bias": direction}
    )
    assert made["c.weight"].tolist() == [[[6.0, 8.0]], [[0.0, 1.0]]] and set(made) == {"c.weight", "c.bias"}
    alone = {"d.weight_g": direction, "e.weight_v": direction}
    assert fold_weight_norm(alone) == alone

"""Plans are contiguous and cover the model."""

from __future__ import annotations

import pytest

from hali.pipeline.plan import LOCAL, LayerRange, Plan, Stage, plan_local


def _stage(model, start, end):
    return Stage("node", LayerRange(start, end), model.sha256, model.path)


def test_the_ordinary_plan_is_one_local_stage_with_all_layers(model):
    (stage,) = plan_local(model).stages
    assert (stage.node, stage.layers, stage.path) == (LOCAL, LayerRange(0, None), model.path)


def test_stages_that_follow_each_other_are_a_plan(model):
    assert len(Plan((_stage(model, 0, 10), _stage(model, 10, 20), _stage(model, 20, None))).stages) == 3


@pytest.mark.parametrize(
    "cuts",
    [
        [],
        [(1, None)],
        [(0, 10)],
        [(0, 10), (11, None)],
        [(0, 10), (9, None)],
        [(0, None), (10, None)],
    ],
)
def test_a_plan_with_a_gap_an_overlap_or_a_missing_end_is_refused(model, cuts):
    with pytest.raises(ValueError, match="plan"):
        Plan(tuple(_stage(model, *cut) for cut in cuts))


@pytest.mark.parametrize(("start", "end"), [(-1, 3), (3, 3), (4, 3)])
def test_an_empty_or_negative_layer_range_is_refused(start, end):
    with pytest.raises(ValueError, match="layer range"):
        LayerRange(start, end)

"""Charts of tables: columns of one unit share a chart, and points stand where their values are."""

import pytest

from latentline.report.curves import charts_of
from latentline.report.run import Run


def _charts(text: str, *others: str):
    runs = [
        Run(f"run {number}", "", (), {"fig/a/loss.csv": each.encode()}, {})
        for number, each in enumerate((text, *others))
    ]
    return charts_of(runs, "fig/a/loss.csv")


def test_columns_are_grouped_by_what_they_measure():
    charts = _charts("epoch,loss,kl,val_loss,val_kl,val_loss@0.1,val_loss@0.9\n1,2,3,4,5,6,7\n2,2,3,4,5,6,7\n")
    assert [chart.title for chart in charts] == ["a: loss", "a: loss, kl", "a: loss by time"]
    names = [[line.name for line in chart.lines] for chart in charts]
    assert names == [["loss", "val loss"], ["kl", "val kl"], ["val loss@0.1", "val loss@0.9"]]


def test_points_span_the_frame_and_ticks_stand_at_their_values():
    (chart,) = _charts("x,y\n0,10\n5,20\n10,30\n")
    left, top, right, bottom = chart.frame
    (line,) = chart.lines
    assert [point.left for point in line.points] == [left, (left + right) / 2, right]
    assert top < line.points[2].top < line.points[1].top < line.points[0].top < bottom
    ticks = {text: at for at, text in chart.y_ticks}
    assert ticks["20"] == line.points[1].top


@pytest.mark.parametrize("text", ["", "x,y\n", "x,y\n1,none\n", "x,y\n1,2,3\n"])
def test_tables_of_text_or_without_rows_have_no_chart(text):
    assert _charts(text) == []


def test_missing_and_infinite_values_are_left_out():
    (chart,) = _charts("x,y\n1,\n2,inf\n3,nan\n4,5\n")
    assert [(point.x, point.y) for point in chart.lines[0].points] == [(4.0, 5.0)]


def test_two_runs_share_the_axes_and_the_second_is_dashed():
    (chart,) = _charts("x,y\n0,0\n1,1\n", "x,y\n0,0\n2,4\n")
    first, second = chart.lines
    assert (first.dashed, second.dashed) == (False, True)
    assert first.points[0][:2] == second.points[0][:2]
    assert first.points[1].left < second.points[1].left


def test_long_lines_are_thinned():
    (chart,) = _charts("x,y\n" + "".join(f"{x},{x}\n" for x in range(5000)))
    points = chart.lines[0].points
    assert 300 < len(points) <= 400
    assert (points[0].x, points[-1].x) == (0, 4999)


def test_columns_that_only_one_run_has_are_drawn_as_its_own():
    loss, other = _charts("x,loss\n0,0\n1,1\n", "x,loss,psnr\n0,0,3\n1,1,4\n")
    assert [line.dashed for line in loss.lines] == [False, True]
    ((name, dashed),) = [(line.name, line.dashed) for line in other.lines]
    assert dashed
    assert "psnr" in name
    (only_base,) = _charts("", "x,y\n0,0\n1,1\n")
    assert [line.dashed for line in only_base.lines] == [True]

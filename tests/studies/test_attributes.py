"""The study of attribute editing, on images whose attributes are known pixels."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from glowflow import Glow, GlowConfig, InputError
from glowflow.data.types import ImageData, Splits
from glowflow.evaluation.estimate import Estimate
from glowflow.latents.codes import unflatten
from glowflow.latents.edits import edit
from glowflow.latents.estimation import estimate_directions
from glowflow.studies.measured.attributes import Attributes
from glowflow.studies.measured.belonging import Change, own_changes, own_pixels
from glowflow.studies.measured.editor import (
    AMOUNTS,
    LEAVING,
    Edited,
    Editor,
    Judged,
    _by_what_leaves,
    _moved,
    _moves,
    choose,
)
from glowflow.studies.measured.edits import measure_edits
from glowflow.studies.measured.edits_report import average, findings
from glowflow.studies.measured.judge import examine, train_judge
from tests.studies.worlds import BLOCKS, NAMES, SHAPE, Pixels, blocks, world

A, B, C, D = range(4)
STUDY = Attributes(images=80, validation_images=40, judge_images=8_000, limit=None)


@pytest.fixture(scope="module")
def splits():
    return world()


@pytest.fixture(scope="module")
def judge(splits):
    return train_judge(splits.train, images=8_000, progress=False)


@pytest.fixture(scope="module")
def study(splits):
    return measure_edits(Pixels().eval(), splits, progress=False, **dataclasses.asdict(STUDY))


def change(splits, column):
    own = own_changes(splits.train.attributes)
    return Change(column, own[column], own_pixels(splits.train, range(4), 10)[column])


def measured(editor, unedited, direction, amount, change):
    return editor.judged(unedited, direction, amount, change).edited(amount)


def direction(**amounts):
    """What adds so many bytes to each named block."""
    image = torch.zeros(1, *SHAPE)
    for name, amount in amounts.items():
        image[(0, 0, *BLOCKS[name])] = amount / 256
    return tuple(level[0] for level in unflatten(image.flatten(1), Pixels().latent_shapes))


def test_own_changes_are_what_cannot_occur_together():
    truth = blocks(2000).attributes
    own = own_changes(truth)
    assert own[C, D].tolist() == [False, True]  # where C appears, D goes
    assert own[D, C].tolist() == [False, True]
    assert not own[A, B].any() and not own[A, C].any() and not own[B, D].any()
    neither = ~truth[:, C] & ~truth[:, D]
    also = own_changes(np.column_stack([truth, neither]))
    assert also[4, C].tolist() == [False, True]
    implied = own_changes(np.column_stack([truth[:, A] & truth[:, C], truth]))
    assert implied[0, 1].tolist() == [True, False]  # with "A and C", A comes


def test_own_pixels_are_the_block(splits):
    expected = np.zeros(SHAPE[1:], dtype=bool)
    expected[BLOCKS["A"]] = True
    assert np.array_equal(own_pixels(splits.train, [A], 10)[A], expected)
    assert not own_pixels(splits.train, [A], 10)[B].any()


@pytest.mark.parametrize("column", range(4))
def test_an_amount_of_0_changes_nothing(splits, judge, column):
    editor = Editor(Pixels().eval(), judge)
    unedited = editor.before(splits.test, column, 50)
    edited = measured(editor, unedited, direction(A=40.0), 0.0, change(splits, column))
    assert (edited.leakage.mean, edited.leakage_of_all.mean, edited.identity.mean) == (0, 0, 1)
    assert edited.flip.mean == unedited.verdicts[:, column].mean()
    false_positives = 1 - examine(judge, splits.test)[NAMES[column]].accuracy
    assert edited.flip.mean <= 2 * false_positives + 0.05


def test_images_lack_the_attribute_and_come_back(splits, judge):
    unedited = Editor(Pixels().eval(), judge).before(splits.test, A, 50)
    lacking = {image.tobytes() for image in splits.test.images[~splits.test.attributes[:, A]]}
    assert len(unedited.images) == 50
    assert {image.tobytes() for image in unedited.images} <= lacking


def test_flip_and_leakage_are_what_the_direction_does(splits, judge):
    editor = Editor(Pixels().eval(), judge)
    unedited = editor.before(splits.test, A, 80)
    clean = measured(editor, unedited, direction(A=80.0), 1.0, change(splits, A))
    assert clean.flip.mean > 0.95 and clean.leakage.mean < 0.02 and clean.identity.mean == 1
    leaky = measured(editor, unedited, direction(A=80.0, B=80.0), 1.0, change(splits, A))
    without_b = (~unedited.verdicts[:, B]).mean()
    assert leaky.flip.mean > 0.95
    assert leaky.leakage.mean == pytest.approx(without_b / 3, abs=0.02)
    assert leaky.leakage.standard_error > 0
    assert leaky.images == 80


def test_what_must_change_does_not_count_and_its_opposite_does(splits, judge):
    editor = Editor(Pixels().eval(), judge)
    unedited = editor.before(splits.test, D, 80)
    has_c = unedited.verdicts[:, C]
    some = dataclasses.replace(
        unedited,
        latents=tuple(eps[has_c] for eps in unedited.latents),
        images=unedited.images[has_c],
        verdicts=unedited.verdicts[has_c],
    )
    removes_c = direction(D=80.0, C=-80.0)
    edited = measured(editor, some, removes_c, 1.0, change(splits, D))
    assert edited.leakage.mean < 0.02
    assert edited.leakage_of_all.mean == pytest.approx(1 / 3, abs=0.02)
    others = dataclasses.replace(
        unedited,
        latents=tuple(eps[~has_c] for eps in unedited.latents),
        images=unedited.images[~has_c],
        verdicts=unedited.verdicts[~has_c],
    )
    adds_c = measured(editor, others, direction(D=80.0, C=80.0), 1.0, change(splits, D))
    assert adds_c.leakage.mean == pytest.approx(1 / 3, abs=0.02)


def test_identity_is_the_change_outside_against_another_image(splits, judge):
    editor = Editor(Pixels().eval(), judge)
    unedited = editor.before(splits.test, A, 60)
    edited = measured(editor, unedited, direction(A=9.0, C=6.0), 1.0, change(splits, A))
    outside = np.ones(SHAPE[1:], dtype=bool)
    outside[BLOCKS["A"]] = False
    values = unedited.images[:, 0][:, outside].astype(float)
    apart = np.abs(values - np.roll(values, 1, axis=0)).mean()
    assert edited.identity.mean == pytest.approx(1 - 6 * 16 / 48 / apart, abs=1e-6)


def tried(amount, flip, leakage):
    figures = [Estimate(v, None) for v in (flip, leakage, leakage, 1.0)]
    return Edited(amount, *figures, images=10)


def test_the_amount_flips_most_within_the_leakage():
    grid = [tried(1, 0.5, 0.0), tried(2, 0.8, 0.08), tried(3, 1.0, 0.11)]
    assert choose(grid).amount == 2
    assert choose([tried(1, 0.3, 0.2), tried(2, 0.9, 0.3)]).amount == 2
    assert choose([tried(1, 1.0, 0.01), tried(2, 1.0, 0.09)]).amount == 1


def test_estimators_differ_where_attributes_go_together(splits, judge):
    confounded = Splits(blocks(1500, agree=0.93), splits.valid, splits.test, "", "")
    model = Pixels().eval()
    editor = Editor(model, judge)
    unedited = editor.before(splits.test, A, 80)
    leakage = {}
    for estimator in ("mean", "matched"):
        directions = estimate_directions(
            model, confounded.train, estimator=estimator, progress=False
        )
        edited = measured(editor, unedited, directions.latents["A"], 1.0, change(splits, A))
        assert edited.flip.mean > 0.9
        leakage[estimator] = edited.leakage.mean
    assert leakage["mean"] > leakage["matched"] + 0.1


def test_the_study_meets_its_target_where_codes_are_simple(study, splits):
    assert study.attributes == NAMES == study.counted
    assert {row.estimator for row in study.rows} == {"mean", "matched", "linear"}
    figures = average(study.averaged("matched"))
    assert figures["flip"] >= 0.95 and figures["leakage"] <= 0.02
    for row in study.rows:
        assert tuple(edited.amount for edited in row.tried) == AMOUNTS
        assert row.chosen in row.tried and row.test.amount == row.chosen.amount
        assert row.chosen.images == 40
        lacking = int((~splits.test.attributes[:, NAMES.index(row.attribute)]).sum())
        assert row.test.images == min(80, lacking)
        assert study.unedited[row.attribute] <= 0.05
    without, with_it = study.strips["A"]
    assert without.shape == with_it.shape == (3, 7, *SHAPE)
    inside = (..., 0, *BLOCKS["A"])
    assert (without[:, -1][inside].mean((-1, -2)) > without[:, 0][inside].mean((-1, -2))).all()


def test_what_leaves_is_taken_from_where_the_image_is(study, splits, judge):
    """C and D never go together: D comes where C goes."""
    assert {row.attribute for row in study.exchanged} == {"C", "D"}
    assert study.row("D", "exchange").estimator == "exchange"
    assert study.row("A", "exchange") is study.row("A", "matched")
    figures = average(study.averaged("exchange"))
    assert figures["flip"] >= 0.95 and figures["leakage"] <= 0.02
    assert "exchange: " not in findings(study).sentence.split(".")[0]
    assert "Told what leaves" in findings(study).sentence
    model = Pixels().eval()
    directions = estimate_directions(model, splits.train, estimator="matched", progress=False)
    editor = Editor(model, judge)
    unedited = editor.before(splits.test, D, 80)
    moves = _moves(NAMES, change(splits, D), {"matched": directions})
    delta = moves["exchange"].along(unedited.attributes)
    for number, has in enumerate(unedited.attributes):
        expected = directions.exchange("D", ["C"] if has[C] else [])
        assert all(torch.equal(d[number], e) for d, e in zip(delta, expected, strict=True))
    moved = _moved(unedited.latents, directions.latents["D"], 0.7)
    expected = edit(unedited.latents, [directions.latents["D"]], [0.7])
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(moved, expected, strict=True))


def test_images_that_lose_the_same_have_an_amount_of_their_own():
    """With black hair 0.5 is enough, a hat goes at 2, and of two who are bald nothing is known."""
    left = 30 * [("Black",)] + LEAVING * [("Hat",)] + 2 * [("Bald",)]
    needed = np.array(30 * [0.5] + LEAVING * [2.0] + 2 * [2.5])
    leaking = np.array(30 * [1.0] + (LEAVING + 2) * [9.0])
    judged = [
        Judged(amount >= needed, 0.2 * (amount > leaking), np.zeros(len(left)), np.ones(len(left)))
        for amount in AMOUNTS
    ]
    together = choose([one.edited(amount) for one, amount in zip(judged, AMOUNTS, strict=True)])
    assert together.amount == 0.5
    chosen, amounts = _by_what_leaves(judged, together, left)
    assert amounts == {("Hat",): 2.0}
    assert chosen.amount == 0.5 and chosen.leakage.mean == 0.0
    assert chosen.flip.mean == pytest.approx(1 - 2 / len(left))
    alone, none = _by_what_leaves(
        [one.some(needed == 2.0) for one in judged], together, left[30:50]
    )
    assert none == {} and alone.flip.mean == 0.0


def test_images_are_moved_by_the_amounts_of_what_they_lose(splits, judge):
    model = Pixels().eval()
    directions = estimate_directions(model, splits.train, estimator="matched", progress=False)
    move = _moves(NAMES, change(splits, D), {"matched": directions})["exchange"]
    editor = Editor(model, judge)
    unedited = editor.before(splits.test, D, 40)
    delta, amount = move.of(unedited.attributes, {("C",): 1.0}, 0.0)
    assert torch.equal(amount, torch.from_numpy(unedited.attributes[:, C]).float())
    flips = editor.judged(unedited, delta, amount, change(splits, D)).flip
    assert flips[unedited.attributes[:, C]].mean() > 0.95
    assert flips[~unedited.attributes[:, C]].mean() < 0.05


def test_amounts_by_what_leaves_are_said(study):
    row = study.row("D", "exchange")
    both = dataclasses.replace(row, amounts={(): 0.5, ("C",): 2.0})
    said = findings(dataclasses.replace(study, exchanged=(both,)))
    (line,) = [r for r in said.facts["rows"] if r["estimator"] == "exchange"]
    assert line["amounts"] == {"nothing": 0.5, "C": 2.0}
    text = said.files("attributes")["attributes.md"].decode()
    assert f"| {row.chosen.amount:g}, 0.5 of nothing, 2 of C |" in text


def test_its_files_have_the_figures(study):
    said = findings(study)
    files = said.files("attributes")
    assert set(files) == {
        "attributes.md", "flips.png", "index.html", *(f"strip-{name}.png" for name in NAMES)
    }  # fmt: skip
    facts = json.loads(json.dumps(said.facts))
    rows = {(r["attribute"], r["estimator"]): r["test"] for r in facts["rows"]}
    by_hand = np.mean([rows[name, "linear"]["flip"]["mean"] for name in NAMES])
    assert facts["average"]["linear"]["flip"] == pytest.approx(by_hand)
    text, page = (files[name].decode() for name in ("attributes.md", "index.html"))
    for row in study.rows:
        assert str(row.test.flip) in text and str(row.test.flip) in page
    assert "| linear |" in text and page.count("data:image/png") == 1 + len(NAMES)
    assert all(files[n].startswith(b"\x89PNG") for n in files if n.endswith("png"))


def test_the_headline_is_of_the_estimator_that_validation_images_prefer(study):
    worse = tried(1.0, 0.2, 0.1)
    rows = tuple(
        row if row.estimator == "linear" else dataclasses.replace(row, chosen=worse)
        for row in study.rows
    )
    preferring = dataclasses.replace(study, rows=rows)
    flip = average(preferring.averaged("linear"))["flip"]
    assert preferring.preferred == "linear"
    assert findings(preferring).sentence.startswith(f"linear: flip rate {flip:.3f} at leakage")


def test_untrusted_attributes_do_not_count(study):
    trust = {**study.trust, "A": dataclasses.replace(study.trust["A"], accuracy=0.8)}
    assert dataclasses.replace(study, trust=trust).counted == ("B", "C", "D")
    nothing = {n: dataclasses.replace(t, accuracy=0.5) for n, t in study.trust.items()}
    said = findings(dataclasses.replace(study, trust=nothing))
    assert "nothing can be said" in said.sentence
    assert said.facts["average"]["mean"] == {}


BAD = {
    "unknown": ({"attributes": ("E",)}, "no attribute 'E': choose among A, B"),
    "too rare": ({"minimum": 2000}, "No attribute can be edited: A is true of"),
    "too rare and named": ({"attributes": ("B",), "minimum": 2000}, "^B is true of"),
    "no images": ({"images": 0}, "images is 0"),
    "no judge": ({"judge_images": 0}, "judge_images is 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_settings(splits, name):
    given, message = BAD[name]
    with pytest.raises(InputError, match=message):
        dataclasses.replace(STUDY, **given).check(Pixels(), splits)


def test_data_that_do_not_fit(splits):
    floats = Glow(GlowConfig(image_shape=SHAPE, levels=1, steps=1, hidden_channels=2, bits=None))
    with pytest.raises(InputError, match="for float data"):
        STUDY.check(floats, splits)
    plain = Splits(
        *(ImageData(p.images) for p in (splits.train, splits.valid, splits.test)), "", ""
    )
    with pytest.raises(InputError, match="have no attributes"):
        STUDY.check(Pixels(), plain)
    size = {"levels": 1, "steps": 1, "hidden_channels": 2}
    with pytest.raises(InputError, match="give labelled data"):
        STUDY.check(Glow(GlowConfig(image_shape=SHAPE, classes=2, **size)), splits)
    large = Glow(GlowConfig(image_shape=(1, 16, 16), levels=1, steps=1, hidden_channels=2))
    with pytest.raises(InputError, match=r"\(1, 8, 8\) and the model takes \(1, 16, 16\)"):
        STUDY.check(large, splits)

"""Long Range Arena's tasks on files of the released formats, and on images drawn by the rules."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch

import tasks
from experiments.assemble import build_model, resolve
from experiments.config import Run, load
from tasks.lra import contours, listops
from tasks.lra.contours import RULES, draw
from tests.tasks.arena_files import (
    LISTS,
    REVIEWS,
    WRITERS,
    pictures,
    released,
    write_image,
    write_listops,
    write_pathfinder,
    write_retrieval,
    write_text,
)

pytestmark = pytest.mark.usefixtures("own_cache")


def read(split) -> list[tuple[bytes, int]]:
    """The sequences of a split without their pads, and their labels."""
    tokens, lengths, labels = split.take(range(len(split)))
    rows = zip(tokens.numpy().astype(np.uint8), lengths.tolist(), labels.tolist(), strict=True)
    return [(row[:length].tobytes(), label) for row, length, label in rows]


def value(source: str) -> int:
    """The value of a list with its parentheses, by rewriting it as an expression of Python."""
    import re
    import statistics

    def call(name: str, arguments: str) -> str:
        numbers = [int(digit) for digit in arguments.split()]
        values = {"MIN": min(numbers), "MAX": max(numbers), "SM": sum(numbers) % 10}
        return str(int(statistics.median(numbers)) if name == "MED" else values[name])

    text = source.replace("(", " ").replace(")", " ")
    while "[" in text:
        text = re.sub(r"\[(MIN|MAX|MED|SM)([\d\s]+)\]", lambda found: call(found[1], found[2]), text)
    return int(text)


def test_released_lists_lose_their_parentheses_alone(tmp_path):
    write_listops(tmp_path)
    task = released("lra/listops", tmp_path)
    words = [[listops.TOKENS[token] for token in tokens] for tokens, _ in read(task.train)]
    assert words[0] == ["[MAX", "2", "9", "0", "]"]
    assert words[1] == ["[SM", "8", "[MED", "1", "6", "]", "3", "0", "]"]
    assert (
        [label for _, label in read(task.test)] == [label for _, label in LISTS] == [value(text) for text, _ in LISTS]
    )
    assert task.length == 32


def test_generated_lists_have_the_published_lengths_and_the_values_of_another_evaluator():
    options = {"train": 20, "validation": 5, "test": 5, "seed": 3}
    task = tasks.load("lra/listops", listops.Data(**options))
    assert (task.length, task.vocabulary, task.classes) == (2048, 16, 10)
    for tokens, label in read(task.train):
        assert 500 < len(tokens) < 2000
        assert value(" ".join(listops.TOKENS[token] for token in tokens)) == label


def test_reviews_of_folder_and_of_the_hubs_parquet_are_the_same(tmp_path):
    write_text(tmp_path / "aclImdb")
    hub = tmp_path / "hub"
    hub.mkdir()
    for split in ("train", "test"):
        texts = [f"{number} {text}" for text in REVIEWS.values() for number in range(3)]
        parquet.write_table(
            pa.table({"text": texts, "label": [0, 0, 0, 1, 1, 1]}), hub / f"{split}-00000-of-00001.parquet"
        )
    folder, table = released("lra/text", tmp_path / "aclImdb"), released("lra/text", hub)
    assert read(folder.train) == read(table.train)
    assert read(folder.train)[3] == (f"0 {REVIEWS['pos']}".encode()[:20], 1)
    assert folder.data_hash == table.data_hash
    assert len(folder.test) == len(folder.validation) == 6
    assert len(released("lra/text", tmp_path / "aclImdb", validated=4).validation) == 4


def test_pairs_are_read_without_a_header_and_with_their_quotes(tmp_path):
    write_retrieval(tmp_path)
    task = released("lra/retrieval", tmp_path)
    tokens, lengths, labels = task.train.take(range(4))
    assert tokens.shape == (4, 2, 32)
    assert bytes(tokens[2, 0, : lengths[2, 0]].tolist()) == b'the "first" paper 2'
    assert bytes(tokens[2, 1, : lengths[2, 1]].tolist()) == b"the second, 2"
    assert labels.tolist() == [1, 0, 1, 0]


def test_images_are_grey_and_the_last_tenth_validates(tmp_path):
    write_image(tmp_path)
    task = released("lra/image", tmp_path)
    assert [len(split) for split in (task.train, task.validation, task.test)] == [18, 2, 5]
    assert task.grid == (32, 32)
    pixels = pictures(20, 32, 32, 3).astype(float) @ [0.299, 0.587, 0.114]
    got = np.stack([np.frombuffer(image, np.uint8) for image, _ in [*read(task.train), *read(task.validation)]])
    assert np.abs(got - pixels.reshape(20, -1)).max() <= 1
    assert [label for _, label in read(task.validation)] == [8, 9]


def test_the_one_empty_picture_is_left_aside_and_said(tmp_path):
    write_pathfinder(tmp_path)
    task = released("lra/pathfinder", tmp_path)
    splits = [read(split) for split in (task.train, task.validation, task.test)]
    assert [len(split) for split in splits] == [15, 2, 2]
    assert "imgs/0/sample_3.png is empty and left aside" in task.data_note
    given = pictures(10, 32, 32)
    expected = [(given[row].tobytes(), row % 2) for part in range(2) for row in range(10) if (part, row) != (0, 3)]
    assert sorted(row for split in splits for row in split) == sorted(expected)
    assert released("lra/pathfinder", tmp_path / "curv_contour_length_14").data_hash == task.data_hash


def test_files_that_change_are_read_anew(tmp_path):
    write_listops(tmp_path)
    before = released("lra/listops", tmp_path)
    again = released("lra/listops", tmp_path)
    (tmp_path / "basic_val.tsv").write_text("Source\tTarget\n( ( ( [MAX 1 ) 2 ) ] )\t2\n")
    after = released("lra/listops", tmp_path)
    assert before.data_hash == again.data_hash != after.data_hash
    assert len(after.validation) == 1


ROWS = {"lra/pathx": ("gtu", "gtu_2d"), **dict.fromkeys(["lra/image", "lra/pathfinder"], ("gtu", "softmax", "gtu_2d"))}
PAIRS = [(name, mixer) for name in WRITERS for mixer in ROWS.get(name, ("gtu", "softmax"))]


@pytest.mark.parametrize(("name", "mixer"), PAIRS)
def test_two_rows_train_on_each_task_and_the_two_dimensional_on_images(name: str, mixer: str, tmp_path):
    WRITERS[name](tmp_path)
    task = released(name, tmp_path)
    settings = [f"backbone.dim={4 if name == 'lra/pathx' else 8}", "backbone.depth=1", "backbone.dropout=0"]
    model = build_model(resolve(load(Run, [f"task={name}", f"mixer={mixer}", *settings]), False), task)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    batch = tuple(part[: 1 if name == "lra/pathx" else None] for part in task.batch(4, seed=0, step=0))
    losses = []
    for _ in range(6):
        loss = task.loss(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    if name != "lra/pathx":
        assert 0 <= task.evaluate(model.eval(), test=True)["accuracy"] <= 1
    assert task.bar()[0] in task.baselines(test=True)
    assert task.sample(2, 16).shape == (2, 16)


@pytest.mark.parametrize("name", WRITERS)
def test_the_papers_settings_fit_the_task(name: str, tmp_path):
    WRITERS[name](tmp_path)
    file = f"config=paper/lra_{name.removeprefix('lra/')}.yaml"
    run = load(Run, [file, "backbone.depth=2", "backbone.dim=8", f"data.path={tmp_path}"])
    assert run.task == name
    assert (run.backbone.norm, run.backbone.position) == ("batch", "sinusoidal")
    steps = run.train.tokens / run.train.batch / getattr(run.data, "length", 128**2 if name == "lra/pathx" else 32**2)
    assert steps == 50_000
    if name == "lra/pathx":
        return
    task = tasks.load(run.task, run.data)
    model = build_model(resolve(run, False), task).train()
    task.loss(model, task.batch(4, seed=0, step=0)).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_pixels_may_enter_as_numbers(tmp_path):
    write_image(tmp_path)
    task = released("lra/image", tmp_path, numbers=True)
    model = build_model(resolve(load(Run, ["task=lra/image", "backbone.dim=8"]), False), task)
    assert model.get_parameter("embedding.linear.weight").shape == (8, 1)
    assert task.logits(model, *task.test.take([0, 1])[:2]).shape == (2, 10)


# Pictures by the rules.


@pytest.mark.parametrize("size", RULES)
def test_markers_lie_on_one_contour_exactly_where_the_label_says(size: int):
    """The contours are traced anew from the dashes: a dash belongs to the next one where the gap is the margin."""
    rules = RULES[size]
    drawing = draw(rules, np.random.default_rng(5), 60)
    assert len(drawing.images) >= 5
    assert 0 < drawing.labels.mean() < 1
    for image in range(len(drawing.images)):
        starts, ends = (part[image].reshape(-1, 2) for part in (drawing.starts, drawing.ends))
        assert np.allclose(np.linalg.norm(ends - starts, axis=-1), rules.dash)
        gaps = np.linalg.norm(starts[None] - ends[:, None], axis=-1)  # from the end of one dash to the start of another
        follows = np.isclose(gaps, rules.margins[0]) | np.isclose(gaps, rules.margins[-1])
        contour = np.arange(len(starts))
        for one, other in np.argwhere(follows):
            contour[contour == contour[other]] = contour[one]
        tips, owners = np.concatenate([starts, ends]), np.concatenate([contour, contour])
        on = [set(owners[np.linalg.norm(tips - marker, axis=-1) < 1e-9]) for marker in drawing.markers[image]]
        assert all(len(found) == 1 for found in on)
        assert (on[0] == on[1]) == bool(drawing.labels[image])


@pytest.mark.parametrize("size", RULES)
def test_contours_follow_the_rules(size: int):
    rules = RULES[size]
    drawing = draw(rules, np.random.default_rng(7), 60)
    between = np.linalg.norm(drawing.starts[:, 0, 0] - drawing.starts[:, 1, 0], axis=-1)
    assert np.allclose(between, rules.seed_distance)
    vector = (drawing.ends - drawing.starts) / rules.dash
    turn = np.arccos(np.clip((vector[:, :, 1:] * vector[:, :, :-1]).sum(-1), -1, 1))
    assert turn.max() <= np.pi / 2 / rules.continuity + 1e-9
    angle = np.linspace(-np.pi / 2, np.pi / 2, 10001) / rules.continuity
    weight = np.cos(rules.continuity * angle) ** 2
    expected = (np.abs(angle) * weight).sum() / weight.sum()
    assert np.mean(turn) == pytest.approx(expected, rel=0.3)  # what is in the way bends contours further
    steps = np.linspace(0, 1, 9)[:, None, None]
    for starts, ends in zip(drawing.starts, drawing.ends, strict=True):
        one, other = ((starts[side] + steps * (ends - starts)[side]).reshape(-1, 2) for side in (0, 1))
        assert np.linalg.norm(one[:, None] - other[None], axis=-1).min() > min(rules.margins)
        assert min(one.min(), other.min()) >= rules.padding
        assert max(one.max(), other.max()) <= rules.size - rules.padding


@pytest.mark.parametrize("size", RULES)
def test_pictures_show_markers_and_dashes(size: int):
    rules = RULES[size]
    drawing = draw(rules, np.random.default_rng(2), 40)
    for image, markers, starts, ends in zip(drawing.images, drawing.markers, drawing.starts, drawing.ends, strict=True):
        for y, x in markers.astype(int):
            assert image[min(y, size - 1), min(x, size - 1)] > 200
        centres = ((starts + ends) / 2).reshape(-1, 2).astype(int)
        lit = [image[y - 1 : y + 2, x - 1 : x + 2].max() for y, x in centres]
        assert min(lit) > 80
    assert 0.02 < (drawing.images > 60).mean() < 0.4
    dim = drawing.images[(drawing.images > 0) & (drawing.images < 255)]
    assert len(dim) > 0.2 * (drawing.images > 0).sum()  # anti-aliased


def test_drawn_pictures_are_seeded_and_balanced():
    options = {"train": 300, "validation": 40, "test": 60}
    first, again, other = (
        tasks.load("lra/pathfinder", tasks.data_options("lra/pathfinder")(**options, seed=seed)) for seed in (0, 0, 1)
    )
    assert first.data_hash == again.data_hash != other.data_hash
    images = [image for split in (first.train, first.validation, first.test) for image, _ in read(split)]
    assert len(set(images)) == len(images) == 400
    assert 0.4 < first.train.labels().mean() < 0.6
    longer = list(contours.records(32, 405, 0))
    assert longer[:5] == list(contours.records(32, 5, 0))
    assert len(longer) == 405


# Bad input.

"""Pathfinder images by their published rules: dashed contours, two of them long, a disc on the start of one of these
and another on the far end of the same or of the other (Linsley et al., NeurIPS 2018, https://arxiv.org/abs/1805.08315;
Tay et al., ICLR 2021). Many images are drawn at once.

Shapes: I images, K candidate directions, P points of a dash; coordinates are (y, x) in pixels of the finished image.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tasks.examples import Record

SCALE = 2  # canvas pixels a pixel of the image: the drawing is anti-aliased
DIRECTIONS = 24  # candidates for the next dash
SEEDS = 16  # places tried for the first dash of a distractor
ROUNDS = 3  # attempts a distractor
BORDER = -1  # owner of the canvas pixels where nothing may be drawn

Array = np.ndarray


@dataclass(frozen=True)
class Rules:
    """What an image is made of; lengths in pixels."""

    size: int
    dash: float
    thickness: float
    margins: tuple[int, ...]  # between dashes; each image has one of them
    marker: float  # radius
    seed_distance: float  # between the starts of the two long contours
    continuity: float  # how straight contours are
    distractors: int  # short contours
    contrast: float
    contour: int = 14  # dashes of a long contour
    distractor: int = 4  # dashes of a short one
    padding: int = 1


RULES = {
    32: Rules(
        size=32,
        dash=2,
        thickness=0.5,
        margins=(1,),
        marker=1.5,
        seed_distance=7,
        continuity=1.0,
        distractors=5,
        contrast=1.5,
    ),
    128: Rules(
        size=128,
        dash=5,
        thickness=1.5,
        margins=(2, 3),
        marker=3,
        seed_distance=20,
        continuity=1.8,
        distractors=7,
        contrast=0.9,
    ),
}
"""By size: those of Long Range Arena's pathfinder32 and pathfinder128, curv_contour_length_14."""


@dataclass
class Drawing:
    """Images (I, size, size) as bytes, labels (I,), and what they were drawn from."""

    images: Array
    labels: Array  # 1: both markers lie on one contour
    starts: Array  # (I, 2, contour, 2): where each dash of the two long contours starts
    ends: Array
    markers: Array  # (I, 2, 2)


def draw(rules: Rules, generator: np.random.Generator, attempts: int) -> Drawing:
    """As many images as come of `attempts`: those in whose middle a long contour got stuck are left out."""
    field = _Field(rules, generator, attempts)
    alive = field.grow_long_contours(np.arange(attempts))
    field.add_distractors(alive)
    labels = generator.integers(0, 2, len(alive))
    origin = generator.integers(0, 2, len(alive))
    far = np.where(labels == 1, origin, 1 - origin)
    row = np.arange(len(alive))
    starts, ends = (part[alive, : 2 * rules.contour].reshape(-1, 2, rules.contour, 2) for part in field.dashes)
    markers = np.stack([starts[row, origin, 0], ends[row, far, -1]], axis=1)
    return Drawing(field.render(alive, markers), labels, starts, ends, markers)


def records(size: int, count: int, seed: int) -> Iterator[Record]:
    """`count` images of RULES[size] and their labels."""
    left = count
    for batch in itertools.count():
        drawing = draw(RULES[size], np.random.default_rng([seed, batch]), 32000 // size)
        for image, label in zip(drawing.images[:left], drawing.labels, strict=False):
            yield [image.tobytes()], int(label)
        left -= len(drawing.images)
        if left <= 0:
            return


class _Field:
    """The dashes of many images, and which pixels of their canvases are taken."""

    def __init__(self, rules: Rules, generator: np.random.Generator, images: int):
        self.rules, self.generator = rules, generator
        side = rules.size * SCALE
        self.margin = generator.choice(rules.margins, images).astype(float)
        self.owner = np.zeros((images, side, side), dtype=np.int16)  # the dash near which a pixel lies, from 1 on
        edge = rules.padding * SCALE
        inside = np.zeros((side, side), dtype=bool)
        inside[edge:-edge, edge:-edge] = True
        self.owner[:, ~inside] = BORDER
        slots = 2 * rules.contour + rules.distractors * rules.distractor
        self.dashes = np.full((2, images, slots, 2), np.nan)  # starts and ends

    def grow_long_contours(self, rows: Array) -> Array:
        """Draw both long contours, a dash of each in turn; returns the images that did not get stuck."""
        rules = self.rules
        border = 2 * rules.seed_distance
        first = self.generator.uniform(border, rules.size - border, (len(rows), 2))
        second = first + rules.seed_distance * _direction(self._angles(len(rows)))
        angles = [self._angles(len(rows)), self._angles(len(rows))]
        for contour, place in enumerate((first, second)):
            free = self._free(rows, place[:, None], angles[contour][:, None], np.zeros(len(rows)))[:, 0]
            rows, first, second, place = rows[free], first[free], second[free], place[free]
            angles = [angle[free] for angle in angles]
            self._put(rows, np.full(len(rows), contour * rules.contour), place, angles[contour])
        for dash in range(1, rules.contour):
            for contour in range(2):
                slot = np.full(len(rows), contour * rules.contour + dash)
                angles[contour], free = self._extend(rows, slot, angles[contour])
                rows, angles = rows[free], [angle[free] for angle in angles]
        return rows

    def add_distractors(self, rows: Array) -> None:
        """Draw short contours where there is room; an image that has none left gets fewer."""
        rules = self.rules
        drawn = np.zeros(len(rows), dtype=int)
        for _ in range(ROUNDS * rules.distractors):
            wanting = np.flatnonzero(drawn < rules.distractors)
            before = self.owner[rows[wanting]].copy()
            slot = 2 * rules.contour + drawn[wanting] * rules.distractor
            done = self._try_distractor(rows[wanting], slot)
            self.owner[rows[wanting[~done]]] = before[~done]
            for dash in range(rules.distractor):
                self.dashes[:, rows[wanting[~done]], slot[~done] + dash] = np.nan
            drawn[wanting[done]] += 1

    def _try_distractor(self, rows: Array, slot: Array) -> Array:
        """Draw one short contour in each image from `slot` on; returns where all of it found room."""
        place = self.generator.uniform(0, self.rules.size, (len(rows), SEEDS, 2))
        angle = self._angles((len(rows), SEEDS))
        free = self._free(rows, place, angle, np.zeros(len(rows)))
        going, chosen = np.flatnonzero(free.any(1)), free.argmax(1)
        angle = angle[going, chosen[going]]
        self._put(rows[going], slot[going], place[going, chosen[going]], angle)
        for dash in range(1, self.rules.distractor):
            angle, free = self._extend(rows[going], slot[going] + dash, angle)
            going, angle = going[free], angle[free]
        return np.isin(np.arange(len(rows)), going)

    def _extend(self, rows: Array, slot: Array, angle: Array) -> tuple[Array, Array]:
        """Add a dash to the contours that end in slot - 1; returns its angle, and where there was room for it.

        Its direction is drawn from those that are free, with weight max(cos(min(continuity * turn, pi / 2)), 0)^2.
        """
        reach = np.pi / 2 / self.rules.continuity
        turn = reach * (2 * (np.arange(DIRECTIONS) + self.generator.random((len(rows), 1))) / DIRECTIONS - 1)
        candidates = angle[:, None] + turn  # (I, K)
        starts = self.dashes[1, rows, slot - 1][:, None] + self.margin[rows, None, None] * _direction(candidates)
        weight = np.cos(self.rules.continuity * turn) ** 2 * self._free(rows, starts, candidates, slot)
        total = weight.cumsum(1)
        free = total[:, -1] > 0
        threshold = self.generator.random(len(rows)) * total[:, -1]
        chosen = np.minimum((total <= threshold[:, None]).sum(1), DIRECTIONS - 1)
        row = np.arange(len(rows))
        self._put(rows[free], slot[free], starts[row, chosen][free], candidates[row, chosen][free])
        return candidates[row, chosen], free

    def _free(self, rows: Array, starts: Array, angles: Array, last: Array) -> Array:
        """Whether dashes from `starts` (I, K, 2) meet nothing but the dash of number `last` (I,): (I, K)."""
        steps = np.linspace(0, self.rules.dash, int(SCALE * self.rules.dash) + 1)
        points = starts[:, :, None] + steps[:, None] * _direction(angles)[:, :, None]  # (I, K, P, 2)
        pixel = np.clip((points * SCALE).astype(int), 0, self.owner.shape[1] - 1)
        owner = self.owner[rows[:, None, None], pixel[..., 0], pixel[..., 1]]
        return ((owner == 0) | (owner == last[:, None, None])).all(-1)

    def _put(self, rows: Array, slot: Array, starts: Array, angles: Array) -> None:
        """Write a dash down, and take the pixels around it that are still free."""
        ends = starts + self.rules.dash * _direction(angles)
        self.dashes[0, rows, slot], self.dashes[1, rows, slot] = starts, ends
        distance = self.margin[rows] + self.rules.thickness  # so that edges keep the margin
        y, x, offset = self._patch(
            (starts + ends) / 2, self.rules.dash / 2 + max(self.rules.margins) + self.rules.thickness
        )
        along, across = _turned(offset, angles)
        beyond = np.maximum(np.abs(along) - self.rules.dash / 2, 0)
        near = beyond**2 + across**2 < distance[:, None, None] ** 2
        image = np.broadcast_to(rows[:, None, None], y.shape)
        near &= self.owner[image, y, x] == 0
        number = np.broadcast_to(slot[:, None, None] + 1, y.shape)
        self.owner[image[near], y[near], x[near]] = number[near]

    def render(self, rows: Array, markers: Array) -> Array:
        """The images (I, size, size) as bytes."""
        rules, row = self.rules, np.arange(len(rows))[:, None, None]
        side = rules.size * SCALE
        dashes = np.zeros((len(rows), side, side), dtype=np.float32)
        for slot in range(self.dashes.shape[2]):
            starts, ends = self.dashes[:, rows, slot]
            drawn = ~np.isnan(starts[:, 0])
            vector = ends[drawn] - starts[drawn]
            y, x, offset = self._patch((starts[drawn] + ends[drawn]) / 2, rules.dash / 2 + rules.thickness)
            along, across = _turned(offset, np.arctan2(vector[:, 0], vector[:, 1]))
            cover = _cover(np.abs(along) - rules.dash / 2) * _cover(np.abs(across) - rules.thickness / 2)
            image = row[drawn]
            dashes[image, y, x] = np.maximum(dashes[image, y, x], cover)
        discs = np.zeros_like(dashes)
        for side_of_pair in range(2):
            y, x, offset = self._patch(markers[:, side_of_pair], rules.marker)
            cover = _cover(np.hypot(offset[..., 0], offset[..., 1]) - rules.marker)
            discs[row, y, x] = np.maximum(discs[row, y, x], cover)
        image = np.maximum(np.minimum(rules.contrast * _shrink(dashes), 1), _shrink(discs))
        return np.rint(255 * image).astype(np.uint8)

    def _patch(self, centres: Array, radius: float) -> tuple[Array, Array, Array]:
        """Canvas pixels y and x (I, p, p) around `centres` (I, 2), and their offsets (I, p, p, 2) from them."""
        reach = int(np.ceil(radius * SCALE)) + 1
        span = np.arange(-reach, reach + 1)
        side = self.owner.shape[1]
        corner = np.floor(centres * SCALE).astype(int)[:, None]
        y, x = np.broadcast_arrays((corner[..., 0] + span)[:, :, None], (corner[..., 1] + span)[:, None, :])
        offset = (np.stack([y, x], axis=-1) + np.float32(0.5)) / SCALE - centres[:, None, None]
        return np.clip(y, 0, side - 1), np.clip(x, 0, side - 1), offset

    def _angles(self, shape: int | tuple[int, ...]) -> Array:
        return self.generator.uniform(-np.pi, np.pi, shape)


def _direction(angle: Array) -> Array:
    """The unit vector (y, x) of an angle."""
    return np.stack([np.sin(angle), np.cos(angle)], axis=-1)


def _turned(offset: Array, angle: Array) -> tuple[Array, Array]:
    """Offsets (I, p, p, 2) along a direction (I,) and across it."""
    sine, cosine = np.sin(angle)[:, None, None], np.cos(angle)[:, None, None]
    return offset[..., 0] * sine + offset[..., 1] * cosine, offset[..., 0] * cosine - offset[..., 1] * sine


def _cover(distance: Array) -> Array:
    """How much of a canvas pixel is covered whose centre lies `distance` outside of an edge."""
    return np.clip(0.5 - distance * SCALE, 0, 1)


def _shrink(canvas: Array) -> Array:
    """(I, SCALE size, SCALE size) -> (I, size, size)."""
    images, side, _ = canvas.shape
    return canvas.reshape(images, side // SCALE, SCALE, side // SCALE, SCALE).mean((2, 4))

"""Transformer-LS against its definition, one query at a time."""

import math

import pytest
import torch
from torch import Tensor, nn

from mixers import build
from mixers.attention.long_short import hide

HEADS, WIDTH = 2, 3


def moved(**options):
    """A mixer in float64, its parameters of a size at which all of them matter."""
    mixer = build("long_short", HEADS * WIDTH, heads=HEADS, **options).double()
    for parameter in mixer.parameters():
        nn.init.normal_(parameter, std=0.5)
    return mixer


def head(x: Tensor, index: int) -> Tensor:
    return x[..., index * WIDTH : (index + 1) * WIDTH]


def compressed(mixer, x: Tensor, tokens: range, values: Tensor) -> list[Tensor]:
    """`rank` vectors (D,) of the tokens: in each head another mean of the values."""
    logits = mixer.projection(x)
    vectors = []
    for r in range(mixer.rank):
        parts = []
        for h in range(HEADS):
            weights = torch.stack([logits[j, h * mixer.rank + r] for j in tokens]).softmax(0)
            parts.append(sum(w * head(values[j], h) for w, j in zip(weights, tokens, strict=True)))
        vectors.append(mixer.long_norm(torch.cat(parts)))
    return vectors


def sinusoid(distance: int) -> Tensor:
    angles = [distance / 10000 ** (c / 6) for c in range(0, 6, 2)]
    return torch.tensor([*map(math.sin, angles), *map(math.cos, angles)], dtype=torch.float64)


def attend(mixer, scores: list[list[Tensor]], values: list[Tensor]) -> Tensor:
    """One softmax a head over all scores, those of each head in a list."""
    mixed = [
        sum(w * head(v, h) for w, v in zip(torch.stack(scores[h]).softmax(0), values, strict=True)) for h in (0, 1)
    ]
    return mixer.out(torch.cat(mixed))


def expected_bidirectional(mixer, x: Tensor) -> Tensor:
    length, window = len(x), mixer.window
    q, keys, values = mixer.query(x) / WIDTH**0.5, mixer.short_norm(mixer.key(x)), mixer.short_norm(mixer.value(x))
    long_keys, long_values = (compressed(mixer, x, range(length), part) for part in (keys, values))
    reach, rows = max(window // 2, 1), []
    for i in range(length):
        start = i // window * window
        seen = range(max(start - reach, 0), min(start + window + reach, length))
        all_keys = long_keys + [keys[j] for j in seen]
        scores = [[head(q[i], h) @ head(key, h) for key in all_keys] for h in range(HEADS)]
        rows.append(attend(mixer, scores, long_values + [values[j] for j in seen]))
    return torch.stack(rows)


def expected_causal(mixer, x: Tensor) -> Tensor:
    q, k, v = mixer.query(x) / WIDTH**0.5, mixer.key(x), mixer.value(x)
    keys, values, far, rows = mixer.short_norm(k), mixer.short_norm(v), mixer.distances, []
    for i in range(len(x)):
        complete = i // mixer.chunk
        spans = [range(c * mixer.chunk, (c + 1) * mixer.chunk) for c in range(complete)]
        long_keys = [vector for span in spans for vector in compressed(mixer, x, span, k)]
        long_values = [vector for span in spans for vector in compressed(mixer, x, span, v)]
        seen = range(max(i - mixer.window + 1, 0), i + 1)
        scores: list[list[Tensor]] = []
        for h in range(HEADS):
            query = head(q[i], h)
            long = [
                query @ (head(key, h) + head(far.vector(sinusoid(len(long_keys) - 1 - place)), h))
                for place, key in enumerate(long_keys)
            ]
            near = [
                (query + far.content_bias[h, 0]) @ head(keys[j], h)
                + (query + far.token_bias[h, 0]) @ head(far.token(sinusoid(i - j)), h)
                for j in seen
            ]
            scores.append(long + near)
        rows.append(attend(mixer, scores, long_values + [values[j] for j in seen]))
    return torch.stack(rows)


@pytest.mark.parametrize(("length", "window", "landmarks"), [(1, 4, 2), (11, 4, 3), (12, 3, 1), (9, 1, 2), (5, 8, 2)])
def test_bidirectional_is_the_definition(length: int, window: int, landmarks: int):
    mixer = moved(causal=False, window=window, landmarks=landmarks)
    x = torch.randn(length, HEADS * WIDTH, dtype=torch.float64)
    torch.testing.assert_close(mixer(x[None])[0], expected_bidirectional(mixer, x))


@pytest.mark.parametrize(
    ("length", "window", "chunk", "rank"), [(1, 4, 3, 1), (13, 4, 3, 2), (12, 5, 4, 1), (9, 1, 2, 3), (5, 8, 6, 2)]
)
def test_causal_is_the_definition(length: int, window: int, chunk: int, rank: int):
    mixer = moved(causal=True, window=window, chunk=chunk, rank=rank)
    x = torch.randn(length, HEADS * WIDTH, dtype=torch.float64)
    torch.testing.assert_close(mixer(x[None])[0], expected_causal(mixer, x))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [1, 3, 4])
def test_pads_are_not_seen_at_small_windows(causal: bool, window: int):
    mixer = moved(causal=causal, window=window, chunk=2, rank=2, landmarks=2)
    x, real = torch.randn(3, 11, HEADS * WIDTH, dtype=torch.float64), torch.tensor([11, 6, 1])
    mask = torch.arange(11) < real[:, None]
    y = mixer(x.masked_fill(~mask[..., None], torch.nan), mask)
    for row, count in enumerate(real.tolist()):
        torch.testing.assert_close(y[row, :count], mixer(x[row : row + 1, :count])[0])


@pytest.mark.parametrize(("window", "chunk", "rank"), [(1, 2, 1), (3, 4, 2), (8, 1, 1)])
def test_decoding_past_the_window_is_forward(window: int, chunk: int, rank: int):
    mixer, x = moved(causal=True, window=window, chunk=chunk, rank=rank), torch.randn(2, 19, 6, dtype=torch.float64)
    y = mixer(x)
    for start in (0, 1, 7, 8):
        out, state = mixer.prefill(x[:, :start])
        torch.testing.assert_close(out, y[:, :start])
        for place in range(start, 19):
            out, state = mixer.step(x[:, place], state)
            torch.testing.assert_close(out, y[:, place])
        assert state["long_keys"].shape[2] == 19 // chunk * rank


def test_parameters_are_the_papers():
    causal, whole = (build("long_short", 64, causal=form, landmarks=8, rank=2) for form in (True, False))
    assert causal.projection.weight.shape == (4 * 2, 64)
    assert whole.projection.weight.shape == (4 * 8, 64)
    assert {name for name, _ in causal.named_parameters()} - {name for name, _ in whole.named_parameters()} == {
        "distances.token.weight",
        "distances.vector.weight",
        "distances.vector.bias",
        "distances.content_bias",
        "distances.token_bias",
    }
    for linear in (causal.query, causal.key, causal.value, causal.out):
        assert linear.weight.std().item() == pytest.approx((2 / 128) ** 0.5, rel=0.05)
        assert not linear.bias.any()


@pytest.mark.parametrize("keyword", ["window", "chunk", "rank", "landmarks"])
def test_bad_sizes_get_one_clear_line(keyword: str):
    with pytest.raises(ValueError, match=f"long_short: {keyword}=0 must be at least 1"):
        build("long_short", 8, causal=True, **{keyword: 0})


def test_a_score_that_overflows_is_above_one_that_is_hidden():
    scores = hide(torch.tensor([-torch.inf, 5.0]).half(), torch.tensor([False, True]))
    assert scores.softmax(-1).tolist() == [1.0, 0.0]

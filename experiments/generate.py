"""Continue a prompt with a trained language model."""

from pathlib import Path

import torch

from backbones.causal_lm import CausalLM
from experiments.errors import UserError, user_errors
from experiments.train import load_model
from tasks.language_model import LanguageModel


def generate(
    folder: Path,
    *,
    prompt: str,
    tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    stop: str | None,
    seed: int,
) -> str:
    """The prompt and its continuation.

    Raises UserError for a run that is no language model, and for values out of range.
    """
    run, task, model = load_model(folder)
    if not isinstance(model, CausalLM) or not isinstance(task, LanguageModel):
        raise UserError(f"{folder} was trained on {run.task}, which generates no text")
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    with user_errors():
        output = model.generate(
            torch.tensor(task.encode(prompt), dtype=torch.long, device=device),
            tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            stop=task.encode(stop) if stop else None,
            generator=generator,
        )
    return task.decode(output.tolist())

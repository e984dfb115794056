"""The parts of the README that are made from the project: `python -m tests.readme` writes them anew."""

import re
from pathlib import Path

from mixers import card, names

README = Path(__file__).parents[1] / "README.md"
FORMS = ("causal", "bidirectional")


def mixer_table() -> str:
    """The table of mixers, from the registry."""
    lines = ["| name | about | forms | further claims | time | state | paper |", "|---|---|---|---|---|---|---|"]
    for row in map(card, names()):
        forms = ", ".join(form for form in FORMS if form in row.claims)
        claims = ", ".join(claim for claim in row.claims if claim not in FORMS)
        paper = f"[{row.paper.split('/')[-1]}]({row.paper})"
        lines.append(f"| `{row.name}` | {row.about} | {forms} | {claims} | {row.time} | {row.state} | {paper} |")
    return "\n".join(lines) + "\n"


def with_table(text: str) -> str:
    """The README's text with the table as the registry has it now."""
    return re.sub(r"(<!-- mixers:.*?-->\n).*?(<!-- end of mixers -->)", rf"\1{mixer_table()}\2", text, flags=re.S)


def example(language: str) -> str:
    """The code block of a language in 'Add a mixer'."""
    found = re.search(rf"<!-- example -->.*?```{language}\n(.*?)```", README.read_text(), flags=re.S)
    assert found
    return found.group(1)


if __name__ == "__main__":
    README.write_text(with_table(README.read_text()))

"""Small files with the bytes of the released ones."""

import json
from pathlib import Path

ARTICLE = (
    b" \n = Robert Boulter = \n \n Robert Boulter is an English film , television and theatre actor . "
    b"He had a guest @-@ starring role on the television series The Bill in 2000 . \n"
    b" In 2006 , Boulter starred in the play Citizenship ; it cost \xc2\xa3 5 . \n \n = = Career = = \n \n"
)
"""Eight rows as WikiText-103 has them: blank rows are a blank, headings stand between equals signs."""


def write_wikitext(folder: Path, ending: str = "raw") -> Path:
    """wiki.{train,valid,test}.raw."""
    folder.mkdir(exist_ok=True)
    for split, copies in (("train", 40), ("valid", 4), ("test", 6)):
        (folder / f"wiki.{split}.{ending}").write_bytes(ARTICLE * copies)
    return folder


def write_wikitext_parquet(folder: Path) -> Path:
    """The hub's form: a row a line, with its line break, and "" for blank rows; training in two shards."""
    import pyarrow
    from pyarrow import parquet

    folder.mkdir()
    lines = [line if line.strip() else "" for line in ARTICLE.decode().splitlines(keepends=True)]

    def write(name: str, rows: list[str]) -> None:
        parquet.write_table(pyarrow.table({"text": rows}), folder / f"{name}.parquet")

    for shard in range(2):
        write(f"train-0000{shard}-of-00002", lines * 20)
    write("validation-00000-of-00001", lines * 4)
    write("test-00000-of-00001", lines * 6)
    return folder


def write_tokenizer(folder: Path) -> Path:
    """A byte-level vocabulary without merges, as vocab.json and merges.txt."""
    from tokenizers.pre_tokenizers import ByteLevel

    folder.mkdir(exist_ok=True)
    entries = [*sorted(ByteLevel.alphabet()), "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({entry: index for index, entry in enumerate(entries)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return folder


def write_glue(folder: Path) -> Path:
    """GLUE's archive, each task with its own oddities."""

    def write(name: str, content: str, *, bom: bool = False, encoding: str = "utf-8") -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\xef\xbb\xbf" * bom + content.encode(encoding))

    cola = "gj04\t1\t\tOur friends won't buy this analysis.\ngj04\t0\t*\tThem \"won't buy it.\n"
    write("CoLA/train.tsv", cola * 4)
    write("CoLA/dev.tsv", cola)
    write("cola_public/raw/in_domain_train.tsv", cola * 4)
    write("cola_public/raw/in_domain_dev.tsv", cola.rstrip("\n"))  # the released file has no line break at its end
    write("cola_public/raw/out_of_domain_dev.tsv", cola)
    for split, copies in (("train", 4), ("dev", 2)):
        write(
            f"SST-2/{split}.tsv",
            "sentence\tlabel\n" + "hide new secretions \t0\na gorgeous , witty film \t1\n" * copies,
        )
        pair = '1\t1355540\t1355592\tHe said "yes\tHe said yes .\n0\t2029631\t2029565\tNo " way .\tThe gate rose .\n'
        header = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
        write(f"MRPC/{split}.tsv", header + pair * copies)
        names = {"train": "msr_paraphrase_train.txt", "dev": "msr_paraphrase_test.txt"}
        write(f"msr/{names[split]}", header + pair * copies, bom=True)
        scored = 'main-captions\tMSRvid\t2012test\t0001\t{}\tA plane is "off .\tA plane takes off .{}\n'
        rows = "".join(
            scored.format(score, extra) for score, extra in (("5.000", ""), ("2.4", "\tAFP\tlink"), ("0", ""))
        )
        write(f"stsbenchmark/sts-{split}.csv", rows * copies)
        header = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
        row = "0\tmain-captions\tMSRvid\t2012test\t0001\tnone\tnone\tA plane .\tA plane is off .\t{}\n"
        write(f"STS-B/{split}.tsv", header + (row.format("5.000") + row.format("1.2")) * copies)
        header = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
        rows = "0\t1\t2\tHow do I ?\tHow can I ?\t1\n1\t3\t4\tWho ?\tWhat ?\t0\n" * copies
        write(f"QQP/{split}.tsv", header + rows + ("7\t8\n" if split == "train" else ""))  # one of its damaged rows
        write(f"QNLI/{split}.tsv", "index\tquestion\tsentence\tlabel\n" + (
            "0\tWhen ?\tIn 1990 .\tentailment\n1\tWho ?\tIn 1990 .\tnot_entailment\n" * copies))  # fmt: skip
        write(f"RTE/{split}.tsv", "index\tsentence1\tsentence2\tlabel\n" + (
            "0\tIt rains .\tRain .\tentailment\n1\tIt rains .\tSun .\tnot_entailment\n" * copies))  # fmt: skip
        write(f"WNLI/{split}.tsv", "index\tsentence1\tsentence2\tlabel\n" + (
            "0\tI stuck a pin .\tIt stuck .\t1\n1\tI stuck it .\tThe pin .\t0\n" * copies))  # fmt: skip
    header = "index\tpromptID\tpairID\tgenre\tsentence1\tsentence2\tlabel1\tgold_label\n"
    row = '0\t63735\t63735n\tslate\tThe "new rights\tEveryone likes it\tneutral\t{}\n'
    labels = ("neutral", "entailment", "contradiction")
    write("MNLI/train.tsv", header + "".join(row.format(label) for label in labels) * 4)
    for name in ("dev_matched", "dev_mismatched"):
        write(f"MNLI/{name}.tsv", header + "".join(row.format(label) for label in (*labels, "-")))
    return folder

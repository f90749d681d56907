#!/usr/bin/env python3
"""Rows of the table at the end of tests/gpu/run.sh, from what a part has printed.

    figures.py PART FILE      prints `| PART | figure | measured | wanted |`, a line for each figure
"""

import re
import sys


def tables(text):
    """Rows of all Markdown tables, as dictionaries by the cells of the table's head."""
    rows, head = [], None
    for line in text.splitlines():
        if not line.startswith("|"):
            head = None
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if head is None:
            head = cells
        elif not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
            rows.append(dict(zip(head, cells)))
    return rows


def split_wanted(cell):
    """'0.85 (wanted 0.80), 12 us' -> ('0.85, 12 us', '0.80')"""
    found = re.search(r"\s*\(wanted ([^)]*)\)", cell)
    return (cell.replace(found.group(0), ""), found.group(1)) if found else (cell, "")


def of_machine(text):
    for title, pattern in (("copies within the card", r"copying within the device: (.*)"),
                           ("copies over the bus", r"copies: (.*)"),
                           ("an op beyond its work", r"an op takes at least (.*)")):
        for found in re.findall(pattern, text):
            yield title, found, ""


def of_tests(text):
    passed, skipped = (sum(map(int, re.findall(rf"\[  {word} \] (\d+) test", text)))
                       for word in ("PASSED ", "SKIPPED"))
    yield "tests of label gpu", f"{passed} passed, {skipped} skipped", "all passed"


def of_sparse_rows(text):
    for row in tables(text):
        share, wanted = split_wanted(row["of copies"])
        yield f"{row['']}: of the speed of copies", share, wanted
        if row["against"]:
            against, wanted = split_wanted(row["against"])
            yield f"{row['']}: against", against, wanted


def of_bench(text):
    for row in tables(text):
        if not row.get("test", "").startswith("tg"):
            continue
        wanted = "80 %" if row["ffn"] == "dense" else ""
        replayed = f", {row['replayed %']} % of the steps replayed" if "replayed %" in row else ""
        yield (f"decode, {row['ffn']}, {row['size']}: of the speed of copies",
               f"{row['% of it']} %, {row['t/s']} tokens/s{replayed}", wanted)


def of_hybrid(text):
    for row in tables(text):
        if row["computed by"] == "CPU alone":
            continue
        about = re.search(r"Model of [^,]*, GPU budget [^,]*", text)
        yield (f"{row['computed by']}: of the CPU's speed ({about.group(0) if about else ''})",
               f"{row['against the CPU']}, {row['tokens/s']} tokens/s", "5")
        yield "answer beside the CPU's", row["answer"], "the same"
        if row["of --gpu-memory"]:
            yield "card's memory in use, of --gpu-memory", row["of --gpu-memory"], "98 to 100 %"


def of_hybrid_step(text):
    for row in tables(text):
        ratio, wanted = split_wanted(row["step / larger part"])
        lead, helper = row["lead's part"], row["helper's part"]
        yield f"step against its larger part ({lead} on the lead, {helper} on the helper)", ratio, wanted


def of_group_calls(text):
    for row in tables(text):
        yield (f"NCCL, member {row['member']}: a broadcast and a sum, as in a layer",
               f"return after {row['broadcast returns']} and {row['sum returns']}, "
               f"done after {row['both are done']}", "")


def of_two_cards(text):
    for row in tables(text):
        about = f"{row['layout']}, {row['launched']}, --nccl {row['--nccl']}"
        if not row["tokens"]:
            yield about, row["met by"], ""
            continue
        wanted = "the host" if row["--nccl"] == "off" else "NCCL"
        yield f"{about}: met by", f"{row['met by']}, tokens {row['tokens']}", f"{wanted}, the same"


def of_graph_step(text):
    for row in tables(text):
        yield (f"step of {row['sequences']}, replayed against op by op",
               f"{row['replayed / op by op']}, tokens {row['tokens']}", "below 1, the same")


def of_hottest(text):
    for row in tables(text):
        cells = ", ".join(f"{title} {value}" for title, value in row.items() if title != "kernel")
        yield f"`{row['kernel']}`", cells, ""


def of_sanitizer(text):
    """Also of one that was cut off: what it has seen until then."""
    total = sum(map(int, re.findall(r"\[=+\] Running (\d+) test", text)))
    done = len(re.findall(r"\[       OK \] \S+ \(", text))
    reported = re.findall(r"^=+ ((?:Invalid|Uninitialized|Error|Program hit).*)", text, re.M)
    summed = sum(map(int, re.findall(r"(?:ERROR|RACECHECK) SUMMARY: (\d+) ", text)))
    errors = max(len(reported), summed)
    first = f": {reported[0]}" if reported else ""
    yield "errors", f"{errors} in {done} of {total} tests{first}", "0 in all"


def of_references(text):
    errors = {name: float(error)
              for name, error in re.findall(r"^(\S+): \d+ rows, largest error (\S+)$", text, re.M)}
    for dtype in sorted({name.rsplit("-", 1)[1] for name in errors}):
        of_type = [error for name, error in errors.items() if name.endswith("-" + dtype)]
        yield (f"logits of {len(of_type)} models in {dtype.upper()}, largest error",
               f"{max(of_type):.1e}", "")


def of_repeat(text):
    for row in tables(text):
        yield f"two runs, {row['ffn']}", row["logits"], "bit-equal"


READERS = {"machine": of_machine, "tests": of_tests, "sparse-rows": of_sparse_rows,
           "bench": of_bench, "hybrid": of_hybrid, "hybrid-step": of_hybrid_step,
           "hybrid-step-large": of_hybrid_step, "graph-step": of_graph_step, "group-calls": of_group_calls,
           "two-cards": of_two_cards,
           "graph-step-demo": of_graph_step, "hottest-kernels": of_hottest,
           "memcheck": of_sanitizer, "racecheck": of_sanitizer, "references": of_references,
           "repeat": of_repeat}


def rows_of(part, text):
    return [f"| {part} | {figure} | {measured} | {wanted} |"
            for figure, measured, wanted in READERS.get(part, lambda _: ())(text)]


def main():
    with open(sys.argv[2], encoding="utf-8", errors="replace") as file:
        print("\n".join(rows_of(sys.argv[1], file.read())))


if __name__ == "__main__":
    main()

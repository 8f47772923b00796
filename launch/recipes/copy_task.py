#!/usr/bin/env python3
"""The copy task of Katharopoulos et al. 2020, section 4.1, as proteins: makes its records, says how
well it can be done at best, and counts what a model has copied.

    copy_task.py make [--records=N] [--seed=S] [--shortest=N]      FASTA: Y w Y w Y..., 127 letters
    copy_task.py prompts [--records=N] [--seed=S] [--shortest=N]   Y w Y, one a line
    copy_task.py best [--shortest=N]                loss, perplexity and accuracy at best
    copy_task.py check FASTA...                     the share of w that stands there again, in %

A record is w twice, between separators, and separators up to the end: with the token behind it, it
fills 128 places. w is of ten symbols and of any length from the shortest to 62, all equally likely;
unless told otherwise all have 62, so that what is to be copied is always as far behind.
"""
import argparse
import math
import random
import sys

SYMBOLS = "ACDEFGHIKL"
SEPARATOR = "Y"
LETTERS = 127
LONGEST = (LETTERS - 3) // 2


def words(options):
    source = random.Random(options.seed)
    for _ in range(options.records):
        yield "".join(source.choices(SYMBOLS, k=source.randint(options.shortest, LONGEST)))


def record_of(word):
    return (SEPARATOR + word + SEPARATOR + word).ljust(LETTERS, SEPARATOR)


def best(shortest):
    """Only the first w has something new: its symbols, and after each whether it ends there."""
    tokens = LETTERS + 1
    lengths = range(shortest, LONGEST + 1)
    nats = 0.0
    right = 0.0
    for length in lengths:
        nats += length * math.log(len(SYMBOLS)) + math.log(len(lengths))
        right += tokens - length - 1  # all but the first w and what ends it
        for before in range(length + 1):
            ends = 1 / (LONGEST - before + 1) if before >= shortest else 0
            if ends > (1 - ends) / len(SYMBOLS):
                right += before == length
            elif before < length:
                right += 1 / len(SYMBOLS)
    return nats / (len(lengths) * tokens), right / (len(lengths) * tokens)


def read_fasta(path):
    with open(path, encoding="ascii") as file:
        for entry in file.read().split(">")[1:]:
            yield "".join(entry.split("\n")[1:])


def share_copied(records):
    right = 0
    symbols = 0
    for record in records:
        word = record[1:].split(SEPARATOR, 1)[0]
        again = record[len(word) + 2 :]
        right += sum(a == b for a, b in zip(word, again))
        symbols += len(word)
    return right / symbols


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "best", "prompts", "check"])
    parser.add_argument("files", nargs="*", help="FASTA files to check")
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shortest", type=int, default=LONGEST, choices=range(1, LONGEST + 1),
                        metavar=f"1..{LONGEST}")
    options = parser.parse_args()
    if options.what == "make":
        for number, word in enumerate(words(options), 1):
            print(f">copy_{number}\n{record_of(word)}")
    elif options.what == "best":
        loss, accuracy = best(options.shortest)
        print(f"loss {loss:.4f}\nperplexity {math.exp(loss):.4f}\naccuracy {100 * accuracy:.2f} %")
    elif options.what == "prompts":
        for word in words(options):
            print(SEPARATOR + word + SEPARATOR)
    else:
        records = [record for file in options.files for record in read_fasta(file)]
        if not records:
            sys.exit("copy_task.py: there is no record to check")
        print(f"{100 * share_copied(records):.2f}")


if __name__ == "__main__":
    main()

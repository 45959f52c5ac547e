"""Prints the table of mutants; exit status 1 if one survives."""

import sys
from concurrent.futures import ThreadPoolExecutor

from tests.sim.mutants import MUTANTS, killed_by


def judge(rule, seeds):
    """The seed and the invariant that notice, and the directed test."""
    return killed_by(rule, "seeds", str(seeds)), killed_by(rule, "tests")


def main(seeds):
    survivors = []
    print(f"{'rule':<11}{'noticed by':<14}{'seeds':>6}  {'mutant':<58}directed test")
    with ThreadPoolExecutor(2) as pool:
        verdicts = pool.map(lambda mutant: judge(mutant.rule, seeds), MUTANTS)
        for mutant, (noticed, test) in zip(MUTANTS, verdicts, strict=True):
            seed, _, check = noticed.partition(" ")
            count = str(int(seed) + 1) if seed else "-"
            if not noticed and not test:
                survivors.append(mutant.rule)
            row = f"{mutant.rule:<11}{check or '-':<14}{count:>6}  {mutant.what:<58}{test or '-'}"
            print(row, flush=True)
    print(f"{len(MUTANTS)} mutants, {len(survivors)} survive {' '.join(survivors)}".rstrip())
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))

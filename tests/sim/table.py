"""Prints the table of mutants; exit status 1 if one survives."""

import sys
from concurrent.futures import ThreadPoolExecutor

from tests.sim.mutants import MUTANTS, judge


def main(seeds):
    survivors = []
    print(f"{'rule':<11}{'noticed by':<28}{'seeds':>6}  {'mutant':<58}directed test")
    with ThreadPoolExecutor(2) as pool:
        verdicts = pool.map(lambda mutant: judge(mutant.rule, seeds), MUTANTS)
        for mutant, (noticed, test) in zip(MUTANTS, verdicts, strict=True):
            seed, check = (str(noticed[0] + 1), noticed[1]) if noticed else ("-", "-")
            if check == "-" and test == "-":
                survivors.append(mutant.rule)
            print(f"{mutant.rule:<11}{check:<28}{seed:>6}  {mutant.what:<58}{test}", flush=True)
    print(f"{len(MUTANTS)} mutants, {len(survivors)} survive {' '.join(survivors)}".rstrip())
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))

"""Our English against two kept libraries, on the printed lines that the tests hold.

    python benchmarks/text_normalisation.py ours
    python benchmarks/text_normalisation.py wetext          # pip install wetext
    python benchmarks/text_normalisation.py nemo            # pip install nemo-text-processing

A line counts as right when the same letters are said in the same order: capitals, spaces, hyphens,
commas and the British "and" do not count. The full stops inside a line do, for "ends" alone.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

PRINTED = Path(__file__).parents[1] / "tests" / "text" / "printed.json"


def engine(name: str) -> Callable[[str], str]:
    """What turns a printed line into words."""
    if name == "ours":
        from knnvc.text.sentences import normalize

        return normalize
    if name == "wetext":
        import wetext

        return wetext.Normalizer(lang="en", operator="tn").normalize  # type: ignore[no-any-return]
    from nemo_text_processing.text_normalization.normalize import Normalizer

    return Normalizer(input_case="cased", lang="en").normalize  # type: ignore[no-any-return]


def letters(said: str, stops: bool) -> str:
    """`said` without what makes no difference to the ear."""
    said = said.lower().replace("eigh", "a").replace("kilometre", "kilometer")
    said = re.sub(r"\b(hundred|thousand) and (?=[a-z-]+)", r"\1 ", said)
    return re.sub(r"[^\w.%&@$€£#^]" if stops else r"[^\w%&@$€£#^]", "", said).rstrip(".")


def main() -> int:
    """Print the counts of one engine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=["ours", "wetext", "nemo"])
    parser.add_argument("--show", action="store_true", help="print the lines that differ")
    arguments = parser.parse_args()
    began = time.process_time()
    say = engine(arguments.engine)
    print(f"ready after {time.process_time() - began:.1f} s of CPU")
    right = total = digits = 0
    for kind, lines in json.loads(PRINTED.read_text(encoding="utf-8")).items():
        good = 0
        for printed, wanted in lines.items():
            try:
                said = say(printed)
            except Exception as error:  # a library may refuse a line
                said = f"({type(error).__name__})"
            same = letters(said, kind == "ends") == letters(wanted, kind == "ends")
            good += same
            digits += bool(re.search(r"\d", said))
            if arguments.show and not same:
                print(f"  {kind}: {printed!r} -> {said!r}, not {wanted!r}")
        print(f"{kind:<10} {good:3} of {len(lines)}")
        right, total = right + good, total + len(lines)
    print(f"{'all':<10} {right:3} of {total}; digits left in {digits}")
    print(f"{time.process_time() - began:.1f} s of CPU")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""``python -m benchmarks [TOPIC ...]``: all topics, or the named ones, each in a process of its own.

Times of two machines do not compare, so every topic prints ratios between things timed in one run.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path


def main() -> int:
    topics = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help=f"of {', '.join(topics)} (default: all)")
    chosen = parser.parse_args().topics or topics
    if unknown := set(chosen) - set(topics):
        parser.error(f"no topic {', '.join(sorted(unknown))}; there are {', '.join(topics)}")
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}", flush=True)
    failed = []
    for topic in chosen:
        print(f"\n## {topic}", flush=True)
        began = time.monotonic()
        if subprocess.run([sys.executable, "-m", f"benchmarks.{topic}"]).returncode:
            failed.append(topic)
        print(f"({time.monotonic() - began:.0f} s)", flush=True)
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Speed and memory, as ratios within one run: one module per topic, each run as ``python -m benchmarks.TOPIC``."""

"""Pristine pictures -> distorted batches with pseudo-scores calibrated on KADID-10k; the same from real records.

    parts = split_contents(contents("embedded"), seed=0)
    batch = Pool(parts[0], crop=128).batch(step=0, n=32)     # images, quality, spread, type, level, severity, content
"""

from gmiqa.data.synthetic.contents import Content, bring_to_size, contents, split_contents
from gmiqa.data.synthetic.pool import stratified
from gmiqa.data.synthetic.sources import Pool, RecordPool, test_batches, test_set
from gmiqa_core.batch import Batch

__all__ = ["Batch", "Content", "Pool", "RecordPool", "bring_to_size", "contents", "split_contents", "stratified",
           "test_batches", "test_set"]

"""Pristine pictures -> distorted batches with pseudo-scores calibrated on KADID-10k; the same from real records.

    parts = split_references(references("embedded"), seed=0)
    batch = Pool(parts[0], crop=128).batch(step=0, n=32)     # images, quality, spread, type, level, severity, content
"""

from gmiqa.data.synthetic.every_cell import test_batches, test_set
from gmiqa.data.synthetic.pristine import Reference, bring_to_size, references, split_references
from gmiqa.data.synthetic.slots import stratified
from gmiqa.data.synthetic.sources import Pool, RecordPool
from gmiqa_core.batch import Batch

__all__ = ["Batch", "Reference", "Pool", "RecordPool", "bring_to_size", "references", "split_references", "stratified",
           "test_batches", "test_set"]

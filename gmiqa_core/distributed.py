"""Several processes through torchrun, from a notebook: `launch(2, finetune, model, ...)`.

What the workers run must live in an importable module: torchrun starts fresh interpreters (a fork after CUDA has
started breaks).
"""

import copy
import importlib
import os
import pickle
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gmiqa_core.errors import UserError


class Ranks:
    """This process among all processes of the run; alone, if torchrun did not start it."""

    def __init__(self) -> None:
        on = dist.is_available() and dist.is_initialized()
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if on else (0, 1)

    def share(self, value: Any) -> Any:
        """Rank 0's value, on every rank."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def copy_first(self, tensors: list[Tensor]) -> None:
        """Overwrite these tensors with rank 0's, on every rank."""
        for tensor in tensors if self.world > 1 else ():
            dist.broadcast(tensor, src=0)

    def merge(self, steps: list[dict[str, list[Any]]]) -> list[dict[str, float]]:
        """Numbers of some steps, one list per name -> their means over all micro-batches of all processes. Tensors
        leave their device here, all at once."""
        tensors = [v for values in steps for given in values.values() for v in given if isinstance(v, Tensor)]
        numbers = iter(torch.stack([t.double() for t in tensors]).tolist() if tensors else [])
        plain = [{name: [next(numbers) if isinstance(v, Tensor) else float(v) for v in given]
                  for name, given in values.items()} for values in steps]
        everywhere: list[Any] = [plain]
        if self.world > 1:
            everywhere = [None] * self.world
            dist.all_gather_object(everywhere, plain)
        merged = []
        for parts in zip(*everywhere, strict=True):
            names = dict.fromkeys(name for part in parts for name in part)
            merged.append({name: fmean(v for part in parts for v in part.get(name, [])) for name in names})
        return merged

    def sum_gradients(self, params: list[nn.Parameter], others: list[Tensor]) -> None:
        """Sum gradients and other tensors over the processes, in place, in one all-reduce."""
        if self.world == 1:
            return
        present = torch.tensor([float(p.grad is not None) for p in params], device=params[0].device)
        tensors = [present, *(torch.zeros_like(p) if p.grad is None else p.grad for p in params), *others]
        flat = torch.cat([t.detach().reshape(-1) for t in tensors])
        dist.all_reduce(flat)
        summed = [part.view(t.shape).to(t.dtype) for part, t in
                  zip(flat.split([t.numel() for t in tensors]), tensors, strict=True)]
        for p, grad, there in zip(params, summed[1:], summed[0].tolist(), strict=False):
            p.grad = grad if there else None
        for other, total in zip(others, summed[1 + len(params):], strict=True):
            other.copy_(total)


def launch(workers: int, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run function(*args, **kwargs) in `workers` processes that share one process group; return rank 0's result."""
    if function.__module__ == "__main__" or "." in function.__qualname__:
        raise UserError(f"{function.__qualname__} cannot run in several workers: it is defined in a notebook or inside "
                        "another function; expected a function of an importable module, so move it into a .py file")
    if torch.cuda.is_available() and workers > torch.cuda.device_count():
        raise UserError(f"workers = {workers}, but this machine has {torch.cuda.device_count()} GPUs: "
                        "set workers to that number or less")
    job = Path(tempfile.mkdtemp(prefix="gmiqa_job_"))
    kwargs.pop("report", None)  # the notebook of this process draws it; workers print plain lines
    args, kwargs = _models_to(args, kwargs, "cpu")
    (job / "call.pickle").write_bytes(pickle.dumps((function.__module__, function.__qualname__, args, kwargs)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={workers}",
               "-m", "gmiqa_core.distributed", str(job)]
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)  # so that workers find our modules
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "PYTHONPATH": path}
    message, trace, errors = (job / name for name in ("error.txt", "traceback.txt", "stderr.txt"))
    with open(errors, "w") as stderr, subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=stderr,
                                                       text=True) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
    if message.exists():
        raise UserError(message.read_text())
    if process.returncode:
        raise RuntimeError(f"a worker of {function.__qualname__} failed:\n"
                           + (trace if trace.exists() else errors).read_text()[-4000:])
    return pickle.loads((job / "result.pickle").read_bytes())


def _models_to(args: tuple, kwargs: dict[str, Any], device: str) -> tuple[tuple, dict[str, Any]]:
    """Copies of the networks among the arguments on `device`: each worker has a GPU of its own."""
    def moved(value: Any) -> Any:
        return copy.deepcopy(value).to(device) if isinstance(value, nn.Module) else value

    return tuple(map(moved, args)), {name: moved(value) for name, value in kwargs.items()}


def _worker(job: Path) -> None:
    module, name, args, kwargs = pickle.loads((job / "call.pickle").read_bytes())
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        args, kwargs = _models_to(args, kwargs, "cuda")
    dist.init_process_group("nccl" if gpu else "gloo")
    try:
        result = getattr(importlib.import_module(module), name)(*args, **kwargs)
        if dist.get_rank() == 0:
            (job / "result.pickle").write_bytes(pickle.dumps(result))
        dist.barrier()
    except UserError as error:
        (job / "error.txt").write_text(str(error))
        raise
    except Exception:
        (job / "traceback.txt").write_text(traceback.format_exc())
        raise
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    _worker(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # the result is written; threads of pools and of the group would race with the interpreter's own end

"""gmiqa data check|get: check whether a download is complete; fetch the one public benchmark."""

from __future__ import annotations

import argparse

HELP = """check says in one page whether a downloaded data set is complete and what is wrong with it
(exit code 0: it can be used; 2: it cannot). get fetches BIQ2021, the one benchmark that is a public git
repository (about 400 MB); if it is stopped, the same command continues."""

# option of `data check folder` -> help; they are the options of the folder reader
COLUMNS = {
    "csv": "file with the scores", "image": "column of image paths", "score": "column of scores",
    "reference": "column of references", "group": "column of scene groups", "subset": "column of subsets",
    "type": "column of distortion types", "level": "column of levels", "split": "column of the official split",
    "train": "value of the training part in it", "validation": "value of the validation part",
    "test": "value of the test part",
}  # fmt: skip


def add(subparsers: argparse._SubParsersAction) -> None:
    """The arguments of `data`."""
    parser = subparsers.add_parser("data", help="check or fetch data sets", description=HELP)
    actions = parser.add_subparsers(dest="action", metavar="check|get", required=True)

    check = actions.add_parser("check", help="say whether a download is complete and what is wrong")
    check.add_argument("name", help="kadid10k, koniq10k, livec, csiq, live, biq2021, tid2013, spaq or folder")
    check.add_argument("path", help="its folder, as unpacked")
    check.add_argument("--headers", action="store_true", help="look at the image headers only: faster, but finds less")
    columns = check.add_argument_group("for `folder`")
    for name, text in COLUMNS.items():
        columns.add_argument(f"--{name}", help=text)
    columns.add_argument("--low", type=float, help="lower end of the scores")
    columns.add_argument("--high", type=float, help="upper end of the scores")
    columns.add_argument("--lower-is-better", action="store_true", help="a lower score is a better picture")

    get = actions.add_parser("get", help="fetch BIQ2021 (about 400 MB)")
    get.add_argument("name", help="biq2021")
    get.add_argument("path", help="a new or empty folder, or one of an earlier fetch")
    get.add_argument("--url", help="another copy of the repository")


def run(args: argparse.Namespace) -> int:
    """Carry out `data check` or `data get`."""
    return _check(args) if args.action == "check" else _get(args)


def _check(args: argparse.Namespace) -> int:
    from gmiqa.data import datasets
    from gmiqa.runs import progress

    options = {name: getattr(args, name) for name in (*COLUMNS, "low", "high") if getattr(args, name) is not None}
    if args.lower_is_better:
        options["higher_is_better"] = False
    report = datasets.check(args.name, args.path, decode=not args.headers,
                            progress=lambda items, total: progress(items, total, "images"), **options)  # fmt: skip
    print(report.text)
    return 0 if report.ok else 2


def _get(args: argparse.Namespace) -> int:
    from gmiqa.data.datasets import biq2021
    from gmiqa.data.datasets.download import get
    from gmiqa.runs import Progress

    bars: list[Progress] = []

    def show(done: int, total: int) -> None:
        if not bars:
            bars.append(Progress("files", total))
        bars[0].update(done - bars[0].count)

    url = args.url or biq2021.REPOSITORY
    print(f"fetching {args.name} from {url} into {args.path}", flush=True)
    try:
        print(get(args.name, args.path, confirmed=True, url=url, progress=show))
    except KeyboardInterrupt:
        print("stopped; the same command continues")
        return 130
    return 0

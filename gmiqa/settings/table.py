"""Every parameter of every notebook, once. The defaults are the quick preset; params/*.yaml says what differs from it.

Each has one line: name, type, default, help, then unit, range or choices, and the stages whose notebooks take it.
A notebook's parameters cell is made from this table (``python -m gmiqa.settings --write``). Help texts
hold no '=' and no quotes: papermill's --help-notebook drops such lines.
"""

from __future__ import annotations

from dataclasses import replace

from gmiqa.settings.names import ABLATION_ROWS, BASE_NETWORKS, BASELINES, DEVICES, DISTORTIONS, SPLITS
from gmiqa.settings.schema import Parameter

START, DATA, META, GRAPH, FINETUNE = (
    "00_start_here", "10_data_and_distortions", "20_meta_pretraining", "30_distortion_graphs", "40_fine_tuning")
EVALUATE, ABLATE, EMBED, METAQAP, REPORT = (
    "50_evaluation", "60_ablations", "70_embeddings", "80_metaqap", "90_report")
STAGES = (START, DATA, META, GRAPH, FINETUNE, EVALUATE, ABLATE, EMBED, METAQAP, REPORT)
TRAINED = (META, GRAPH, FINETUNE, ABLATE)  # the three trainings of GMIQA, and the ablations over all of them
PRISTINE = tuple(stage for stage in STAGES if stage not in (START, REPORT))  # notebooks that read pristine pictures
BUILT = (META, ABLATE)  # notebooks that build the network
TARGET = (DATA, FINETUNE, EVALUATE, ABLATE, METAQAP)  # notebooks that read the target data set

PRESETS = ("tiny", "quick", "cpu", "lite", "paper", "repo")
# Conditions of only_if: where one does not hold, a notebook may leave the parameter unread.
SYNTHETIC, REAL, FOLDER = "dataset=synthetic", "dataset!=synthetic", "dataset=folder"
CROSS = REAL + " and protocol=cross"
# Notebook 60's trainings read only the parameters of what its rows train. The row `full` trains everything, and an
# empty list of rows means all of them.
WHOLE = "ablation_rows=full| and meta_steps!=0 and graph_steps!=0 and synthetic_share!=0.0"
TARGETS = ("synthetic", "kadid10k", "koniq10k", "livec", "csiq", "live", "tid2013", "spaq", "biq2021", "folder")

P = Parameter

_PARAMETERS = [
    # every notebook
    P("run", str, "outputs/quick", "folder of this run", stages=STAGES),
    P("seed", int, 0, "seed of all random draws", low=0, stages=STAGES),
    P("device", str, "auto", "auto, cpu, cuda or cuda:1", choices=DEVICES, stages=STAGES),
    P("threads", int, 0, "threads of a process, 0 for the number that the chain plans, or all cores by hand", low=0,
      stages=PRISTINE),
    P("data", str, "embedded", "pristine pictures: embedded or a folder", path=True, words=("embedded",),
      stages=PRISTINE, only_if=SYNTHETIC),
    P("test_data", str, "", "other pristine pictures, to test on: a folder, empty for a part of data", path=True,
      stages=PRISTINE, only_if=SYNTHETIC),

    # shared by several stages
    P("preset", str, "quick", "network preset", choices=PRESETS, stages=BUILT),
    P("imagenet", str, "none", "backbone start: none, package, torchvision or a weights file", path=True,
      words=("none", "package", "torchvision"), stages=BUILT),
    P("precision", str, "auto", "arithmetic of training", choices=("auto", "fp32", "bf16"),
      stages=(META, GRAPH, FINETUNE)),  # the ablations train in single precision
    P("workers", int, 1, "training processes, started with torchrun", low=1, high=64, stages=TRAINED),
    P("compile", str, "auto", "auto: a GPU repeats recordings of its steps (CUDA graphs); or off",
      choices=("auto", "off"), stages=TRAINED),
    P("held_out", list, ["jpeg", "lens_blur", "white_noise"], "types that only fine-tuning sees",
      choices=DISTORTIONS, stages=TRAINED),
    P("pool_reuse", int, 24, "times that each distorted picture is drawn", low=1, stages=TRAINED),
    P("pool_shrink", float, 1.0, "smallest size of contents before distortion, as a share of their own",
      low=0.1, high=1.0, stages=TRAINED, only_if="pretrain_on=synthetic"),
    P("pretrain_on", str, "synthetic", "pictures of meta-learning and graphs: synthetic, or KADID-10k with its scores",
      choices=("synthetic", "kadid10k"), stages=(META, GRAPH, ABLATE)),
    P("pretrain_path", str, "", "folder of KADID-10k, for pre-training on it", path=True,
      stages=(META, GRAPH, ABLATE), only_if="pretrain_on!=synthetic"),
    P("turn_crops", bool, False, "crops turned by quarter turns, in training and at test", stages=TRAINED),
    P("synthetic_side", int, 0, "longer side of distorted pictures before cropping, 0 to leave it",
      unit="px", low=0, stages=(GRAPH, FINETUNE, ABLATE)),
    P("dataset", str, "synthetic", "target data set", choices=TARGETS, stages=TARGET),
    P("dataset_path", str, "", "folder of the target data set as its authors ship it", path=True, stages=TARGET,
      only_if=REAL),
    P("csv", str, "", "folder data set: CSV file of scores", path=True, stages=TARGET, only_if=FOLDER),
    P("csv_image", str, "image", "folder data set: column of file names", stages=TARGET, only_if=FOLDER),
    P("csv_score", str, "score", "folder data set: column of scores", stages=TARGET, only_if=FOLDER),
    P("csv_reference", str, "", "folder data set: column of references", stages=TARGET, only_if=FOLDER),
    P("csv_group", str, "", "folder data set: column of scene groups", stages=TARGET, only_if=FOLDER),
    P("csv_subset", str, "", "folder data set: column of subsets", stages=TARGET, only_if=FOLDER),
    P("csv_split", str, "", "folder data set: column of the official split", stages=TARGET, only_if=FOLDER),
    P("score_low", float, 0.0, "folder data set: lower end of the scores", stages=TARGET, only_if=FOLDER),
    P("score_high", float, 1.0, "folder data set: upper end of the scores", stages=TARGET, only_if=FOLDER),
    P("score_rises", bool, True, "folder data set: a higher score is a better picture", stages=TARGET, only_if=FOLDER),
    P("split", str, "0", "stored split: 0 to 9 or official", choices=SPLITS,
      stages=(FINETUNE, EVALUATE, ABLATE, METAQAP), only_if=REAL + " and protocol=splits|official"),
    P("max_side", int, 512, "longer side above which pictures are shrunk", unit="px", low=32,
      stages=(FINETUNE, ABLATE)),

    # 00 start here
    P("pictures", str, "", "folder of pictures to score, empty for the embedded ones", path=True, stages=(START,)),
    P("checkpoint", str, "", "checkpoint to score with, empty for the bundled model", path=True, stages=(START,)),

    # 10 data and distortions
    P("grid_content", str, "chelsea", "content shown in the 25 x 5 grid, else the first", stages=(DATA,)),
    P("grid_side", int, 128, "side of the part shown in the grid", unit="px", low=16, high=384, stages=(DATA,)),
    P("curve_contents", int, 4, "contents behind the level curves", low=1, stages=(DATA,)),

    # 20 meta pre-training
    P("self_calibrated", bool, True, "self-calibrated blocks, false for plain ones", stages=(META, ABLATE)),
    P("pyramid", list, [], "levels of the spatial pyramid, empty for the preset", items=int, low=1,
      stages=(META, ABLATE)),
    P("graph", str, "full", "full, mlp of equal width in place of the edge GCN, or none for V only",
      choices=("full", "mlp", "none"), stages=(META, ABLATE)),
    P("edge_depth", int, 0, "layers of the edge GCN, 0 for the preset", low=0, high=8, stages=(META, ABLATE)),
    P("meta_algorithm", str, "maml", "meta-learner", choices=("maml", "meta-sgd"), stages=(META, ABLATE)),
    P("meta_first_order", bool, True, "leave second derivatives out", stages=(META, ABLATE)),
    P("meta_steps", int, 60, "outer steps", low=0, stages=(META, ABLATE)),
    P("meta_lr", float, 0.001, "outer learning rate", low=0, stages=(META, ABLATE)),
    P("meta_tasks", int, 2, "tasks in a meta-batch", low=1, stages=(META, ABLATE)),
    P("meta_support", int, 10, "support pictures of a task", low=2, stages=(META, ABLATE)),
    P("meta_query", int, 10, "query pictures of a task", low=2, stages=(META, ABLATE)),
    P("meta_inner", str, "adam", "inner update", choices=("sgd", "adam"), stages=(META, ABLATE)),
    P("meta_inner_lr", float, 0.0003, "inner learning rate, initial value for meta-sgd", low=0, stages=(META, ABLATE)),
    P("meta_inner_steps", int, 1, "inner steps", low=1, stages=(META, ABLATE)),
    P("meta_crop", int, 64, "side of training crops", unit="px", low=32, stages=(META, ABLATE)),
    P("meta_shots", list, [5, 20], "labelled pictures for adaptation", items=int, low=1, stages=(META,)),
    P("meta_compare", list, ["plain"], "networks trained beside meta_algorithm, for the adaptation experiment",
      choices=("maml", "meta-sgd", "plain"), stages=(META,)),
    P("meta_seeds", int, 3, "seeds of the adaptation experiment, fewer than 3 decide nothing", low=1, stages=(META,)),
    P("meta_folds", int, 1, "sets of types held out in turn, the first is held_out, 5 hold out every type once", low=1,
      high=5, stages=(META,)),

    # 30 distortion graphs
    P("graph_steps", int, 800, "steps of graph pre-training", low=0, stages=(GRAPH, ABLATE)),
    P("graph_lr", float, 0.003, "learning rate of graph pre-training", low=0, stages=(GRAPH, ABLATE)),
    P("graph_sizes", list, [1, 4, 16], "nodes of a graph, drawn per step", items=int, low=1, stages=(GRAPH, ABLATE)),
    P("graph_batch", int, 8, "pictures of each role in a step: anchor, positive, negative", low=1,
      stages=(GRAPH, ABLATE)),
    P("graph_mixed", int, 48, "pictures of all types beside the graphs, for naming and quality", low=0,
      stages=(GRAPH, ABLATE)),
    P("graph_crop", int, 96, "side of training crops", unit="px", low=32, stages=(GRAPH, ABLATE)),
    P("graph_margin", float, 0.1, "margin of the triplet loss", low=0, stages=(GRAPH, ABLATE)),
    P("graph_lambda", float, 0.25, "weight of the level loss", low=0, stages=(GRAPH, ABLATE)),
    P("graph_normalise_codes", bool, True, "type codes of length 1 in the triplet loss, the paper has free ones",
      stages=(GRAPH, ABLATE)),
    P("graph_detach_pairs", bool, False, "gradient through the anchor graph alone", stages=(GRAPH, ABLATE)),
    P("graph_classify", float, 1.0, "weight of the loss of naming each picture, 0 in the paper", low=0,
      stages=(GRAPH, ABLATE)),
    P("graph_quality", float, 0.5, "weight of the loss of the score head, 0 in the paper", low=0,
      stages=(GRAPH, ABLATE)),
    P("graph_arms", list, [], "losses to compare ours with, on the same network: paper or paper_unit",
      choices=("paper", "paper_unit"), stages=(GRAPH,)),
    P("level_target", str, "severity", "target of the level branch", choices=("severity", "raw"),
      stages=(GRAPH, ABLATE)),
    P("level_loss", str, "kl", "loss of the level branch", choices=("kl", "sampled_mse"), stages=(GRAPH, ABLATE)),
    P("freeze_backbone", bool, False, "keep the backbone fixed in graph pre-training", stages=(GRAPH, ABLATE)),

    # 40 fine-tuning
    P("finetune_steps", int, 340, "steps of fine-tuning", low=0, stages=(FINETUNE, ABLATE),
      only_if="finetune_epochs=0"),
    P("finetune_epochs", int, 0, "epochs of fine-tuning in place of finetune_steps, 0 to use those", low=0,
      stages=(FINETUNE, ABLATE)),
    P("finetune_labels", int, 60, "labelled pictures of the held-out types, when the data set is synthetic", low=2,
      stages=(FINETUNE, ABLATE), only_if=SYNTHETIC),
    P("finetune_contents", int, 6, "unseen contents to test on, when the data set is synthetic", low=1,
      stages=(FINETUNE, ABLATE), only_if=SYNTHETIC),
    P("finetune_batch", int, 16, "pictures in a batch", low=1, stages=(FINETUNE, ABLATE)),
    P("finetune_lr_backbone", float, 0.001, "learning rate of the backbone", low=0, stages=(FINETUNE, ABLATE)),
    P("finetune_lr_head", float, 0.001, "learning rate of everything else", low=0, stages=(FINETUNE, ABLATE)),
    P("finetune_decay", float, 0.0, "weight decay", low=0, stages=(FINETUNE, ABLATE)),
    P("finetune_ema", float, 0.0, "decay of a running mean of the weights, 0 for none", low=0, high=0.9999,
      stages=(FINETUNE, ABLATE)),
    P("finetune_loss", str, "nll", "loss on the scores", choices=("nll", "mse", "quality_aware"),
      stages=(FINETUNE, ABLATE)),
    P("finetune_graph", str, "singleton", "graph behind a score", choices=("singleton", "bank", "batch"),
      stages=(FINETUNE, ABLATE)),
    P("finetune_graph_sizes", list, [1, 4], "nodes of the synthetic graphs in fine-tuning", items=int, low=1,
      stages=(FINETUNE, ABLATE)),
    P("finetune_crop", int, 128, "side of training crops, 0 for whole pictures", unit="px", low=0,
      stages=(FINETUNE, ABLATE)),
    P("finetune_views", int, 8, "crops averaged at test, 0 for the whole picture", low=0, stages=(FINETUNE, ABLATE)),
    P("synthetic_crop", int, 128, "side of crops in synthetic batches", unit="px", low=32, stages=(FINETUNE, ABLATE)),
    P("synthetic_share", float, 0.7, "share of synthetic batches in fine-tuning", low=0, high=0.9,
      stages=(FINETUNE, ABLATE)),

    # 50 evaluation
    P("baselines", list, ["mean", "file_size", "brightness", "sharpness", "brisque_svr"],
      "methods to compare with", choices=BASELINES, stages=(EVALUATE,)),
    P("protocol", str, "splits", "which pictures train and test: splits, official, cross or leave_subset_out",
      choices=("splits", "official", "cross", "leave_subset_out"), stages=(EVALUATE,), only_if=REAL),
    P("splits", int, 2, "stored splits to run", low=1, high=10, stages=(EVALUATE,), only_if=REAL),
    P("other_dataset", str, "koniq10k", "cross: data set to test on", choices=TARGETS[1:-1],
      stages=(EVALUATE, METAQAP), only_if=CROSS + " and other_path!="),
    P("other_path", str, "", "cross: folder of that data set", path=True, stages=(EVALUATE, METAQAP),
      only_if=CROSS),
    P("evaluate_levels", list, [1, 3, 5], "levels of the synthetic test pictures", items=int, low=1, high=5,
      stages=(EVALUATE,), only_if=SYNTHETIC),
    P("evaluate_labels", int, 475, "synthetic pictures that the baselines learn from, on the references of the network",
      low=25, stages=(EVALUATE,),
      only_if=SYNTHETIC),
    P("evaluate_contents", int, 4, "unseen contents of the synthetic test pictures", low=2, stages=(EVALUATE,),
      only_if=SYNTHETIC),
    P("bootstrap", int, 500, "bootstrap samples behind an interval", low=100,
      stages=(FINETUNE, EVALUATE, ABLATE, EMBED, METAQAP)),

    # 60 ablations
    P("ablation_rows", list, ["BL", "DGR", "SC", "Meta", "full"], "rows to run, empty for all",
      choices=ABLATION_ROWS, stages=(ABLATE,)),
    P("ablation_seeds", int, 3, "seeds of every row, fewer than 3 decide nothing", low=1, stages=(ABLATE,)),
    P("ablation_share", float, 0.01, "share of its usual steps that each training of a row gets", low=0.0001, high=1.0,
      stages=(ABLATE,)),
    P("ablation_pictures", int, 100, "test pictures, spread evenly over the target, 0 for all", low=0,
      stages=(ABLATE,)),
    P("ablation_plain", list, [], "stages replaced by plain training with equal computing",
      choices=("meta", "graph"), stages=(ABLATE,)),
    P("ablation_margin", float, 0.02, "difference of SROCC below which two rows count as equal", low=0.0,
      stages=(ABLATE,)),

    # 70 embeddings
    P("embed_method", str, "umap", "map of the codes", choices=("umap", "pca"), stages=(EMBED,)),
    P("embed_contents", int, 6, "unseen contents to embed", low=2, stages=(EMBED,)),
    P("embed_crop", int, 128, "side of the pictures that are embedded", unit="px", low=32, stages=(EMBED,)),
    P("umap_neighbours", int, 15, "neighbours in UMAP", low=2, stages=(EMBED,)),
    P("umap_min_dist", float, 0.5, "least distance of points in UMAP", low=0, high=1, stages=(EMBED,)),

    # 80 MetaQAP
    P("qap_backbones", list, ["small", "lite0"], "base networks", choices=BASE_NETWORKS, stages=(METAQAP,)),
    P("qap_types", list, ["gaussian_blur", "jpeg", "white_noise", "darken", "pixelate"], "types of a synthetic target",
      choices=DISTORTIONS, stages=(METAQAP,), only_if=SYNTHETIC),
    P("qap_side", int, 160, "longer side of the target pictures", unit="px", low=32, stages=(METAQAP,)),
    P("qap_crop", int, 96, "side of training crops", unit="px", low=32, stages=(METAQAP,)),
    P("qap_batch", int, 16, "pictures in a batch", low=4, stages=(METAQAP,)),
    P("qap_lr", float, 0.001, "learning rate", low=0, stages=(METAQAP,)),
    P("qap_images", int, 250, "distorted pictures in an epoch of pre-training, each drawn four times", low=1,
      stages=(METAQAP,)),
    P("qap_pretrain_steps", int, 60, "steps of quality-aware pre-training", low=1, stages=(METAQAP,)),
    P("qap_finetune_steps", int, 30, "fine-tuning steps of a base network", low=1, stages=(METAQAP,)),
    P("qap_mse_weight", float, 0.5, "weight of the squared error", low=0, high=1, stages=(METAQAP,)),
    P("qap_rank_weight", float, 0.5, "weight of one minus soft Spearman", low=0, high=1, stages=(METAQAP,)),
    P("qap_temperature", float, 0.1, "temperature of the soft ranks", low=1e-6, stages=(METAQAP,)),
    P("qap_checkpoint", str, "", "checkpoint of a pre-trained GMIQA that joins the stack, empty for none", path=True,
      stages=(METAQAP,)),
    P("qap_folds", int, 3, "folds behind the stacking", low=2, stages=(METAQAP,)),
    P("qap_drop", float, 0.05, "members with a smaller weight are dropped", low=0, stages=(METAQAP,)),
    P("qap_margin", float, 0.02, "difference of SROCC below which two methods count as equal", low=0.0,
      stages=(METAQAP,)),
    P("qap_seeds", int, 3, "seeds of each comparison, fewer than 3 decide nothing", low=1, stages=(METAQAP,)),
]


def _as_declared(parameter: Parameter) -> Parameter:
    if ABLATE in parameter.stages and {META, GRAPH, FINETUNE} & set(parameter.stages):
        return replace(parameter, only_if=" and ".join(filter(None, (parameter.only_if, WHOLE))))
    return parameter


TABLE: dict[str, Parameter] = {parameter.name: _as_declared(parameter) for parameter in _PARAMETERS}
if len(TABLE) != len(_PARAMETERS):
    names = [parameter.name for parameter in _PARAMETERS]
    raise ValueError(f"parameters declared twice: {sorted({name for name in names if names.count(name) > 1})}")

"""The folder that a reader of the pages and notebooks stands in: data, pictures, earlier runs."""

import importlib
import json
import shutil
import sys

import numpy as np
import onnx
import pytest
import torch
from omegaconf import OmegaConf
from onnx import helper
from PIL import Image
from torchvision.models import get_model

TINY = (
    "backbone=mobilenetv4_tiny",
    "head.init=projection",
    "codec.input_size=[48,64]",
    "data.batch_size=4",
    "data.num_workers=0",
    "trainer=cpu",
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=1",
    "callbacks.pictures.persons=2",
)


def run_main(module, *words):
    """Run an entry point in this process, as its command line would."""
    before, sys.argv = sys.argv, [f"kdpose.{module}", *words]
    try:
        importlib.import_module(f"kdpose.{module}").main()
    finally:
        sys.argv = before


class Reader:
    """Who follows a page, in the folder ``root``."""

    def __init__(self, root):
        self.root = root
        self.followed = set()  # commands that need not be run a second time

    def main(self, module, *words):
        """An entry point that also sees the configurations that a page has written."""
        run_main(module, *words, f"hydra.searchpath=[file://{self.root}/conf]")

    def train(self, *words):
        """A training of one step, with the parts that the page has written."""
        given = {word.partition("=")[0] for word in words}
        tiny = [word for word in TINY if word.partition("=")[0] not in given]
        if any("stage" in word for word in words) and "teacher=poses" not in words:
            # such a teacher is no better than chance
            tiny.append("teacher.force=true")
        self.main("train", *words, *tiny)

    def earlier_run(self, *names):
        """Leave in each ``runs/NAME`` what an earlier command would have left."""
        for name in names:
            folder = self.root / "runs" / name
            if not folder.exists():
                self._leave(name, folder)

    def _leave(self, name, folder):
        whose = "lspet_stage2" if "stage2" in name else "lspet_baseline"
        shutil.copytree(self.root / "trained" / whose, folder)
        (folder / "last.ckpt").unlink()
        checkpoint = torch.load(folder / "best.ckpt", weights_only=True)
        checkpoint["kdpose"]["experiment"] = name
        torch.save(checkpoint, folder / "best.ckpt")
        cfg = OmegaConf.load(folder / "config.yaml")
        OmegaConf.save(OmegaConf.merge(cfg, {"name": name}), folder / "config.yaml")


def lay_out(crowd, root):
    """Data sets in their layouts, and the reader's own files; all are the same few crowds."""
    files = ("crowdpose_trainval", "crowdpose_test")
    layouts = {
        "synthetic": (files, ["images"]),
        "crowdpose": (files, ["images"]),
        "lspet": (("lspet_train", "lspet_val"), ["images/train", "images/val"]),
        "coco": (
            ("person_keypoints_train2017", "person_keypoints_val2017"),
            ["train2017", "val2017"],
        ),
        "mine": (("train", "val"), ["images"]),
        "photos": (("train", "val"), ["images"]),
    }
    for name, (splits, images) in layouts.items():
        folder = root / "data" / name
        (folder / "annotations").mkdir(parents=True)
        for old, new in zip(files, splits, strict=True):
            shutil.copy(crowd / f"annotations/{old}.json", folder / f"annotations/{new}.json")
        for place in images:
            (folder / place).parent.mkdir(exist_ok=True)
            (folder / place).symlink_to(crowd / "images")
    for name in ("A.json", "all.json"):
        shutil.copy(crowd / "annotations/crowdpose_test.json", root / name)
    truth = json.loads((root / "A.json").read_text())
    (root / "photos").mkdir()
    for image in truth["images"][:2]:
        shutil.copy(crowd / "images" / image["file_name"], root / "photos")
    shutil.copy(crowd / "images" / truth["images"][0]["file_name"], root / "photo.jpg")
    found = [
        {key: a[key] for key in ("image_id", "category_id", "bbox", "keypoints")} | {"score": 0.9}
        for a in truth["annotations"]
    ]
    for name in ("DETECTIONS.json", "RESULTS.json"):
        (root / name).write_text(json.dumps(found))
    lay_out_teachers(root)
    write_annotators(root, truth)
    write_video(root / "video.mp4")


def write_annotators(root, truth):
    """The same persons as two annotators label them, each a pixel off."""
    noise = np.random.default_rng(0)
    for annotator in ("ANNA", "BEN"):
        for person in truth["annotations"]:
            placed = np.array(person["keypoints"], float).reshape(-1, 3)
            placed[:, :2] += noise.normal(0, 1, placed[:, :2].shape)
            person["keypoints"] = placed.ravel().tolist()
        (root / f"{annotator}.json").write_text(json.dumps(truth))


def lay_out_teachers(root):
    """Boxes of persons without labels, and networks of other projects with COCO's joints."""
    labelled = json.loads((root / "data/photos/annotations/train.json").read_text())
    for person in labelled["annotations"]:
        del person["keypoints"], person["num_keypoints"]
    labelled["categories"] = [{"id": 1, "name": "person"}]
    (root / "data/photos/boxes.json").write_text(json.dumps(labelled))
    (root / "models").mkdir()
    maps = [
        helper.make_node("MaxPool", ["image"], ["small"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Concat", ["small"] * 6, ["many"], axis=1),
        helper.make_node("Slice", ["many", "from", "to", "axis"], ["heatmaps"]),
    ]
    numbers = {"from": 0, "to": 17, "axis": 1}
    graph = helper.make_graph(
        maps,
        "pose",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ("n", 3, 64, 48))],
        [helper.make_tensor_value_info("heatmaps", onnx.TensorProto.FLOAT, None)],
        [helper.make_tensor(k, onnx.TensorProto.INT64, [1], [n]) for k, n in numbers.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(
        helper.make_model(graph, opset_imports=opset, ir_version=8), root / "models/pose.onnx"
    )
    transformers = pytest.importorskip("transformers", reason="the extra kdpose[huggingface]")
    torch.manual_seed(0)
    backbone = transformers.VitPoseBackboneConfig(
        image_size=(64, 48), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        out_indices=[1],
    )  # fmt: skip
    net = transformers.VitPoseForPoseEstimation(
        transformers.VitPoseConfig(backbone_config=backbone, num_labels=17)
    )
    torch.nn.init.constant_(net.head.conv.bias, 0.5)
    net.save_pretrained(root / "models/vitpose")
    rcnn = get_model("keypointrcnn_resnet50_fpn", weights=None, weights_backbone=None)
    torch.save(rcnn.state_dict(), root / "models/keypointrcnn.pth")


def write_video(path):
    av = pytest.importorskip("av", reason="the extra kdpose[video] is not installed")
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for shade in (0, 100, 200):
            pixels = np.full((120, 160, 3), shade, np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode())


def decide(ckpt):
    """Widen the gaps between bins, which after one step are too narrow for an export's gate."""
    checkpoint = torch.load(ckpt, weights_only=True)
    weights, noise = checkpoint["state_dict"], torch.Generator().manual_seed(0)
    weights["net.head.final_layer.weight"] *= 1000
    for axis in "xy":  # or the last bins are equal
        weight = weights[f"net.head.mlp_head_{axis}.weight"]
        weight += 0.05 * torch.randn(weight.shape, generator=noise)
    torch.save(checkpoint, ckpt)


@pytest.fixture(scope="package")
def reader(crowd, tmp_path_factory):
    """A reader with data and two networks of one step: a student, and the same one refined."""
    root = tmp_path_factory.mktemp("reader")
    lay_out(crowd, root)
    where = (f"data_dir={root}/data", f"runs={root}/trained", *TINY)
    run_main("train", "+experiment=baseline", "dataset=lspet", *where)
    student = f"{root}/trained/lspet_baseline/best.ckpt"
    decide(student)
    labels = ("loss=[refine_label]", "~teacher")
    run_main(
        "train", "+experiment=stage2", "dataset=lspet", f"stage1_ckpt={student}", *labels, *where
    )
    return Reader(root)


@pytest.fixture(autouse=True)
def there(reader, monkeypatch):
    """Stand in the reader's folder, where Python finds the parts that a page writes."""
    monkeypatch.chdir(reader.root)
    for name in ("KDPOSE_DATA", "KDPOSE_RUNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # predict raises it
    for package in ("losses", "heads", "codecs", "refiners"):
        module = importlib.import_module(f"kdpose.{package}")
        own = str(reader.root / "kdpose" / package)
        monkeypatch.setattr(module, "__path__", [*module.__path__, own])

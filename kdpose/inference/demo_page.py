"""A local web page that shows the poses of a network."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from kdpose.checkpoints.load import chosen, load_net
from kdpose.cli import console
from kdpose.data.bundled import EXAMPLES
from kdpose.data.sources.images import open_image
from kdpose.inference.boxes import BoxSource, box_source, whole_image
from kdpose.inference.detector import choose_detector
from kdpose.inference.poses import ImagePoses
from kdpose.inference.predictor import Predictor
from kdpose.inference.same_origin import SameOrigin
from kdpose.pose_net import RefinedPoseNet

_UPLOAD = 64 * 2**20  # bytes of an uploaded file at most
_LARGEST = 1600  # pixels; larger photographs are scaled down for the browser


class Demo:
    """Answers the page.

    Args:
        predictor: of the network that is shown.
        detect: finds the persons; None: no detector, the picture shows one person.
    """

    def __init__(self, predictor: Predictor, detect: BoxSource | None) -> None:
        self.predictor = predictor
        self.stage1 = None
        if isinstance(predictor.net, RefinedPoseNet):
            self.stage1 = predictor.stage1()
        self.detect = detect
        self._folder = tempfile.TemporaryDirectory(prefix="kdpose-demo-")
        self.folder = self._folder.name

    def answer(
        self, path: str | None, detect: bool, threshold: float
    ) -> tuple[Any, list[list[Any]], str | None]:
        """Find and draw the poses of a picture.

        Args:
            path: of the picture; None: no picture yet.
            detect: find persons first.
            threshold: minimum score of a drawn joint, relative to the best joint's, in 0..1:
                what counts as a good score depends on the network.

        Returns:
            The drawn picture, or a pair of stage 1 and refined; a row per joint with its name and
            scores; the path of the COCO results.
        """
        if path is None:
            return None, [], None
        picture = open_image(path)
        picture.thumbnail((_LARGEST, _LARGEST))
        boxes = self.detect if detect and self.detect is not None else whole_image
        poses = self.predictor(picture, *boxes(picture, 1))
        least = threshold * float(poses.scores.max(initial=0))
        drawn: Any = _drawn(poses, least)
        if self.stage1 is not None:
            initial = self.stage1(picture, poses.boxes, poses.box_scores)
            drawn = (_drawn(initial, least), drawn)
        result = Path(tempfile.mkdtemp(dir=self.folder)) / "poses.json"
        result.write_text(json.dumps(poses.to_coco(image_id=1)))
        scores = poses.scores.T.astype(float).round(3).tolist()
        rows = [[name, *row] for name, row in zip(poses.skeleton.joints, scores, strict=True)]
        return drawn, rows, str(result)


def _drawn(poses: ImagePoses, threshold: float) -> NDArray[np.uint8]:
    return poses.draw(threshold, boxes=True)


def build_page(demo: Demo, title: str) -> Any:
    """The page as Gradio blocks; every control calls :meth:`Demo.answer`.

    Uploads lie in the demo's own folder, which is removed at exit.

    Raises:
        ValueError: Gradio is not installed.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before it is imported
    os.environ["GRADIO_TEMP_DIR"] = demo.folder
    try:
        import gradio
    except ImportError:
        raise ValueError("the demo needs the extra: pip install 'kdpose[demo]'") from None
    with gradio.Blocks(title="kdpose") as page:
        gradio.Markdown(f"# kdpose\n{title}")
        with gradio.Row():
            with gradio.Column():
                inputs = _inputs(demo, gradio)
            with gradio.Column():
                if demo.stage1 is None:
                    drawn: Any = gradio.Image(label="poses", interactive=False)
                else:
                    drawn = gradio.ImageSlider(label="stage 1 | refined", interactive=False)
                download = gradio.DownloadButton("COCO results (JSON)")
        table = gradio.Dataframe(label="scores per joint", headers=["joint"], interactive=False)
        answer, outputs = _answering(demo, gradio), [drawn, table, download]
        *others, threshold = inputs
        for changes in (*(control.change for control in others), threshold.release):
            changes(answer, inputs, outputs)
    return page


def _inputs(demo: Demo, gradio: Any) -> list[Any]:
    """The controls for the arguments of :meth:`Demo.answer`."""
    picture = gradio.Image(label="picture", type="filepath", sources=["upload", "webcam"])
    detect = gradio.Checkbox(
        demo.detect is not None,
        label="find persons first (otherwise the picture shows one person)",
        interactive=demo.detect is not None,
    )
    gradio.Examples([str(file) for file in EXAMPLES], picture, label="photographs")
    label = "minimum joint score, relative to the best joint"
    threshold = gradio.Slider(0, 1, demo.predictor.least_score, label=label)
    return [picture, detect, threshold]


def _answering(demo: Demo, gradio: Any) -> Callable[..., tuple[Any, Any, Any]]:
    """What the page's controls call."""

    def answer(path: str | None, detect: bool, threshold: float) -> tuple[Any, Any, Any]:
        try:
            drawn, rows, result = demo.answer(path, detect, threshold)
        except OSError as error:
            raise gradio.Error(str(error)) from None
        persons = len(rows[0]) - 1 if rows else 0
        headers = ["joint", *(f"person {i + 1}" for i in range(persons))]
        return drawn, gradio.Dataframe(rows, headers=headers), result

    return answer


def serve(cfg: DictConfig) -> None:
    """Show the page until Ctrl+C.

    Args:
        cfg: ``conf/demo.yaml``'s keys.
    """
    ckpt = chosen(cfg.ckpt)
    predictor = Predictor(load_net(ckpt), cfg.device, cfg.flip)
    boxes = box_source(str(cfg.boxes), choose_detector(**cfg.detector), predictor.device)
    demo = Demo(predictor, None if boxes is whole_image else boxes)
    title = f"{predictor.description.get('experiment')}: {ckpt.absolute()}"
    page = build_page(demo, title)
    console.print(f"{title}\nCtrl+C stops it", soft_wrap=True)
    page.launch(**launch_options(cfg.host), server_port=cfg.port, inbrowser=cfg.open)


def launch_options(host: str) -> dict[str, Any]:
    """How the page is served: for its own address and to its own page, with bounded uploads.

    Args:
        host: ``127.0.0.1``; an address of all interfaces, ``0.0.0.0``, has no name of its own.
    """
    from starlette.middleware import Middleware

    local = ["127.0.0.1", "localhost", "::1"]
    everywhere = host in ("0.0.0.0", "::")
    hosts = [] if everywhere else local if host in local else [host]
    return {
        "server_name": host,
        "max_file_size": _UPLOAD,
        "quiet": False,
        "app_kwargs": {"middleware": [Middleware(SameOrigin, hosts=hosts)]},
    }

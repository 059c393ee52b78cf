"""Write COCO-keypoints files: ``kdpose convert from=yolo source=labels out=A.json``.

``to=cvat`` and the like write predictions as pre-labels for people to correct;
``from=images`` writes the boxes of the persons that a detector finds, for a teacher to label.
"""

from pathlib import Path

from omegaconf import DictConfig

from kdpose.cli import console, entry_point
from kdpose.runtime.whole import write_json


@entry_point("convert")
def main(cfg: DictConfig) -> None:
    """Entry point."""
    out = Path(cfg.out)
    if (cfg["from"] is None) == (cfg.to is None):
        raise ValueError("set from=FORMAT to read annotations, or to=FORMAT to write predictions")
    if cfg.to is not None:
        from kdpose.formats.writers import write

        _say(write(cfg.to, cfg.source, cfg.annotations, cfg.skeleton, cfg.min_score, out))
        return
    if cfg["from"] == "images":
        from kdpose.skeletons.files import named_skeleton
        from kdpose.training.photographs import find_boxes, write_boxes

        skeleton = named_skeleton(cfg.skeleton or "coco")
        write_boxes(out, find_boxes(cfg.source, skeleton, cfg.images, cfg.detector, cfg.device))
        return
    from kdpose.formats.readers import read_splits

    splits = read_splits(cfg["from"], cfg.source, cfg.images, cfg.skeleton, cfg.category)
    for split, data in splits.items():
        path = out / f"{split}.json" if split else out
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, data)
        joints = data["categories"][0]["keypoints"]
        _say(
            f"{len(data['annotations'])} persons of {len(joints)} joints in {len(data['images'])} "
            f"images, written to {path.absolute()}; check them with `kdpose doctor "
            f"annotations={path} images=FOLDER`"
        )


def _say(line: str) -> None:
    console.print(line, soft_wrap=True, highlight=False)


if __name__ == "__main__":
    main()

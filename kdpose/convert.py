"""Write COCO-keypoints files: ``python -m kdpose.convert from=yolo source=labels out=A.json``."""

import json
from pathlib import Path

from omegaconf import DictConfig

from kdpose.cli import console, entry_point
from kdpose.formats import coco, cvat, labelme, lsp, mpii, yolo
from kdpose.skeletons.files import named_skeleton

READERS = {
    "mpii": mpii.read,
    "lsp": lsp.read,
    "yolo": yolo.read,
    "labelme": labelme.read,
    "cvat": cvat.read,
    "crowdpose": coco.read,
    "coco": coco.read,
}


@entry_point("convert")
def main(cfg: DictConfig) -> None:
    """Entry point."""
    if cfg["from"] not in READERS:
        raise ValueError(f"from must be one of {', '.join(READERS)}, got {cfg['from']}")
    skeleton = named_skeleton(cfg.skeleton) if cfg.skeleton else None
    images = Path(cfg.images) if cfg.images else None
    data = READERS[cfg["from"]](Path(cfg.source), images, skeleton)
    out = Path(cfg.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(data))
    joints = data["categories"][0]["keypoints"]
    console.print(
        f"{len(data['annotations'])} persons of {len(joints)} joints in {len(data['images'])} "
        f"images, written to {out.absolute()}; look them over by `python -m kdpose.doctor "
        f"annotations={out} images=FOLDER`",
        soft_wrap=True,
        highlight=False,
    )


if __name__ == "__main__":
    main()

"""Write a data set's person crops once: ``kdpose pack +experiment=coco_stage1``.

Training then reads crops instead of whole photographs (``data.pack=auto``).
"""

from omegaconf import DictConfig, ListConfig

from kdpose.cli import console, entry_point
from kdpose.runtime.files import check_file


@entry_point("pack")
def main(cfg: DictConfig) -> None:
    """Entry point."""
    if cfg.split not in ("train", "val"):
        raise ValueError(f"split must be train or val, got {cfg.split}")
    if isinstance(cfg.dataset[cfg.split], ListConfig):
        raise ValueError(
            f"dataset.{cfg.split} lists several sets, which training reads from image files; a "
            f"pack has one: dataset=custom dataset.{cfg.split}.annotations=A.json, with its images"
        )
    check_file(cfg.dataset[cfg.split].annotations, f"dataset.{cfg.split}.annotations")
    from kdpose.data.sources.packing import pack_split

    pack = pack_split(cfg)
    unreadable = pack.about.get("unreadable", 0)
    lost = f"; the images of {unreadable} persons cannot be read" if unreadable else ""
    stored = (pack.folder / "pixels.bin").stat().st_size
    console.print(
        f"{len(pack)} persons, {stored / 1e6:.1f} MB ({stored / len(pack) / 1e3:.1f} kB each; "
        f"{pack.raw_bytes / 1e6:.1f} MB as pixels), {100 * pack.about['reduced']:.0f} % of them "
        f"scaled down, in {pack.folder}{lost}",
        soft_wrap=True,
    )
    if cfg.shards:
        from kdpose.data.sources.streamed import write_shards  # an extra

        cut = write_shards(cfg.shards, pack, int(1e6 * cfg.shard_mb))
        console.print(f"{len(list(cut.glob('*.bin')))} shards in {cut}")


if __name__ == "__main__":
    main()

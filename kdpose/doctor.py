"""Check annotated images: ``kdpose doctor annotations=A.json images=DIR``.

Exits with status 0 without errors, 1 with errors, and 2 if the data cannot be used for training.
"""

import json
import sys
from pathlib import Path

from omegaconf import DictConfig

from kdpose.cli import console, entry_point
from kdpose.runtime.files import check_checkpoint


@entry_point("doctor")
def main(cfg: DictConfig) -> None:
    """Entry point."""
    if cfg.ckpt:
        check_checkpoint(cfg.ckpt, "ckpt")
    from kdpose.checks.doctor import counts, examine, report, summary, table
    from kdpose.checks.findings import exit_code

    found = examine(cfg)
    if found.findings:
        console.print(table(found.findings))
    for line in counts(cfg, found):
        console.print(line, highlight=False, soft_wrap=True)
    console.print(summary(found), highlight=False)
    if cfg.json:
        out = Path(cfg.json)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(report(found), indent=2))
        console.print(f"written to {out.absolute()}", soft_wrap=True)
    if code := exit_code(found.findings):
        sys.exit(code)


if __name__ == "__main__":
    main()

"""What an export says of its file, as tables."""

from collections.abc import Sequence

from rich import box
from rich.table import Table

from kdpose.deploy.parity import Parity
from kdpose.deploy.sensitivity import Cost


def group_table(costs: dict[str, Cost], in_float: Sequence[str]) -> Table:
    """What each layer group costs alone in integers."""
    title = "int8 on the calibration's persons, one layer group at a time"
    table = Table(title=title, box=box.SIMPLE)
    table.add_column("layer group")
    for name in ("AP lost", "mean move, px", "5 % move by"):
        table.add_column(name, justify="right")
    table.add_column("kept in")
    for group, cost in costs.items():
        kept = "float32" if group in in_float else "int8"
        lost = "-" if cost.ap is None else f"{cost.ap:.2f}"
        table.add_row(group, lost, f"{cost.px:.3f}", f"{cost.share:.1%}", kept)
    return table


def parity_table(name: str, parity: Parity, times: dict[int, dict[str, float]]) -> Table:
    """The file against PyTorch, one line each."""
    table = Table(title=f"{name} on {parity.persons} persons", box=box.SIMPLE, show_header=False)
    table.add_row(
        f"distance of {parity.drawn} drawn joints: median, 95th percentile",
        f"{parity.median_px:.4f}, {parity.p95_px:.4f} px ({parity.p95_share:.2%} of the person)",
    )
    table.add_row(f"largest of {parity.joints} joints", f"{parity.max_px:.4f} px")
    if parity.ties:
        table.add_row(
            "near-tied joints, not in the largest",
            f"{parity.ties}; {parity.ties_moved} moved, by {parity.ties_px:.4f} px at most",
        )
    if parity.ap_torch is not None:
        table.add_row("AP: PyTorch, file", f"{parity.ap_torch:.2f}, {parity.ap_file:.2f}")
    for batch, t in times.items():
        table.add_row(
            f"latency at batch {batch}: PyTorch, file",
            f"{t['torch_ms']:.2f}, {t['file_ms']:.2f} ms a crop: {t['speedup']:.2f}x "
            f"[{t['speedup_min']:.2f}-{t['speedup_max']:.2f}]",
        )
    return table

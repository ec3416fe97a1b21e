"""A scan to an avatar: GLB, sheet and report.

    python examples/01_scan_to_avatar.py scan.ply avatar.glb

Without a scan, a synthetic person is drawn and seen by a simulated depth camera, as in `omote demo`.
"""

import sys
from pathlib import Path

import omote
from omote.api import AvatarOutputs
from omote.datasets.demo_frame import sensed_frame
from omote.head.shipped import shipped_head


def main(scan: str | None = None, out: str = "avatar.glb") -> None:
    """Make the avatar of a scan and print the estimates."""
    result = omote.avatar(scan if scan is not None else sensed_frame(0, shipped_head()))
    glb = Path(out)
    outputs = AvatarOutputs(glb=glb, sheet=glb.with_suffix(".png"), report=glb.with_suffix(".json"))
    result.save_all(outputs.checked())
    print(f"{out}: fit {result.facts['fit/median_mm']:.2f} mm median, {len(result.avatar.morphs_mm)} morph targets")


if __name__ == "__main__":
    main(*sys.argv[1:])

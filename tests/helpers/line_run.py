"""Trains a line with 64 slopes on two processes of one CPU; run by `two_processes`.

Accelerate divides weights on GPUs alone. For "sharded" its state is told that this is such a launch; everything after that is
the engine's and accelerate's own path, over gloo.
"""

import os
import sys
from pathlib import Path

from accelerate import DistributedType, FullyShardedDataParallelPlugin

from line_task import LineTask, config, run_to_end
from omote.engine import loop as engine
from omote.engine.loop import leave_group


def settings(total, **other):
    """Settings with reports at whole multiples of the lengths of the runs."""
    return config(total=total, cooldown=0.0, checkpoint_s=0.02, log_images=24, **other)


def main(kind, run, accumulation, stops):
    """A run that saves all the time; it is ended at each of ``stops`` and resumed from its folder."""
    made = engine.Accelerator

    def prepared(**options):
        if kind == "sharded":
            plugin = FullyShardedDataParallelPlugin(fsdp_version=2, cpu_ram_efficient_loading=False)
            accelerator = made(**options, fsdp_plugin=plugin)
            accelerator.state.distributed_type = DistributedType.FSDP
            accelerator.state.fsdp_plugin = plugin
        else:
            accelerator = made(**options)
        assert accelerator.num_processes == 2
        assert accelerator.is_fsdp2 == (kind == "sharded")
        return accelerator

    engine.Accelerator = prepared
    for total in stops:
        run_to_end(LineTask(width=64), settings(total, accumulation=accumulation), run)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), [int(stop) for stop in sys.argv[4:]])
    leave_group()
    # What is tested is the trace; tearing the interpreter down with gloo's threads has aborted once in thousands of runs.
    sys.stdout.flush()
    os._exit(0)

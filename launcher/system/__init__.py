"""The machine under a run: processes, network interfaces, SLURM's commands."""

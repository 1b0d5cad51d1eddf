"""Who executes a rule: torch.distributed workers, or n virtual workers in one process."""

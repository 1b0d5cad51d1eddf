"""Point-to-point messages of torch.distributed."""

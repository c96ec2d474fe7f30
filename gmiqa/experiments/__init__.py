"""What the notebooks compare and measure beyond a training."""

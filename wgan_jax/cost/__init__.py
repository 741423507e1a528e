"""What a training step costs, on this machine or on a pod."""

"""The dry run: a model's real networks on tensors without data, watched for what they need."""

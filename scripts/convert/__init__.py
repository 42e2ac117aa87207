"""Checkpoint to float ONNX, float ONNX to one folder per precision."""

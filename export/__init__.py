"""From a run to a bundle: architectures as PyTorch modules, ONNX, parity."""

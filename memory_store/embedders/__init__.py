"""Ways to turn texts into vectors: ONNX in this process, an endpoint, or hashing."""

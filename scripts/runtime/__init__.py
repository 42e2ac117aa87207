"""The runtimes that serve: the adapters around foundry-local-sdk and onnxruntime-genai."""

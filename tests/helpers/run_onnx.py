"""An ONNX file and images -> logits: by ONNX Runtime, as its users do, or by onnx's own implementation elsewhere."""

import sys

import onnx
from onnx.reference import ReferenceEvaluator

HAS_RUNTIME = sys.platform == "linux" and sys.version_info < (3, 15)  # as in pyproject.toml


def run_onnx(path, images):
    """Logits of float32 images (b, c, h, w)."""
    if HAS_RUNTIME:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    else:
        session = ReferenceEvaluator(onnx.load(str(path)))
    return session.run(["logits"], {"images": images})[0]

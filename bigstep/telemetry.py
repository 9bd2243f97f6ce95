"""To be imported before onnxruntime, which reads at its import whether it may write a device id and report its use."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

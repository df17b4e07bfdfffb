"""A survival model in other tools' formats; every export is checked against the model before anybody gets it.

| module   | format                                           | needs                    |
|----------|--------------------------------------------------|--------------------------|
| `onnx`   | ONNX graph: hazards, risk, survival              | onnx, onnxruntime        |
| `pycox`  | `pycox.models.PCHazard`, or its net as one file  | pycox                    |
| `mlflow` | MLflow model directory, read by our own loader   | nothing; `onnx` if asked |

The packages are the extra `interop` and are imported when they are asked for. Generators have their own:
`models.generators.bayesnet.to_pgmpy`, `to_bif`, `models.generators.ctgan.to_ctgan`.
"""

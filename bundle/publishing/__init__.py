"""Verify, pack and export the bundle.

`verify`, `pack` and `export` are the commands.

| module                    | content                                                    |
|---------------------------|------------------------------------------------------------|
| `rules`                   | the rules of `verify`                                      |
| `layout`                  | files of the published zip file                            |
| `bioimageio`, `mirrored`  | model packages for bioimage.io; their network              |
| `exporters`, `quantizing` | write ONNX, TorchScript, pt2, TensorRT; write ONNX in int8 |
"""

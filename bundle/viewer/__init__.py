"""The napari plugin: segment open layers, and train on layers or folders, without leaving the viewer.

| module         | content                                                             |
|----------------|---------------------------------------------------------------------|
| `segment`      | the widget Segment                                                  |
| `train`        | the widget Train                                                    |
| `form`         | parts of both widgets' forms                                        |
| `layers`       | planes, channels and pixel size of a layer; places of results       |
| `scoring`      | scores of planes, objects in scores, the table of objects           |
| `training_set` | images and labels of open layers as files, for a training           |
| `weights`      | the list of weights of both widgets                                 |
| `sample`       | sample data                                                         |

`napari.yaml` is the manifest. `pip install "original-unet[napari]"` brings napari.
"""

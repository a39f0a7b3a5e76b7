"""Let only known requests through to MONAI Label.

`allowed` is the table of requests, `keys` describes their keys. `asgi` stands in front of MONAI Label's app. The server
starts `served`, which joins both. `bundle.labelling.label_folder` copies this package into the app's folder,
where MONAI Label's environment imports it: nothing here may import from this project.
"""

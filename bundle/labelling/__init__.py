"""Serve the bundle with MONAI Label.

`label` is the command. `label_folder` prepares the server's folder. `label_app` is the app that the server runs.
"""

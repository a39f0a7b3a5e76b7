"""Compare with nnU-Net, StarDist, Cellpose and MONAI's BasicUNet. Run `python -m benchmarks.peers`.

Every program has a module, started as `python -m benchmarks.peers.<name> job.json` in the program's environment. The
modules import only `benchmarks.peers.job` of this project. The exception is `write_up`, a recipe without a package.
"""

"""Starts, watches and stops everything Whetstone is made of; `python -m launch --help` lists what it can do.

`make run` is `python -m launch run`. Nothing here imports Django or torch at its top: what needs them
runs as a process of its own.
"""

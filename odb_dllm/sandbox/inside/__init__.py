"""What runs on the far side of the sandbox: started as a program of its own, never imported by an evaluation.

Standard library alone, and no module of it from the rest of the project: ``warden`` is started by a bare
interpreter that finds only this package.
"""

"""The web edge: identity, origins, headers and the route allow-list around the mounted user interface.

Nothing is imported here, so that the start of the app can check its settings before the heavy libraries load.
"""

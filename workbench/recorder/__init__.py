"""Recorder: calls of a program to models, recorded while it runs, by a proxy on loopback."""

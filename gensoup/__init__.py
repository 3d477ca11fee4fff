"""GenSoup: from labelled endoscopy images and a target device to a model proven to keep up with it."""

__version__ = "0.1.0"

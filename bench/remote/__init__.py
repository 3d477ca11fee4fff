"""Measuring on a device that is reached over ssh (extra ``remote``)."""

"""Measuring: labelled folders, accuracy metrics, device profile and the real-time gate. Never imports torch."""

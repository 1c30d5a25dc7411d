"""Recurrent networks, written with minigrad."""

"""Optimisers, gradient clipping, and schedules of the learning rate."""

from .clipping import clip_grad_norm, clip_grad_value, global_norm
from .optimisers import SGD, Adagrad, Adam, AdamW, Optimiser, RMSprop
from .schedules import CosineLR, ExponentialLR, PlateauLR, Schedule, StepLR

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "CosineLR", "ExponentialLR", "Optimiser", "PlateauLR",
           "RMSprop", "Schedule", "StepLR", "clip_grad_norm", "clip_grad_value", "global_norm"]

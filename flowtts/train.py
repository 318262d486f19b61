"""Training: one loop for every recipe, on one device or on many machines with the same command.

The recipe brings a network with a ``loss``, the data brings batches that are functions of their index, and
``accelerate launch`` brings the processes. The loop adds a schedule, an average of the weights, checkpoints,
and a record of what happened; it knows nothing of speech.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from flowtts import checkpoint, train_state
from flowtts.checkpoint import Card
from flowtts.compat import require
from flowtts.ema import EMA
from flowtts.process import Processes, Stopper, fork_random, prefetch, threads
from flowtts.train_log import RunLog
from flowtts.train_state import Position
from flowtts.types import PathLike, Trainable, UserError

logger = logging.getLogger(__name__)

"""``flowtts evaluate``: judge recordings by metrics."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from flowtts.commands.options import Device, Json, VocoderName, existing_file, output_file
from flowtts.commands.terminal import Misuse, terminal

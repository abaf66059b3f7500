"""From tiles to embeddings: backbones, autoencoders, training; pixels in, arrays out, no geography."""

import os

# Threads that spin while they wait for each other slow everything down on machines that are busy with something else.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from geoanom.embed.memory import return_freed_memory

return_freed_memory()

"""From tiles to embeddings: backbones, autoencoders, training; tensors in, arrays out, no geography."""

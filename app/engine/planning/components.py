"""Names of a model's components in plans."""

TEXT_ENCODER = "text_encoder"
TRANSFORMER = "transformer"
AUTOENCODER = "autoencoder"
COMPONENTS = (TEXT_ENCODER, TRANSFORMER, AUTOENCODER)

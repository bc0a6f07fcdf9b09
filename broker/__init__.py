"""Remote Python objects over gRPC."""

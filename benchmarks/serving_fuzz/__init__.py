"""Wrong and hostile requests to a real endpoint: generated from its OpenAPI document, and mutated bytes."""

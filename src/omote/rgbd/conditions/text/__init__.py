"""Text as a condition: captions to train on, frozen encoders, and the conditioner that makes tokens of them."""

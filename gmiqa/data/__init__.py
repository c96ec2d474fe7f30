"""Pictures: decoding, distortions, data sets, synthetic pools, the embedded ones."""
